import test from 'ava';
import { inTurns, RECEIVERS_AT_ONCE } from '../helpers/in-turns.js';
import { embeddedWorld } from '../helpers/worlds/receiver-worlds.js';
import { groupRunsConformance } from './group-runs.js';
import { groupsConformance } from './groups.js';
import { ordersConformance } from './orders.js';
import { partialSetsConformance } from './partial-sets.js';
import { passesConformance } from './passes.js';
import { patchConformance } from './patches.js';
import { receiverCheck } from './receiver/check.js';
import { receiverCompare } from './receiver/compare.js';
import { receiverDiff } from './receiver/diff.js';
import { receiverRefusals } from './receiver/refusals.js';
import { receiverConformance } from './receiver.js';

const tests = inTurns(test, RECEIVERS_AT_ONCE);

receiverConformance(tests, embeddedWorld);
passesConformance(tests, embeddedWorld);
patchConformance(tests, embeddedWorld);
groupsConformance(tests, embeddedWorld);
groupRunsConformance(tests, embeddedWorld);
ordersConformance(tests, embeddedWorld);
receiverRefusals(tests, embeddedWorld);
receiverDiff(tests, embeddedWorld);
receiverCheck(tests, embeddedWorld);
partialSetsConformance(tests, embeddedWorld);
receiverCompare(tests, embeddedWorld);
