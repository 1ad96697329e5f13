import test from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { Laggards } from '../../../src/protocol/transport/laggards.js';

const SPARED = 32 * MiB;

/** Transfers of these rates, by a clock that is moved by hand. */
function world() {
  let nowMs = 0;
  const laggards = new Laggards(SPARED, () => nowMs);
  const broken: string[] = [];
  const start = (name: string, bytes: number, doneBytes: (ageMs: number) => number) => {
    const sinceMs = nowMs;
    return laggards.add({
      bytes,
      doneBytes: () => Math.min(bytes, doneBytes(nowMs - sinceMs)),
      breakOff: () => broken.push(name),
    });
  };
  const after = (ms: number) => {
    nowMs += ms;
  };
  return { laggards, broken, start, after };
}

const at = (bytesPerSecond: number) => (ageMs: number) => (bytesPerSecond * ageMs) / 1000;

test('a receiver that is slow itself breaks nothing off', (t) => {
  const { laggards, broken, start, after } = world();
  for (let i = 0; i < 8; i += 1) start(`${i}`, 16 * MiB, at(100 * KiB));
  for (let i = 0; i < 10; i += 1) {
    after(10_000);
    laggards.makeRoom(16 * MiB);
  }
  t.deepEqual(broken, []);
});

test('of transfers that trickle, as many are broken off as are needed, and a part is spared', (t) => {
  const { laggards, broken, start, after } = world();
  for (let i = 0; i < 8; i += 1) start(`${i}`, 16 * MiB, at(8 + i));
  after(9_000);
  laggards.makeRoom(16 * MiB);
  t.deepEqual(broken, [], 'too young to be judged');
  after(1_000);
  laggards.makeRoom(17 * MiB);
  t.deepEqual(broken, ['0', '1']);
  laggards.makeRoom(1024 * MiB);
  t.deepEqual(broken, ['0', '1', '2', '3', '4', '5']);
  laggards.makeRoom(1024 * MiB);
  t.is(broken.length, 6);
});

test('a slow link goes on beside those that are slow on purpose', (t) => {
  const { laggards, broken, start, after } = world();
  // A block of 4 MiB at 56 kbit/s, twice.
  for (const name of ['one', 'two']) start(name, 8 * MiB, at(3500));
  for (let i = 0; i < 6; i += 1) start('drip', 16 * MiB, at(8));
  for (let i = 0; i < 60; i += 1) {
    after(10_000);
    laggards.makeRoom(16 * MiB);
  }
  t.deepEqual([...new Set(broken)], ['drip']);
});

test('a fast start buys nothing, and what is nearly through is left alone', (t) => {
  const { laggards, broken, start, after } = world();
  for (let i = 0; i < 3; i += 1)
    start('fast, then nothing', 16 * MiB, (ageMs) => Math.min(12 * MiB, ageMs * 8 * KiB));
  const end = start('nearly through', 64 * MiB, (ageMs) => 64 * MiB - 1 + ageMs / 100_000);
  after(10_000);
  laggards.makeRoom(MiB);
  t.deepEqual(broken, []);
  after(10_000);
  laggards.makeRoom(16 * MiB);
  t.deepEqual(broken, ['fast, then nothing']);
  end();
});
