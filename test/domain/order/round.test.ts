import test from 'ava';
import fc from 'fast-check';
import { ROUND_ITEMS_KEPT } from '../../../src/domain/base/limits.js';
import {
  agentSeen,
  beginNext,
  giveUpUnseen,
  isOver,
  itemEnded,
  newRound,
  type Round,
  stopRound,
  summarize,
  toRetry,
  withRetried,
} from '../../../src/domain/order/round.js';

const begin = (agents: readonly string[], parallel: number): Round =>
  newRound(agents, { parallel, waitMs: 1000, nowMs: 0 });

test('agents that are there are not kept waiting by those that are not', (t) => {
  let round = agentSeen(begin(['a', 'b', 'c'], 1), 'b', ['y', 'x']);
  const first = beginNext(round);
  t.deepEqual(
    first.begun.map(({ agent, device }) => [agent, device]),
    [['b', 'x']],
  );
  t.deepEqual(beginNext(first.round).begun, [], 'one at a time');
  round = itemEnded(first.round, 'b', 'x', { state: 'done', point: 'x@1', wireBytes: 7 });
  const second = beginNext(round);
  round = itemEnded(second.round, 'b', 'y', { state: 'failed', reason: 'it is on fire' });
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
  round = itemEnded(round, 'a', 'x', { state: 'skipped', reason: 'gone' });
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
    round = itemEnded(round, 'a', device, { state: device === 'd399' ? 'failed' : 'done' });
  }
  const { items, done } = summarize(round, 1);
  t.is(done, devices.length - 1);
  t.is(items.length, ROUND_ITEMS_KEPT);
  t.like(items[0], { device: 'd399', state: 'failed' });
});

test('any round: never more at once than asked for, each device once, and it comes to its end', (t) => {
  const agents = fc.dictionary(
    fc.constantFrom('a', 'b', 'c', 'd', 'e'),
    fc.oneof(fc.constant(null), fc.uniqueArray(fc.constantFrom('x', 'y', 'z'))),
  );
  const outcomes = fc.infiniteStream(fc.constantFrom('done', 'failed', 'skipped'));
  const choices = fc.infiniteStream(fc.nat());
  fc.assert(
    fc.property(
      agents,
      fc.integer({ min: 1, max: 4 }),
      outcomes,
      choices,
      fc.option(fc.nat(8)),
      (...args) => {
        const [offers, parallel, ends, chosen, stopAfter] = args;
        const names = Object.keys(offers);
        const later = names.filter((name) => offers[name] !== null);
        let round = begin(names, parallel);
        const seen = new Set<string>();
        let nowMs = 0;
        for (let steps = 0; !isOver(round) && steps < 100; steps += 1) {
          const next = beginNext(round);
          round = next.round;
          for (const { agent, device } of next.begun) {
            t.false(seen.has(`${agent} ${device}`));
            seen.add(`${agent} ${device}`);
          }
          const running = round.items.filter(({ state }) => state === 'running');
          t.true(running.length <= parallel);
          const ended = running[(chosen.next().value ?? 0) % Math.max(1, running.length)];
          const arriving = later.shift();
          if (steps === stopAfter) round = stopRound(round, 'stopped');
          else if (arriving !== undefined) round = agentSeen(round, arriving, offers[arriving] ?? []);
          else {
            nowMs += 1000;
            round = giveUpUnseen(round, nowMs, () => 'gone');
          }
          if (ended !== undefined)
            round = itemEnded(round, ended.agent, ended.device ?? '', { state: ends.next().value ?? 'done' });
        }
        t.true(isOver(round));
        const { done, failed, skipped, items } = summarize(round, nowMs);
        t.is(done + failed + skipped, items.length);
        for (const name of names)
          t.true(
            items.some(({ agent }) => agent === name),
            `${name} is in the summary`,
          );
      },
    ),
  );
});

test('what failed without an item of its own is still failed after going back to the others', (t) => {
  const devices = Array.from({ length: ROUND_ITEMS_KEPT + 50 }, (_, i) => `d${i}`);
  let round = beginNext(agentSeen(begin(['a'], devices.length + 2), 'a', [...devices, 'good', 'fine'])).round;
  for (const device of devices) round = itemEnded(round, 'a', device, { state: 'failed', reason: 'no' });
  for (const device of ['good', 'fine']) round = itemEnded(round, 'a', device, { state: 'done' });
  const first = summarize(round, 1);
  const left = toRetry(first);
  let retry = newRound(['a'], { parallel: devices.length, waitMs: 1000, nowMs: 0, only: left });
  retry = beginNext(agentSeen(retry, 'a', devices)).round;
  t.is(retry.items.length, ROUND_ITEMS_KEPT);
  const [one, ...others] = retry.items;
  retry = itemEnded(retry, 'a', one?.device ?? '', { state: 'failed', reason: 'again' });
  for (const { device } of others) retry = itemEnded(retry, 'a', device ?? '', { state: 'done' });
  const whole = withRetried(first, summarize(retry, 1));
  t.like(whole, { done: 2 + ROUND_ITEMS_KEPT - 1, failed: 50 + 1, skipped: 0 });
});
