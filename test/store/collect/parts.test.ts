/** The parts of a collection that need no store: what is live, which packs go, who waits for whom. */
import { createHash } from 'node:crypto';
import { setImmediate } from 'node:timers/promises';
import test from 'ava';
import { LiveSet } from '../../../src/store/collect/live-set.js';
import { RemovalGate } from '../../../src/store/collect/removal-gate.js';
import { chooseVictims, freeableBytes, type PackStanding } from '../../../src/store/collect/victims.js';

const digestOf = (n: number) => createHash('sha256').update(String(n)).digest();
const digests = (from: number, to: number) =>
  Buffer.concat(Array.from({ length: to - from }, (_, i) => digestOf(from + i)));

test('a live set has all that was added, and next to nothing else', (t) => {
  const count = 50_000;
  const live = new LiveSet(count);
  const added = digests(0, count);
  for (let at = 0; at < added.length; at += 32) live.add(added, at);
  let missed = 0;
  for (let at = 0; at < added.length; at += 32) if (!live.has(added, at)) missed += 1;
  t.is(missed, 0);
  const others = digests(count, 2 * count);
  let wrong = 0;
  for (let at = 0; at < others.length; at += 32) if (live.has(others, at)) wrong += 1;
  t.true(wrong / count < 0.007, `${wrong} of ${count}`);
});

test('a live set of any store is bounded, and still tells most of the rest apart', (t) => {
  t.is(new LiveSet(100_000_000).sizeBytes, 100 * 2 ** 20);
  t.is(new LiveSet(10 ** 12).sizeBytes, 100 * 2 ** 20);
  t.true(new LiveSet(0).sizeBytes <= 8192);
});

const TARGET = 1000;
let number = 0;
const pack = (sizeBytes: number, liveBytes: number, more: Partial<PackStanding> = {}): PackStanding => {
  number += 1;
  return {
    ...{ packId: `p${number}`, number, kind: 1, sizeBytes, liveBytes, isKept: false, isPinned: false },
    ...more,
  };
};

test('dead packs go, sparse ones are rewritten, the sparsest first, by kind; others stay', (t) => {
  const [dead, half, most, quarter] = [pack(1000, 0), pack(1000, 500), pack(1000, 800), pack(1000, 250)];
  const tree = pack(1000, 100, { kind: 2 });
  const kept = [pack(1000, 0, { isKept: true }), pack(1000, 10, { isKept: true })];
  const victims = chooseVictims([half, dead, tree, most, quarter, ...kept], TARGET);
  t.deepEqual(victims.dead, [dead]);
  t.deepEqual(victims.rewritten, [quarter, half, tree]);
  t.is(freeableBytes(victims), 1000 + 750 + 500 + 900);
  t.deepEqual(chooseVictims([], TARGET), { dead: [], rewritten: [] });
});

test('small packs are joined once they fill one, each kind for itself', (t) => {
  const small = Array.from({ length: 9 }, () => pack(105, 100));
  const tree = pack(105, 100, { kind: 2 });
  t.deepEqual(chooseVictims([...small, tree], TARGET).rewritten, []);
  const more = [...small, pack(105, 100)];
  t.deepEqual(chooseVictims([...more, tree], TARGET).rewritten, more);
});

test('a removal waits for those inside, who may enter again; others wait for the removal', async (t) => {
  const gate = new RemovalGate();
  const log: string[] = [];
  let leave: () => void = () => undefined;
  const inside = gate.shared(async () => {
    log.push('in');
    await new Promise<void>((resolve) => {
      leave = resolve;
    });
    await gate.shared(async () => log.push('in again'));
  });
  const removals = [1, 2].map((n) =>
    gate.exclusive(async () => {
      log.push(`remove ${n}`);
      await setImmediate();
      log.push(`removed ${n}`);
    }),
  );
  await setImmediate();
  t.deepEqual(log, ['in']);
  leave();
  await inside;
  const later = gate.shared(async () => log.push('later'));
  await Promise.all([...removals, later]);
  t.deepEqual(log.slice(0, 4), ['in', 'in again', 'remove 1', 'removed 1']);
  t.is(log.indexOf('removed 2'), log.indexOf('remove 2') + 1);
  t.deepEqual([...log].sort(), ['in', 'in again', 'later', 'remove 1', 'remove 2', 'removed 1', 'removed 2']);
  await t.throwsAsync(gate.exclusive(() => Promise.reject(new Error('no'))));
  t.is(await gate.shared(async () => 1), 1, 'a failed removal keeps nobody out');
});
