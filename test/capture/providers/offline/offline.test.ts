import { appendFile, open, rename, stat, utimes } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Snapshot } from '../../../../src/capture/ports.js';
import { offlineProvider } from '../../../../src/capture/providers/offline/offline.js';
import { makeStampedImage, stampedBlock } from '../../../helpers/bytes/stamped-blocks.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { attachPartitioned } from '../../../helpers/disks/partition-table.js';
import { refused } from '../../../helpers/refused.js';
import { testWith } from '../../../helpers/requirements.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const SESSION = {
  ...{ sessionId: '0'.repeat(32), basePointId: null, full: false, doubt: null, blockSize: 64 * KIB },
};

async function image(t: ExecutionContext, sizeBytes = 4 * MIB): Promise<string> {
  const path = join(await temporaryDirectory(t, 'offline'), 'disk.img');
  await makeStampedImage(path, { sizeBytes, blockSize: 64 * KIB, seed: 1, blockIndexes: [0, 3, 7] });
  return path;
}

async function hold(t: ExecutionContext, path: string, fuzzy = false): Promise<Snapshot> {
  const snapshot = await offlineProvider.hold(path, { ...SESSION, fuzzy });
  t.teardown(() => snapshot.release());
  return snapshot;
}

/** Past the page cache's time stamp tick, so that a write must show. */
async function overwrite(path: string, byteOffset: number, flags = 'r+'): Promise<void> {
  const file = await open(path, flags);
  await file.write(
    stampedBlock({ seed: 2, blockIndex: 1, generation: 1 }, 4 * KIB),
    0,
    undefined,
    byteOffset,
  );
  await file.close();
}

test('an image that nobody writes to is idle', async (t) => {
  const path = await image(t);
  const snapshot = await hold(t, path);
  t.is(snapshot.kind, 'idle');
  t.is(snapshot.device.sizeBytes, 4 * MIB);
  t.like(snapshot.identity, { type: 'image', path });
  t.regex(snapshot.identity.inode ?? '', /^\d+:\d+\/\d+$/);
  t.deepEqual(
    await snapshot.device.read(3 * 64 * KIB, 64 * KIB),
    stampedBlock({ seed: 1, blockIndex: 3, generation: 0 }, 64 * KIB),
  );
  t.deepEqual(await snapshot.conclude(), { kind: 'idle', warnings: [] });
});

test('an image written to while it is read gives no point; fuzzy only where asked for', async (t) => {
  const path = await image(t);
  const strict = await hold(t, path);
  const fuzzy = await hold(t, path, true);
  await overwrite(path, 0);
  await refused(t, strict.conclude(), 'device-changed', /was written to while it was read/);
  const conclusion = await fuzzy.conclude();
  t.is(conclusion.kind, 'fuzzy');
  t.regex(conclusion.warnings[0] ?? '', /was written to/);
});

test('a write right after the hold is seen, however new the image is', async (t) => {
  for (let round = 0; round < 20; round += 1) {
    const path = await image(t);
    const snapshot = await hold(t, path);
    await overwrite(path, 0);
    await refused(t, snapshot.conclude(), 'device-changed', /was written to/);
  }
});

test('times set back, growth and replacement are seen', async (t) => {
  const path = await image(t);
  const { atime, mtime } = await stat(path);
  const written = await hold(t, path);
  await overwrite(path, 0);
  await utimes(path, atime, mtime);
  await refused(t, written.conclude(), 'device-changed', /was written to/);

  const grown = await hold(t, path);
  await appendFile(path, 'x');
  await refused(t, grown.conclude(), 'device-changed', /it grew from 4194304 to 4194305 bytes while/);

  const replaced = await hold(t, path);
  await rename(await image(t), path);
  await refused(t, replaced.conclude(), 'device-changed', /was replaced/);
});

test('an image open for writing is refused before and after', async (t) => {
  const path = await image(t);
  const writer = await open(path, 'r+');
  await refused(
    t,
    offlineProvider.hold(path, { ...SESSION, fuzzy: false }),
    'device-in-use',
    /open for writing by .*could change/,
  );
  const fuzzy = await hold(t, path, true);
  t.is(fuzzy.kind, 'fuzzy');
  t.is((await fuzzy.conclude()).kind, 'fuzzy');
  await writer.close();

  const snapshot = await hold(t, path);
  const late = await open(path, 'r+');
  t.teardown(() => late.close());
  await refused(t, snapshot.conclude(), 'device-changed', /was opened for writing/);
});

test('what is no device is refused by name', async (t) => {
  const directory = await temporaryDirectory(t, 'offline');
  const options = { ...SESSION, fuzzy: false };
  await refused(
    t,
    offlineProvider.hold(join(directory, 'none'), options),
    'device-not-found',
    /does not exist/,
  );
  await refused(t, offlineProvider.hold(directory, options), 'device-not-found', /it is a directory/);
  await refused(
    t,
    offlineProvider.hold('/dev/null', options),
    'device-not-found',
    /neither a block device nor/,
  );
});

for (const sectorSize of [512, 4096] as const) {
  testWith(
    ['root', 'loop'],
    `a loop device with ${sectorSize}-byte sectors: idle, and a write is counted`,
    async (t) => {
      const loop = attachLoop(t, await image(t), { sectorSize });
      const snapshot = await hold(t, loop);
      t.is(snapshot.kind, 'idle');
      t.is(snapshot.device.logicalSectorSize, sectorSize);
      t.like(snapshot.identity, { type: 'block', path: loop, logicalSectorSize: sectorSize });
      await snapshot.device.read(0, MIB);
      t.deepEqual(await snapshot.conclude(), { kind: 'idle', warnings: [] });
      // A buffered write that nobody has flushed yet.
      await overwrite(loop, 2 * MIB);
      await refused(t, snapshot.conclude(), 'device-changed', /was written to/);
    },
  );
}

testWith(['root', 'loop'], 'dirty pages from before are no change', async (t) => {
  const loop = attachLoop(t, await image(t));
  await overwrite(loop, 2 * MIB);
  const snapshot = await hold(t, loop);
  await snapshot.device.read(0, 4 * MIB);
  t.deepEqual(await snapshot.conclude(), { kind: 'idle', warnings: [] });
});

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }],
  'mounted: refused; read-only mounted: idle until it is remounted and written',
  async (t) => {
    const path = await image(t, 32 * MIB);
    const loop = attachLoop(t, path);
    run('mkfs.ext4', '-q', '-F', loop);
    const mountPoint = `${path}.mount`;
    await mount(t, loop, mountPoint);
    await refused(
      t,
      offlineProvider.hold(loop, { ...SESSION, fuzzy: false }),
      'device-in-use',
      /mounted at .*Unmount it first: umount /,
    );
    run('mount', '--options', 'remount,ro', mountPoint);
    const snapshot = await hold(t, loop);
    t.is(snapshot.kind, 'idle');
    t.is((await snapshot.conclude()).kind, 'idle');
    run('mount', '--options', 'remount,rw', mountPoint);
    run('sh', '-c', `echo new > '${mountPoint}/file' && sync '${mountPoint}/file'`);
    await refused(t, snapshot.conclude(), 'device-changed', /was written to/);
  },
);

testWith(['root', 'loop'], 'while it is held nobody can mount the device or hold it twice', async (t) => {
  const loop = attachLoop(t, await image(t));
  const snapshot = await hold(t, loop);
  await refused(
    t,
    offlineProvider.hold(loop, { ...SESSION, fuzzy: false }),
    'device-in-use',
    /holds it exclusively/,
  );
  await snapshot.release();
  await (await offlineProvider.hold(loop, { ...SESSION, fuzzy: false })).release();
  t.pass();
});

testWith(
  ['root', 'loop'],
  'a write through the whole disk changes its partition; a sibling’s does not',
  async (t) => {
    const path = await image(t, 64 * MIB);
    const loop = await attachPartitioned(t, path, 0x1234, [
      { start: 2048, length: 65_536 },
      { start: 67_584, length: 32_768 },
    ]);
    const snapshot = await hold(t, `${loop}p1`);
    run('dd', 'if=/dev/urandom', `of=${loop}p2`, 'bs=1M', 'count=4', 'conv=fsync', 'status=none');
    // The file of the loop device was written to for the sibling: whether for that
    // alone, its times don't tell.
    t.like(await snapshot.conclude(), { kind: 'idle' });
    run('dd', 'if=/dev/urandom', `of=${loop}`, 'bs=1M', 'count=1', 'seek=4', 'conv=fsync', 'status=none');
    t.regex(
      (await snapshot.conclude()).unproven ?? '',
      new RegExp(`written past it to ${loop}, which it lies on`),
    );
  },
);
