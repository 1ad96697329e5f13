import test from 'ava';
import { dialledWorld } from '../helpers/receiver-worlds.js';
import { ordersConformance } from './orders.js';
import { receiverConformance } from './receiver.js';
import { receiverRefusals } from './receiver-refusals.js';

receiverConformance(test, dialledWorld);
ordersConformance(test, dialledWorld);
receiverRefusals(test, dialledWorld);
