import test from 'ava';
import { httpWorld } from '../helpers/receiver-worlds.js';
import { receiverConformance } from './receiver.js';
import { receiverRefusals } from './receiver-refusals.js';

receiverConformance(test, httpWorld);
receiverRefusals(test, httpWorld);
