import test from 'ava';
import { embeddedWorld } from '../helpers/receiver-worlds.js';
import { receiverConformance } from './receiver.js';
import { receiverRefusals } from './receiver-refusals.js';

receiverConformance(test, embeddedWorld);
receiverRefusals(test, embeddedWorld);
