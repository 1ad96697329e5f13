import test from 'ava';
import fc from 'fast-check';
import { ROUND_ITEMS_KEPT } from '../../../src/domain/base/limits.js';
import { memberName, parseMember, type ReceiverGroup } from '../../../src/domain/order/receiver-group.js';
import {
  agentSeen,
  beginNext,
  giveUpUnseen,
  isOver,
  itemEnded,
  itemName,
  newRound,
  type Round,
  type RoundItem,
  stopRound,
  summarize,
  toRetry,
  withRetried,
} from '../../../src/domain/order/round.js';
import { planRound } from '../../../src/domain/order/round-choice.js';

const of = (agent: string, device: string) => ({ agent, device, group: null });
const ofGroup = (group: string) => ({ agent: null, device: null, group });

const begin = (agents: readonly string[], parallel: number, groups: readonly ReceiverGroup[] = []): Round =>
  newRound(planRound({ agents, groups: groups.map(({ name }) => name) }, { agents, groups }), {
    ...{ parallel, waitMs: 1000, nowMs: 0 },
  });

const group = (name: string, members: string, missing: ReceiverGroup['missing'] = 'fail'): ReceiverGroup => ({
  ...{ name, missing, members: members.split(' ').map(parseMember) },
});

test('agents that are there are not kept waiting by those that are not', (t) => {
  let round = agentSeen(begin(['a', 'b', 'c'], 1), 'b', ['y', 'x']);
  const first = beginNext(round);
  t.deepEqual(
    first.begun.map(({ agent, device }) => [agent, device]),
    [['b', 'x']],
  );
  t.deepEqual(beginNext(first.round).begun, [], 'one at a time');
  round = itemEnded(first.round, of('b', 'x'), { state: 'done', point: 'x@1', wireBytes: 7 });
  const second = beginNext(round);
  round = itemEnded(second.round, of('b', 'y'), { state: 'failed', reason: 'it is on fire' });
  t.false(isOver(round));
  t.is(
    giveUpUnseen(round, 999, () => 'gone'),
    round,
  );
  round = giveUpUnseen(round, 1000, (agent) => `${agent} is gone`);
  t.true(isOver(round));
  const summary = summarize(round, 2000);
  t.like(summary, { done: 1, failed: 1, skipped: 2, wireBytes: 7, durationMs: 2000 });
  t.deepEqual(
    summary.items.map(({ agent, device, state, reason }) => [agent, device, state, reason]),
    [
      ['b', 'y', 'failed', 'it is on fire'],
      ['a', null, 'skipped', 'a is gone'],
      ['c', null, 'skipped', 'c is gone'],
      ['b', 'x', 'done', null],
    ],
  );
});

test('an agent that is gone takes along what it has not begun', (t) => {
  let { round } = beginNext(agentSeen(begin(['a'], 1), 'a', ['x', 'y']));
  round = itemEnded(round, of('a', 'x'), { state: 'skipped', reason: 'gone' });
  t.true(isOver(round));
  t.like(summarize(round, 1), { skipped: 2 });
});

test('an agent that offers nothing is said', (t) => {
  t.like(summarize(agentSeen(begin(['a'], 1), 'a', []), 1), { skipped: 1 });
});

test('a summary is bounded, and what went wrong is kept', (t) => {
  const devices = Array.from({ length: ROUND_ITEMS_KEPT + 10 }, (_, i) => `d${i}`);
  let { round } = beginNext(agentSeen(begin(['a'], devices.length), 'a', devices));
  for (const device of devices) {
    round = itemEnded(round, of('a', device), { state: device === 'd399' ? 'failed' : 'done' });
  }
  const { items, done } = summarize(round, 1);
  t.is(done, devices.length - 1);
  t.is(items.length, ROUND_ITEMS_KEPT);
  t.like(items[0], { device: 'd399', state: 'failed' });
});

/** Each agent has d0, d1, d2; groups have members of several agents, and may share them. */
const groupsOfAny = fc
  .array(
    fc.record({
      members: fc.uniqueArray(fc.tuple(fc.constantFrom('a', 'b', 'c', 'd', 'e', 'f'), fc.nat(3)), {
        ...{ minLength: 1, maxLength: 4, selector: ([agent, device]) => `${agent}${device}` },
      }),
      missing: fc.constantFrom('fail' as const, 'leave-out' as const),
    }),
    { maxLength: 3 },
  )
  .map((all) =>
    all.map(({ members, missing }, at) =>
      group(`g${at}`, members.map(([agent, device]) => `${agent}/d${device}`).join(' '), missing),
    ),
  );

test('any round: never more at once than asked for, each device once, and it comes to its end', (t) => {
  const agents = fc.dictionary(
    fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    fc.oneof(fc.constant(null), fc.uniqueArray(fc.constantFrom('d0', 'd1', 'd2'))),
  );
  const outcomes = fc.infiniteStream(fc.constantFrom('done', 'failed', 'skipped'));
  const choices = fc.infiniteStream(fc.nat());
  fc.assert(
    fc.property(
      agents,
      groupsOfAny,
      fc.integer({ min: 1, max: 4 }),
      outcomes,
      choices,
      fc.option(fc.nat(8)),
      (...args) => {
        const [offers, groups, parallel, ends, chosen, stopAfter] = args;
        const names = Object.keys(offers);
        const later = names.filter((name) => offers[name] !== null);
        let round = begin(names, parallel, groups);
        const seen = new Set<string>();
        const devicesOf = ({ agent, device, group: name }: RoundItem) =>
          groups.find((each) => each.name === name)?.members.map(memberName) ?? [`${agent}/${device}`];
        let nowMs = 0;
        for (let steps = 0; !isOver(round) && steps < 100; steps += 1) {
          const next = beginNext(round);
          round = next.round;
          for (const item of next.begun) {
            t.false(seen.has(itemName(item)));
            seen.add(itemName(item));
          }
          const running = round.items.filter(({ state }) => state === 'running');
          t.true(running.length <= parallel);
          const inGroups = running.filter((item) => item.group !== null).flatMap(devicesOf);
          const hosts = inGroups.map((name) => name.split('/')[0]);
          for (const { agent } of running)
            t.false(hosts.includes(agent ?? ''), 'a group has its agents alone');
          t.is(new Set(inGroups).size, inGroups.length);
          const ended = running[(chosen.next().value ?? 0) % Math.max(1, running.length)];
          const arriving = later.shift();
          if (steps === stopAfter) round = stopRound(round, 'stopped');
          else if (arriving !== undefined) round = agentSeen(round, arriving, offers[arriving] ?? []);
          else {
            nowMs += 1000;
            round = giveUpUnseen(round, nowMs, () => 'gone');
          }
          if (ended !== undefined) round = itemEnded(round, ended, { state: ends.next().value ?? 'done' });
        }
        t.true(isOver(round));
        const { done, failed, skipped, items } = summarize(round, nowMs);
        t.is(done + failed + skipped, items.length);
        const reported = items.flatMap((item) => [item.agent, item.group, ...devicesOf(item)]);
        for (const name of names) {
          const isInGroups = offers[name]?.every((device) => reported.includes(`${name}/${device}`));
          t.true(isInGroups || reported.includes(name), `${name} is in the summary`);
        }
        for (const { name, members } of groups) {
          t.is(items.filter((item) => item.group === name).length, 1);
          const alone = items
            .filter((item) => item.device !== null && item.group === null)
            .flatMap(devicesOf);
          for (const member of members) t.false(alone.includes(memberName(member)));
        }
      },
    ),
  );
});

test('what failed without an item of its own is still failed after going back to the others', (t) => {
  const devices = Array.from({ length: ROUND_ITEMS_KEPT + 50 }, (_, i) => `d${i}`);
  let round = beginNext(agentSeen(begin(['a'], devices.length + 2), 'a', [...devices, 'good', 'fine'])).round;
  for (const device of devices) round = itemEnded(round, of('a', device), { state: 'failed', reason: 'no' });
  for (const device of ['good', 'fine']) round = itemEnded(round, of('a', device), { state: 'done' });
  const first = summarize(round, 1);
  const left = toRetry(first);
  const plan = planRound({ agents: ['a'], groups: null }, { agents: ['a'], groups: [] }, left);
  let retry = newRound(plan, { parallel: devices.length, waitMs: 1000, nowMs: 0 });
  retry = beginNext(agentSeen(retry, 'a', devices)).round;
  t.is(retry.items.length, ROUND_ITEMS_KEPT);
  const [one, ...others] = retry.items;
  retry = itemEnded(retry, of('a', one?.device ?? ''), { state: 'failed', reason: 'again' });
  for (const { device } of others) retry = itemEnded(retry, of('a', device ?? ''), { state: 'done' });
  const whole = withRetried(first, summarize(retry, 1));
  t.like(whole, { done: 2 + ROUND_ITEMS_KEPT - 1, failed: 50 + 1, skipped: 0 });
});

const seenAll = (round: Round, agents: readonly string[], offered: readonly string[]): Round =>
  agents.reduce((next, agent) => agentSeen(next, agent, offered), round);
const namesOf = (items: readonly RoundItem[]) => items.map(itemName);

test('a group begins when all its agents are there and free, before their other devices', (t) => {
  const db = group('db', 'a/data b/log');
  const early = beginNext(agentSeen(begin(['a', 'b', 'c'], 3, [db]), 'a', ['data', 'x', 'y']));
  t.deepEqual(namesOf(early.begun), ['a x', 'a y'], 'b is not there; data has its group');
  let round = seenAll(early.round, ['b', 'c'], ['log', 'z']);
  const between = beginNext(round);
  t.deepEqual(namesOf(between.begun), ['c log'], 'b is kept free, and c has no part in it');
  round = itemEnded(between.round, of('a', 'x'), { state: 'done' });
  t.deepEqual(namesOf(beginNext(round).begun), ['c z']);
  round = itemEnded(beginNext(round).round, of('a', 'y'), { state: 'done' });
  const third = beginNext(round);
  t.deepEqual(namesOf(third.begun), ['group db']);
  round = itemEnded(third.round, of('c', 'log'), { state: 'done' });
  t.deepEqual(namesOf(beginNext(round).begun), [], 'nothing else of b meanwhile');
  round = itemEnded(round, ofGroup('db'), { state: 'done', point: 'db@1', wireBytes: 5 });
  const last = beginNext(round);
  t.deepEqual(namesOf(last.begun), ['b z']);
  round = itemEnded(itemEnded(last.round, of('b', 'z'), { state: 'done' }), of('c', 'z'), { state: 'done' });
  t.true(isOver(round));
  t.like(summarize(round, 1), { done: 6, wireBytes: 5 });
});

test('groups that share an agent run one after the other, others at once; each counts as one', (t) => {
  const groups = [group('g', 'a/x b/x'), group('h', 'b/y c/y'), group('i', 'd/x e/x f/x')];
  const agents = ['a', 'b', 'c', 'd', 'e', 'f'];
  let round = seenAll(begin([], 2, groups), agents, ['x', 'y']);
  const first = beginNext(round);
  t.deepEqual(namesOf(first.begun), ['group g', 'group i']);
  round = itemEnded(first.round, ofGroup('i'), { state: 'failed', reason: 'no' });
  t.deepEqual(namesOf(beginNext(round).begun), []);
  const second = beginNext(itemEnded(round, ofGroup('g'), { state: 'done' }));
  t.deepEqual(namesOf(second.begun), ['group h']);
  t.true(isOver(itemEnded(second.round, ofGroup('h'), { state: 'done' })));
});

test('an agent that does not come: its group is skipped by its name, or begins without it', (t) => {
  const groups = [
    group('firm', 'a/x b/x c/x'),
    group('loose', 'a/y b/y', 'leave-out'),
    group('gone', 'b/z c/z', 'leave-out'),
  ];
  let round = agentSeen(begin([], 3, groups), 'a', ['x', 'y', 'z']);
  t.deepEqual(beginNext(round).begun, []);
  round = giveUpUnseen(round, 1000, (agent) => `${agent} is away`);
  t.deepEqual(round.absent, ['b', 'c']);
  const { begun } = beginNext(round);
  t.deepEqual(namesOf(begun), ['group loose']);
  round = itemEnded(beginNext(round).round, ofGroup('loose'), { state: 'done', warningCount: 1 });
  t.true(isOver(round), 'nobody of "gone" is there; b and c were awaited for groups alone');
  const { items, ...figures } = summarize(round, 1);
  t.like(figures, { done: 1, skipped: 2, failed: 0, withWarnings: 1 });
  const why = 'agent b: b is away; agent c: c is away';
  t.deepEqual(
    items.map((item) => [itemName(item), item.reason]),
    [
      ['group firm', why],
      ['group gone', why],
      ['group loose', null],
    ],
  );
});

test('a round goes back to a group that failed, and not to its members alone', (t) => {
  const groups = [group('db', 'a/data b/log'), group('app', 'a/app b/app')];
  const known = { agents: ['a', 'b'], groups };
  const all = { agents: null, groups: null };
  let round = agentSeen(newRound(planRound(all, known), { parallel: 9, waitMs: 0, nowMs: 0 }), 'a', ['data']);
  round = giveUpUnseen(round, 0, () => 'away');
  const first = summarize(round, 1);
  t.like(first, { skipped: 3, done: 0 }, 'both groups, and b with all that it offers');
  const left = toRetry(first);
  t.deepEqual(left, { agents: new Map([['b', null]]), groups: new Set(['db', 'app']) });
  let retry = newRound(planRound(all, known, left), { parallel: 9, waitMs: 0, nowMs: 0 });
  retry = seenAll(retry, ['a', 'b'], ['log', 'own']);
  t.deepEqual(namesOf(retry.items), ['group db', 'group app', 'b own']);
  for (let i = 0; i < 3; i += 1) {
    const next = beginNext(retry);
    retry = next.round;
    for (const item of next.begun)
      retry = itemEnded(retry, item, { state: item.group === 'app' ? 'failed' : 'done' });
  }
  const whole = withRetried(first, summarize(retry, 1));
  t.like(whole, { done: 2, failed: 1, skipped: 0 });
  t.deepEqual(namesOf(whole.items), ['group app', 'group db', 'b own']);
  const third = planRound(all, known, toRetry(whole));
  t.deepEqual([third.groups, third.agents], [[groups[1]], new Map()]);
  t.true(third.members.has('a/data'), 'not alone, though its group is done');
});
