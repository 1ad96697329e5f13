/** Views that nothing proves to be one instant: read a second time, in backups and comparisons. */
import { readdir, truncate } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import type { BackupOptions } from '../../../src/agent/backup/options.js';
import { runCompare } from '../../../src/agent/compare/compare.js';
import type { SnapshotProvider } from '../../../src/capture/ports.js';
import { offlineProvider } from '../../../src/capture/providers/offline/offline.js';
import { createMemoryDevice, type MemoryDevice } from '../../../src/native/testing.js';
import { stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import { refused } from '../../helpers/refused.js';
import { BackupWorld, BLOCK, providerOf } from '../../helpers/worlds/backup.js';

const SECTOR = 512;
const BLOCKS = 40;
const UNPROVEN = 'its times prove nothing';

interface World {
  readonly made: BackupWorld;
  readonly device: MemoryDevice;
  /** What happens between the two readings. */
  between: () => Promise<void> | void;
  readonly provider: SnapshotProvider;
  write(generation: number, blockIndexes: Iterable<number>): Promise<void>;
  backup(options?: Partial<BackupOptions>): ReturnType<BackupWorld['backup']>;
}

async function world(t: ExecutionContext): Promise<World> {
  const made = await BackupWorld.make(t);
  const device = createMemoryDevice(BLOCKS * BLOCK);
  t.teardown(() => device.close());
  const still = providerOf(device);
  const provider: SnapshotProvider = {
    name: 'test',
    hold: async (...args) => ({
      ...(await still.hold(...args)),
      conclude: async () => {
        await created.between();
        return { kind: 'idle', warnings: [], unproven: UNPROVEN };
      },
    }),
  };
  const created: World = {
    ...{ made, device, provider, between: () => undefined },
    write: async (generation, blockIndexes) => {
      for (const blockIndex of blockIndexes)
        await device.write(blockIndex * BLOCK, stampedBlock({ seed: 3, blockIndex, generation }, BLOCK));
    },
    backup: (options = {}) => made.backup({ provider, ...options }),
  };
  return created;
}

/** No second overlay, whatever happened. */
async function noScratch(t: ExecutionContext, made: BackupWorld): Promise<void> {
  const files = await readdir(made.stateDirectory, { recursive: true });
  t.deepEqual(
    files.filter((name) => name.endsWith('.second')),
    [],
  );
}

test('what a second reading finds the same is one instant, and that is told', async (t) => {
  const made = await world(t);
  await made.write(1, [0, 1, 39]);
  const { point } = await made.backup();
  t.is(point.kind, 'idle');
  t.deepEqual(point.warnings, []);
  t.is(point.statistics.scannedBytes, 2 * BLOCKS * BLOCK);
  t.regex(
    made.made.notices().join(),
    /is read a second time, to prove that it is one instant: its times prove nothing/,
  );
  t.true(made.made.events.some((event) => event.type === 'phase' && event.phase === 'prove'));
  await made.write(2, [1]);
  await made.device.write(39 * BLOCK, Buffer.alloc(BLOCK));
  t.is((await made.backup()).point.statistics.changedBytes, 2 * BLOCK);
  await noScratch(t, made.made);
});

test('any block that differs in it, changed or not in the first, leaves no point; a fuzzy one on request', async (t) => {
  const made = await world(t);
  await made.write(1, [0, 1, 2]);
  await made.backup();
  for (const changed of [1, 2, 20]) {
    await made.write(2, [1]);
    // Block 1 back to what the last point has; block 2 from that; block 20 from zeros.
    made.between = () => made.write(changed === 1 ? 1 : 3, [changed]);
    await refused(t, made.backup(), 'device-changed', /a second reading found other bytes/);
    t.is((await made.made.points()).length, 1);
    await made.write(1, [2]);
    await made.device.write(20 * BLOCK, Buffer.alloc(BLOCK));
  }
  made.between = () => made.device.write(0, Buffer.alloc(BLOCK));
  const { point } = await made.backup({ fuzzy: true });
  t.is(point.kind, 'fuzzy');
  t.regex(point.warnings.join(), /a second reading found other bytes; the point is fuzzy/);
  made.between = () => undefined;
  t.is((await made.backup({ fuzzy: true })).point.kind, 'idle');
  await noScratch(t, made.made);
});

test('sectors that can not be read in either reading do not keep it from being proven', async (t) => {
  const made = await world(t);
  await made.write(1, [0, 1, 2, 3]);
  made.device.addBadRange(BLOCK + SECTOR, 2 * SECTOR);
  made.device.addBadRange(20 * BLOCK, SECTOR);
  const { point } = await made.backup();
  t.is(point.badRanges.length, 2);
  // Unchanged against the base, bad ones and all.
  t.is((await made.backup()).point.statistics.changedBytes, 0);

  // One that can be read again is no difference: the point names it.
  made.between = () => made.device.clearFaults();
  t.is((await made.backup()).point.badRanges.length, 2);

  // What could be read of the block must be the same.
  made.device.addBadRange(BLOCK, SECTOR);
  made.between = () => made.device.write(2 * BLOCK - SECTOR, Buffer.alloc(SECTOR, 9));
  await refused(t, made.backup(), 'device-changed', /found other bytes at 65536/);
  await noScratch(t, made.made);
});

test('a sector that can be read once and not again proves nothing; the next backup knows it', async (t) => {
  const made = await world(t);
  await made.write(1, [0, 1, 2, 3]);
  made.between = () => made.device.addBadRange(2 * BLOCK, SECTOR);
  const error = await refused(
    t,
    made.backup(),
    'device-io',
    /at byte 131072 could be read once but not again/,
  );
  t.false(error.permanent);
  made.between = () => undefined;
  t.is((await made.backup()).point.badRanges.length, 1);
  await noScratch(t, made.made);
});

test('it can be cancelled', async (t) => {
  const made = await world(t);
  await made.write(1, [0, 1]);
  const stop = new AbortController();
  made.between = () => {
    made.device.setReadDelayMs(50);
    setTimeout(() => stop.abort(), 20);
  };
  await refused(t, made.backup({ signal: stop.signal }), 'cancelled', /cancel/);
  t.deepEqual(await made.made.points(), []);
  await noScratch(t, made.made);
});

test('a comparison is proven so too, of all or of a part', async (t) => {
  const made = await world(t);
  await made.write(1, [0, 1]);
  made.device.addBadRange(30 * BLOCK, SECTOR);
  const { point } = await made.backup();
  const { receiver, stateDirectory } = made.made;
  const compare = (options: Partial<Parameters<typeof runCompare>[0]> = {}) =>
    runCompare({ receiver, point, path: '/memory', stateDirectory, provider: made.provider, ...options });
  await made.write(2, [1]);
  const same = await compare();
  t.is(same.kind, 'idle');
  t.deepEqual(
    [...same.differing.ranges()],
    [
      [1, 2],
      [30, 31],
    ],
  );
  made.between = () => made.write(5, [3]);
  t.is((await compare({ byteRanges: [[0, 2 * BLOCK]] })).kind, 'idle');
  made.between = () => made.write(6, [3]);
  await refused(t, compare(), 'device-changed', /found other bytes/);
  made.between = () => made.write(7, [3]);
  t.is((await compare({ fuzzy: true })).kind, 'fuzzy');
});

test('an image that is cut while it is read is told as such, and nothing is made up for the rest', async (t) => {
  const made = await BackupWorld.make(t);
  await made.makeImage(40 * BLOCK, [0, 1, 39]);
  const provider = (fuzzy: boolean): SnapshotProvider => ({
    name: 'offline',
    hold: async (path, options) => {
      const snapshot = await offlineProvider.hold(path, { ...options, fuzzy });
      await truncate(made.image, 10 * BLOCK);
      return snapshot;
    },
  });
  for (const fuzzy of [false, true]) {
    await refused(
      t,
      made.backup({ provider: provider(fuzzy), fuzzy }),
      'device-changed',
      /it shrank from 2621440 to 655360 bytes while it was read/,
    );
    await truncate(made.image, 40 * BLOCK);
  }
  t.deepEqual(await made.points(), []);
});

test('a device that is gone while its bad sectors are looked at is no device with bad sectors', async (t) => {
  const made = await world(t);
  await made.write(1, [0, 1]);
  made.device.addBadRange(BLOCK, SECTOR);
  const gone = new Error('it is gone');
  const provider: SnapshotProvider = {
    name: 'test',
    hold: async (...args) => ({ ...(await made.provider.hold(...args)), lost: async () => gone as never }),
  };
  t.is(await t.throwsAsync(made.backup({ provider })), gone);
  t.deepEqual(await made.made.points(), []);
});
