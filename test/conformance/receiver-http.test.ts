import test from 'ava';
import { httpWorld } from '../helpers/worlds/receiver-worlds.js';
import { ordersConformance } from './orders.js';
import { partialSetsConformance } from './partial-sets.js';
import { patchConformance } from './patches.js';
import { receiverConformance } from './receiver.js';
import { receiverCheck } from './receiver-check.js';
import { receiverCompare } from './receiver-compare.js';
import { receiverDiff } from './receiver-diff.js';
import { receiverRefusals } from './receiver-refusals.js';

receiverConformance(test, httpWorld);
patchConformance(test, httpWorld);
ordersConformance(test, httpWorld);
receiverRefusals(test, httpWorld);
receiverDiff(test, httpWorld);
receiverCheck(test, httpWorld);
partialSetsConformance(test, httpWorld);
receiverCompare(test, httpWorld);
