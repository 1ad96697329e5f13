import test from 'ava';
import { inTurns, RECEIVERS_AT_ONCE } from '../helpers/in-turns.js';
import { httpWorld } from '../helpers/worlds/receiver-worlds.js';
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

receiverConformance(tests, httpWorld);
passesConformance(tests, httpWorld);
patchConformance(tests, httpWorld);
groupsConformance(tests, httpWorld);
groupRunsConformance(tests, httpWorld);
ordersConformance(tests, httpWorld);
receiverRefusals(tests, httpWorld);
receiverDiff(tests, httpWorld);
receiverCheck(tests, httpWorld);
partialSetsConformance(tests, httpWorld);
receiverCompare(tests, httpWorld);
