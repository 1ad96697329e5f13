import test from 'ava';
import { dialledWorld } from '../helpers/worlds/receiver-worlds.js';
import { ordersConformance } from './orders.js';
import { partialSetsConformance } from './partial-sets.js';
import { receiverCheck } from './receiver/check.js';
import { receiverDiff } from './receiver/diff.js';
import { receiverRefusals } from './receiver/refusals.js';
import { receiverConformance } from './receiver.js';

receiverConformance(test, dialledWorld);
ordersConformance(test, dialledWorld);
receiverRefusals(test, dialledWorld);
receiverDiff(test, dialledWorld);
receiverCheck(test, dialledWorld);
partialSetsConformance(test, dialledWorld);
