import test from 'ava';
import { inTurns, RECEIVERS_AT_ONCE } from '../helpers/in-turns.js';
import { dialledWorld } from '../helpers/worlds/receiver-worlds.js';
import { groupRunsConformance } from './group-runs.js';
import { groupsConformance } from './groups.js';
import { ordersConformance } from './orders.js';
import { partialSetsConformance } from './partial-sets.js';
import { receiverCheck } from './receiver/check.js';
import { receiverDiff } from './receiver/diff.js';
import { journalsConformance } from './receiver/journals.js';
import { receiverRefusals } from './receiver/refusals.js';
import { receiverConformance } from './receiver.js';

const tests = inTurns(test, RECEIVERS_AT_ONCE);

receiverConformance(tests, dialledWorld);
groupsConformance(tests, dialledWorld);
groupRunsConformance(tests, dialledWorld);
ordersConformance(tests, dialledWorld);
receiverRefusals(tests, dialledWorld);
receiverDiff(tests, dialledWorld);
journalsConformance(tests, dialledWorld);
receiverCheck(tests, dialledWorld);
partialSetsConformance(tests, dialledWorld);
