import { cp, open, readdir, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { SnapshotProvider } from '../../../src/capture/ports.js';
import { offlineProvider } from '../../../src/capture/providers/offline/offline.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { attachLoop } from '../../helpers/disks/loop-device.js';
import { refused } from '../../helpers/refused.js';
import { testWith } from '../../helpers/requirements.js';
import { seededRandom } from '../../helpers/seed.js';
import { BackupWorld, BLOCK, faultyReceiver } from '../../helpers/worlds/backup.js';

const SIZE = 300 * BLOCK - 12_800;
const INDEXES = [...Array.from({ length: 100 }, (_, index) => index), 250, 299];

/** With an image and one point of it. */
async function world(t: ExecutionContext): Promise<BackupWorld> {
  const made = await BackupWorld.make(t);
  await made.makeImage(SIZE, INDEXES);
  await made.backup();
  return made;
}

async function lastIsImage(t: ExecutionContext, made: BackupWorld, label = ''): Promise<void> {
  const last = (await made.points()).at(-1);
  if (last === undefined) return t.fail(label);
  t.true((await made.contents(last)).equals(await readFile(made.image)), label);
}

const lost = () =>
  new StillpointError('connection-lost', { thing: 'receiver', reason: 'gone', permanent: false });

test('a first backup, an unchanged one, a changed one: what differs is shipped, all points restore', async (t) => {
  const made = await BackupWorld.make(t);
  await made.makeImage(SIZE, INDEXES);
  const states = [await readFile(made.image)];
  const first = await made.backup();
  t.like(first.point, { sequence: 1, kind: 'idle', provider: 'offline', baseSequence: null });
  t.is(first.base.start, 'empty');
  t.is(first.point.statistics.changedBytes, INDEXES.length * BLOCK - 12_800);
  t.is(first.point.statistics.scannedBytes, SIZE);
  t.deepEqual(first.warnings, []);

  const unchanged = await made.backup();
  states.push(await readFile(made.image));
  t.like(unchanged.point, { sequence: 2, baseSequence: 1, root: first.point.root });
  t.is(unchanged.base.start, 'use-local');
  t.is(unchanged.point.statistics.changedBytes, 0);
  t.true(unchanged.wireBytes < 8 * KiB, `${unchanged.wireBytes}`);

  await made.change(2, [7, 299, 200], SIZE);
  const file = await open(made.image, 'r+');
  await file.write(Buffer.alloc(BLOCK), 0, BLOCK, 50 * BLOCK);
  await file.close();
  states.push(await readFile(made.image));
  const changed = await made.backup();
  t.is(changed.point.statistics.changedBytes, 4 * BLOCK - 12_800);
  t.true(changed.wireBytes < 3 * BLOCK + 8 * KiB);

  for (const [index, point] of (await made.points()).entries()) {
    t.true((await made.contents(point)).equals(states[index] ?? Buffer.alloc(0)), `point ${index + 1}`);
  }
  t.deepEqual((await readdir(made.deviceState)).sort(), ['acknowledged', 'lock', 'tree']);
});

test('the point says what the view was worth at last, and how its provider came to it', async (t) => {
  const made = await world(t);
  for (const [promised, reached, kind] of [
    ['application', 'crash', 'crash'],
    ['crash', 'application', 'crash'],
  ] as const) {
    const provider: SnapshotProvider = {
      name: 'fake',
      hold: async (path, options) => ({
        ...(await offlineProvider.hold(path, options)),
        ...{ kind: promised, instant: new Date('2026-02-03T04:05:06.789Z') },
        conclude: async () => ({ kind: reached, warnings: [], facts: { passes: 2, converged: true } }),
      }),
    };
    const { point } = await made.backup({ provider });
    t.like(point, { kind, provider: 'fake', instant: '2026-02-03T04:05:06.789Z' });
    t.deepEqual(point.providerFacts, { passes: 2, converged: true });
  }
});

test('blocks that come back are not sent again', async (t) => {
  const made = await world(t);
  const before = await readFile(made.image);
  await made.change(2, [1, 2, 3]);
  await made.backup();
  await writeFile(made.image, before);
  const { point, wireBytes } = await made.backup();
  t.is(point.statistics.changedBytes, 3 * BLOCK);
  t.true(wireBytes < 8 * KiB, `${wireBytes}`);
  await lastIsImage(t, made);
});

test('every block size and size', async (t) => {
  for (const [sizeBytes, blockSize] of [
    [0, BLOCK],
    [1, BLOCK],
    [4096, 4096],
    [5 * MiB + 1, 4096],
    [5 * MiB + 1, 4 * MiB],
    [64 * BLOCK, BLOCK],
  ] as const) {
    const made = await BackupWorld.make(t);
    await made.makeImage(sizeBytes, sizeBytes === 0 ? [] : [0]);
    const { point } = await made.backup({ blockSize });
    t.deepEqual(point.geometry, { sizeBytes, blockSize });
    await lastIsImage(t, made, `${sizeBytes} in blocks of ${blockSize}`);
  }
});

const losses: Record<string, [(made: BackupWorld) => Promise<void>, RegExp]> = {
  lost: [(made) => made.forgetState(), /there is no local tree/],
  damaged: [
    async (made) => {
      const path = join(made.deviceState, 'tree');
      const bytes = await readFile(path);
      bytes[4096 + 33] = (bytes[4096 + 33] ?? 0) ^ 1;
      await writeFile(path, bytes);
    },
    /the local tree (is damaged|can't be used)/,
  ],
  'of an older point': [
    async (made) => {
      await cp(made.deviceState, `${made.deviceState}.old`, { recursive: true });
      await made.change(5, [9]);
      await made.backup();
      await rm(made.deviceState, { recursive: true });
      await rename(`${made.deviceState}.old`, made.deviceState);
    },
    /the local tree is not that of the last point disk1@2/,
  ],
};

for (const [name, [lose, reason]] of Object.entries(losses)) {
  test(`a local tree that is ${name} is made anew, and only the difference is shipped`, async (t) => {
    const made = await world(t);
    await lose(made);
    await made.change(6, [20, 280]);
    const { base, point, wireBytes } = await made.backup();
    t.is(base.start, 'compare');
    t.regex(base.reason, reason);
    t.true(made.notices().some((text) => reason.test(text)));
    t.is(point.statistics.changedBytes, 2 * BLOCK);
    t.true(wireBytes < 2 * BLOCK + 32 * KiB, `${wireBytes}`);
    await lastIsImage(t, made);
    t.is((await made.backup()).base.start, 'use-local');
  });
}

test('a commit whose answer never came is found at the next backup', async (t) => {
  const made = await world(t);
  await made.change(2, [4]);
  let isDown = false;
  const receiver = faultyReceiver(made.receiver, (method) => {
    if (method === 'commit') {
      isDown = true;
      return { after: lost() };
    }
    return isDown ? { before: lost() } : null;
  });
  await refused(t, made.backup({ receiver, patienceMs: 0 }), 'connection-lost', /gone/);
  t.is((await made.points()).length, 2);
  await made.change(3, [5]);
  const { base, point } = await made.backup();
  t.is(base.start, 'apply-pending');
  t.is(point.statistics.changedBytes, BLOCK);
  await lastIsImage(t, made);
});

test('a commit that never arrived leaves the last point, and its blocks are not sent twice', async (t) => {
  const made = await world(t);
  await made.change(2, [4]);
  const receiver = faultyReceiver(made.receiver, (method) =>
    method === 'commit' ? { before: lost() } : null,
  );
  await refused(t, made.backup({ receiver, patienceMs: 0 }), 'connection-lost', /gone/);
  t.is((await made.points()).length, 1);
  const { base, point, wireBytes } = await made.backup();
  t.is(base.start, 'use-local');
  t.is(point.statistics.changedBytes, BLOCK);
  t.true(wireBytes < 8 * KiB, `${wireBytes}`);
  await lastIsImage(t, made);
});

test('a link that breaks at random, before and after each message, loses nothing', async (t) => {
  t.timeout(120_000);
  const random = seededRandom(t);
  const made = await BackupWorld.make(t);
  await made.makeImage(SIZE, INDEXES);
  let interruptions = 0;
  const receiver = faultyReceiver(made.receiver, () => {
    const dice = random.below(12);
    if (dice > 1) return null;
    interruptions += 1;
    return dice === 0 ? { before: lost() } : { after: lost() };
  });
  for (let generation = 1; generation <= 3; generation += 1) {
    await made.backup({ receiver, compressionLevel: 0 });
    await lastIsImage(t, made);
    await made.change(generation, [generation, 90, 250]);
  }
  t.log(`${interruptions} interruptions`);
});

test('a root that the receiver does not find voids the local tree', async (t) => {
  const made = await world(t);
  const mismatch = new StillpointError('root-mismatch', { thing: 'session', reason: 'another root' });
  const receiver = faultyReceiver(made.receiver, (method) =>
    method === 'commit' ? { before: mismatch } : null,
  );
  await refused(t, made.backup({ receiver }), 'root-mismatch', /another root/);
  t.is((await made.backup()).base.start, 'compare');
});

test('grown, shrunk and grown again: the chain goes on', async (t) => {
  const made = await world(t);
  for (const sizeBytes of [SIZE + 5 * MiB, SIZE + 5 * MiB + 100, 90 * BLOCK - 1, SIZE]) {
    await truncate(made.image, sizeBytes);
    const { point, base } = await made.backup();
    t.is(point.geometry.sizeBytes, sizeBytes);
    t.is(point.baseSequence, point.sequence - 1);
    t.is(base.start, 'use-local');
    await lastIsImage(t, made, `${sizeBytes}`);
  }
  t.true(made.notices().some((text) => /the device grew from .*; its chain continues/.test(text)));
  t.true(made.notices().some((text) => /the device shrank from /.test(text)));
  await made.forgetState();
  await truncate(made.image, SIZE + MiB);
  t.is((await made.backup()).base.start, 'compare');
  await lastIsImage(t, made);
});

test('a session that dies after a resize is recovered from', async (t) => {
  const made = await world(t);
  await truncate(made.image, SIZE + MiB);
  const receiver = faultyReceiver(made.receiver, (method) =>
    method === 'commit' ? { before: lost() } : null,
  );
  await t.throwsAsync(made.backup({ receiver, patienceMs: 0 }));
  await made.backup();
  await lastIsImage(t, made);
});

test('another block size starts a new chain, and none is kept', async (t) => {
  const made = await world(t);
  const { point, base } = await made.backup({ blockSize: 16 * KiB });
  t.is(base.start, 'new-chain');
  t.is(point.baseSequence, null);
  t.true(made.notices().some((text) => /^a new chain of points begins: the block size is 16384/.test(text)));
  await lastIsImage(t, made);
  t.is((await made.backup()).point.geometry.blockSize, 16 * KiB);
});

/** Offline, but something happens when the reading is over. */
function disturbed(disturb: () => Promise<void>): SnapshotProvider {
  return {
    name: 'offline',
    hold: async (path, options) => {
      const snapshot = await offlineProvider.hold(path, options);
      return {
        ...snapshot,
        conclude: async () => {
          await disturb();
          return snapshot.conclude();
        },
      };
    },
  };
}

test('written to while it is read: no point, nothing left; a fuzzy one on request', async (t) => {
  const made = await world(t);
  let generation = 2;
  const provider = disturbed(() => {
    generation += 1;
    return made.change(generation, [4]);
  });
  await refused(t, made.backup({ provider }), 'device-changed', /was written to while it was read/);
  t.is((await made.points()).length, 1);
  t.deepEqual((await readdir(made.deviceState)).sort(), ['acknowledged', 'lock', 'tree']);
  const { point, warnings } = await made.backup({ provider, fuzzy: true });
  t.is(point.kind, 'fuzzy');
  t.regex(warnings.join(), /was written to while it was read; the point is fuzzy/);
  t.deepEqual(point.warnings, warnings);
  t.is((await made.backup()).point.kind, 'idle');
  await lastIsImage(t, made);
});

test('cancelled at any event, it leaves the last point and no session', async (t) => {
  const made = await world(t);
  await made.change(2, INDEXES, SIZE);
  for (const phase of ['snapshot', 'base', 'scan', 'commit'] as const) {
    const abort = new AbortController();
    const work = made.backup({
      signal: abort.signal,
      onEvent: (event) => {
        if (event.type === 'phase' && event.phase === phase) abort.abort();
      },
    });
    await refused(t, work, 'cancelled', /cancelled/);
    t.is((await made.points()).length, 1, phase);
    t.deepEqual((await readdir(made.deviceState)).sort(), ['acknowledged', 'lock', 'tree'], phase);
  }
  const abort = new AbortController();
  const receiver = faultyReceiver(made.receiver, (method) => {
    if (method === 'batch') abort.abort();
    return null;
  });
  await refused(t, made.backup({ receiver, signal: abort.signal }), 'cancelled', /cancelled/);
  await made.backup();
  await lastIsImage(t, made);
});

test('two at once: the second is refused, the first goes on', async (t) => {
  const made = await world(t);
  await made.change(2, INDEXES, SIZE);
  const results = await Promise.allSettled([made.backup(), made.backup()]);
  const [failed] = results.filter((result) => result.status === 'rejected');
  t.is((failed?.reason as StillpointError | undefined)?.code, 'session-busy');
  t.is((await made.points()).length, 2);
  await lastIsImage(t, made);
});

test('another image under the same name is refused unless told', async (t) => {
  const made = await world(t);
  await rename(made.image, `${made.image}.old`);
  await made.makeImage(SIZE, [1]);
  await refused(t, made.backup(), 'device-identity', /it is not the one that point disk1@1 was taken of/);
  t.is((await made.points()).length, 1);
  t.is((await made.backup({ acceptIdentity: true })).point.sequence, 2);
  await lastIsImage(t, made);
});

for (const sectorSize of [512, 4096] as const) {
  testWith(['root', 'loop'], `a loop device with ${sectorSize}-byte sectors`, async (t) => {
    const made = await BackupWorld.make(t);
    await made.makeImage(100 * BLOCK + 12_288, [0, 5, 99, 100]);
    const loop = attachLoop(t, made.image, { sectorSize });
    for (const generation of [1, 2]) {
      const { point } = await made.backup({ path: loop });
      t.like(point.identity, { type: 'block', path: loop, logicalSectorSize: sectorSize });
      await lastIsImage(t, made, `generation ${generation}`);
      const device = await open(loop, 'r+');
      await device.write(Buffer.alloc(4096, generation), 0, 4096, 99 * BLOCK);
      await device.sync();
      await device.close();
    }
  });
}

test('progress reaches the size', async (t) => {
  const made = await world(t);
  const progress = made.events.flatMap((event) => (event.type === 'progress' ? [event] : []));
  t.like(progress.at(-1), { doneBytes: SIZE, totalBytes: SIZE, changedBytes: INDEXES.length * BLOCK });
});
