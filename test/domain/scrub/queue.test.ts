import test from 'ava';
import {
  byWaiting,
  coverageOf,
  percentBytes,
  type QueuedPack,
  sliceBytes,
} from '../../../src/domain/scrub/queue.js';
import { seededRandom } from '../../helpers/seed.js';

const DAY_MS = 86_400_000;
const pack = (packId: string, sizeBytes: number, sinceMs: number, isChecked = true): QueuedPack => ({
  ...{ packId, sizeBytes, sinceMs, isChecked },
});

test('what was not read back for the longest time comes first, what nobody knows of before it', (t) => {
  const packs = [pack('a', 1, 30), pack('b', 1, 10), pack('c', 1, 0, false), pack('d', 1, 20, false)];
  t.deepEqual(
    byWaiting(packs).map(({ packId }) => packId),
    ['c', 'b', 'd', 'a'],
  );
});

test('10 % a day cover in 10 days all that there was, whatever comes and goes', (t) => {
  const random = seededRandom(t);
  let packs = Array.from({ length: 100 }, (_, i) => pack(`old${i}`, 1 + random.below(64), 0, false));
  const totals: { atMs: number; totalBytes: number }[] = [];
  /** By id, the days on which a pack was there without being read back. */
  const waited = new Map<string, number>();
  let made = 0;
  for (let day = 1; day <= 80; day += 1) {
    // It grows for a while, is thinned out hard, grows again: most of all packs that were just read back go.
    const added = random.below(day % 20 < 10 ? 60 : 4);
    packs.push(
      ...Array.from({ length: added }, () => pack(`new${made++}`, 1 + random.below(64), day * DAY_MS, false)),
    );
    if (day % 20 === 12) packs = packs.filter(({ isChecked }) => !isChecked || random.below(10) === 0);
    const totalBytes = packs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    let leftBytes = percentBytes(10, totalBytes, totals);
    totals.push({ atMs: day * DAY_MS, totalBytes });
    const read = new Set<string>();
    for (const { packId, sizeBytes } of byWaiting(packs)) {
      if (leftBytes <= 0) break;
      leftBytes -= sizeBytes;
      read.add(packId);
    }
    packs = packs.map((one) =>
      read.has(one.packId) ? { ...one, sinceMs: day * DAY_MS + 1, isChecked: true } : one,
    );
    for (const { packId } of packs) {
      const days = read.has(packId) ? 0 : (waited.get(packId) ?? 0) + 1;
      waited.set(packId, days);
      t.true(days < 10, `day ${day}: ${packId} waits for ${days} days`);
    }
  }
});

test('slices add up to more than everything in a period, and nothing is made up for at once', (t) => {
  const periodMs = 30 * DAY_MS;
  let readBytes = 0;
  for (let ms = 0; ms < periodMs; ms += 600_000) readBytes += sliceBytes(1e12, 600_000, periodMs);
  t.true(readBytes >= 1e12 && readBytes < 1.3e12);
  t.is(sliceBytes(1e12, 300 * DAY_MS, periodMs), sliceBytes(1e12, DAY_MS, periodMs));
  t.is(sliceBytes(1e12, -5, periodMs), 0);
  t.is(sliceBytes(0, 5, periodMs), 0);
});

test('coverage tells what was read back, and how long the rest waits', (t) => {
  const packs = [pack('a', 10, 5 * DAY_MS), pack('b', 20, 95 * DAY_MS), pack('c', 30, 99 * DAY_MS, false)];
  t.deepEqual(coverageOf(packs, 100 * DAY_MS, 30 * DAY_MS), {
    ...{ packCount: 3, totalBytes: 60, checkedBytes: 30, coveredBytes: 20, neverCheckedPacks: 1 },
    ...{ oldestMs: 5 * DAY_MS, lastCheckedMs: 95 * DAY_MS },
  });
  t.is(coverageOf([pack('a', 1, 0, false)], DAY_MS, DAY_MS).oldestMs, null);
  t.is(coverageOf([], DAY_MS, DAY_MS).lastCheckedMs, null);
});
