/** What a round is for, by what was chosen and what there is. */
import test from 'ava';
import { faultOfMembers, parseMember, type ReceiverGroup } from '../../../src/domain/order/receiver-group.js';
import { newRound, summarize } from '../../../src/domain/order/round.js';
import {
  agentsOfPlan,
  planRound,
  type RoundChoice,
  reaches,
} from '../../../src/domain/order/round-choice.js';

const group = (name: string, ...members: string[]): ReceiverGroup => ({
  ...{ name, missing: 'fail', members: members.map(parseMember) },
});
const DB = group('db', 'a/data', 'b/log');
const APP = group('app', 'c/app');
const known = { agents: ['a', 'b', 'c'], groups: [DB, APP] };

const CHOICES: readonly (readonly [RoundChoice, alone: string[], groups: string[], awaited: string[]])[] = [
  [{ agents: null, groups: null }, ['a', 'b', 'c'], ['db', 'app'], ['a', 'b', 'c']],
  [{ agents: ['a', 'x'], groups: null }, ['a', 'x'], [], ['a', 'x']],
  [{ agents: null, groups: ['db'] }, [], ['db'], ['a', 'b']],
  [{ agents: ['c'], groups: ['db'] }, ['c'], ['db'], ['a', 'b', 'c']],
];

for (const [choice, alone, groups, awaited] of CHOICES)
  test(`agents ${choice.agents}, groups ${choice.groups}`, (t) => {
    const plan = planRound(choice, known);
    t.deepEqual([...plan.agents.keys()], alone);
    t.deepEqual(
      plan.groups.map(({ name }) => name),
      groups,
    );
    t.is(plan.members.has('a/data'), groups.includes('db'), 'alone only without its group');
    t.is(plan.members.has('c/app'), groups.includes('app'));
    t.deepEqual(agentsOfPlan(plan), awaited);
    for (const agent of known.agents) t.is(reaches(choice, known.groups, agent), awaited.includes(agent));
  });

test('a group that is not there is skipped by its name, and gone back to', (t) => {
  const choice = { agents: null, groups: ['db', 'old'] };
  const plan = planRound(choice, known);
  t.deepEqual(plan.unknown, ['old']);
  const { items } = summarize(newRound(plan, { parallel: 1, waitMs: 0, nowMs: 0 }), 0);
  t.like(items, [{ group: 'old', state: 'skipped', reason: 'the receiver has no group of this name' }]);
  const left = { agents: new Map(), groups: new Set(['old']) };
  t.like(planRound(choice, known, left), { groups: [], unknown: ['old'] });
});

test('members are AGENT/DEVICE, each once, and none has the name of the group', (t) => {
  t.deepEqual(parseMember('a/data'), { agent: 'a', device: 'data' });
  t.throws(() => parseMember('data'), { message: /Write AGENT\/data/ });
  t.throws(() => parseMember('a/b/c'));
  t.is(faultOfMembers(DB), null);
  t.like(faultOfMembers(group('db', 'a/db')), { reason: 'a/db has the name of the group' });
  t.like(faultOfMembers(group('db', 'a/x', 'b/x', 'a/x')), { reason: 'a/x is named twice' });
  const many = Array.from({ length: 33 }, (_, at) => `a/d${at}`);
  t.like(faultOfMembers(group('db', ...many)), { reason: 'it has 33 members, and 32 is the limit' });
});
