import test from 'ava';
import { embeddedWorld } from '../helpers/worlds/receiver-worlds.js';
import { ordersConformance } from './orders.js';
import { partialSetsConformance } from './partial-sets.js';
import { patchConformance } from './patches.js';
import { receiverConformance } from './receiver.js';
import { receiverCheck } from './receiver-check.js';
import { receiverCompare } from './receiver-compare.js';
import { receiverDiff } from './receiver-diff.js';
import { receiverRefusals } from './receiver-refusals.js';

receiverConformance(test, embeddedWorld);
patchConformance(test, embeddedWorld);
ordersConformance(test, embeddedWorld);
receiverRefusals(test, embeddedWorld);
receiverDiff(test, embeddedWorld);
receiverCheck(test, embeddedWorld);
partialSetsConformance(test, embeddedWorld);
receiverCompare(test, embeddedWorld);
