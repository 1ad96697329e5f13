/** What the record of a tracked device says at each step, with a tracker that only remembers. */
import test from 'ava';
import { Marks } from '../../../../src/capture/providers/live/marks.js';
import type { TrackCounters, Tracker } from '../../../../src/native/index.js';
import { POINTS_MAX, readRecord, type TrackRecord, writeRecord } from '../../../../src/track/record.js';

const id = (number: number): string => number.toString(16).padStart(32, '0');

function fakeTracker() {
  let bytes: Buffer | null = null;
  const counters = { passedThrough: 0, notNoted: 0, queueMisses: 0, completionMisses: 0, runNs: 0 };
  const log: string[] = [];
  const tracker: Tracker = {
    target: {
      ...{ diskMajor: 7, diskMinor: 0, startSector: 0, sectorCount: 8, grainBytes: 4096 },
      hasRequestQueue: true,
    },
    memoryBytes: 0,
    counters: () => ({ ...counters }),
    record: () => bytes,
    writeRecord: (written) => {
      bytes = Buffer.from(written);
      log.push(
        `points ${readRecord(tracker)
          ?.points.map((point) => Number(`0x${point}`))
          .join(' ')}`,
      );
    },
    marked: async () => 0,
    mark: async (ranges) => void log.push(`mark ${JSON.stringify(ranges)}`),
    forgetKept: async () => void log.push('forget'),
    close: async () => undefined,
  };
  const record: TrackRecord = {
    ...{ version: 1, path: '/dev/x', diskSequence: '5', since: '2026-01-01T00:00:00.000Z', points: [id(1)] },
    facts: { passedThrough: 0, notNoted: 0, queueMisses: 0 },
  };
  writeRecord(tracker, record);
  log.length = 0;
  const open = (doubt: string | null = null): Marks =>
    new Marks({
      ...{ tracker, record: readRecord(tracker) ?? record, doubt, lockDescriptor: -1 },
      close: async () => undefined,
    });
  const count = (key: keyof TrackCounters): void => {
    counters[key] += 1;
  };
  return { log, open, count, read: () => readRecord(tracker) };
}

test('a session is named before it can become a point, and forgets nothing before it is one', async (t) => {
  const { open, log } = fakeTracker();
  const marks = open();
  marks.announce(id(2), null);
  t.true(marks.knows(id(1)) && marks.knows(id(2)));
  await marks.committed(id(2));
  t.deepEqual(log, ['points 1 2', 'points 2', 'forget']);
  t.false(marks.knows(id(1)));
});

test('sessions that may have become points are kept, the oldest go first, the last point never', (t) => {
  const { open, read } = fakeTracker();
  for (let session = 2; session < 2 + 3 * POINTS_MAX; session += 1) open().announce(id(session), null);
  const points = read()?.points ?? [];
  t.is(points.length, POINTS_MAX);
  t.is(points[0], id(1));
  t.is(points.at(-1), id(1 + 3 * POINTS_MAX));
});

test('in doubt the marks are good for the new session alone', (t) => {
  const { open, log } = fakeTracker();
  open('a doubt').announce(id(2), 'a doubt');
  t.deepEqual(log, ['points 2']);
});

test('marks that are adopted are never good for a point while they change', async (t) => {
  const { open, log } = fakeTracker();
  await open().adopt(id(9), [[0, 3]], 4096, true);
  t.deepEqual(log, ['points ', 'forget', 'mark [[0,3]]', 'points 9']);
  log.length = 0;
  await open().adopt(id(9), [[5, 6]], 4096, false);
  t.deepEqual(log, ['points ', 'mark [[5,6]]', 'points 9']);
  log.length = 0;
  await open().adopt(id(8), [[5, 6]], 4096, false);
  t.deepEqual(log.at(-1), 'points ');
});

for (const counter of ['passedThrough', 'notNoted', 'queueMisses'] as const)
  test(`${counter}: seen once, and by the next session if this one did not live to become a point`, async (t) => {
    const { open, count, read } = fakeTracker();
    const marks = open();
    marks.announce(id(2), null);
    t.is(marks.look(), null);
    count(counter);
    t.regex(marks.look() ?? '', /^[a-z]/);
    t.is(marks.look(), null);
    t.is(read()?.facts[counter], 0);
    await marks.committed(id(2));
    t.is(read()?.facts[counter], 1);
  });

test('a completion that nobody saw is told once', (t) => {
  const { open, count } = fakeTracker();
  const marks = open();
  t.false(marks.mayLackCompletion());
  count('completionMisses');
  t.true(marks.mayLackCompletion());
  t.false(marks.mayLackCompletion());
});
