/** The reserve that packs leave, and what of it the index and the end of a pack may take. */
import { join } from 'node:path';
import test from 'ava';
import { GiB, KiB, MiB } from '../../../src/domain/base/limits.js';
import { type Disk, nodeDisk } from '../../../src/store/disk/disk.js';
import { leaveReserve } from '../../../src/store/disk/room.js';
import { ensureIndexRoom } from '../../../src/store/index/room.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { backUp, changesBetween, describe, holds, sendChanges } from '../../helpers/worlds/store-device.js';
import { after, before, runSession } from '../../helpers/worlds/store-session.js';

const withRoom = (room: () => { totalBytes: number; freeBytes: number }): Disk => ({
  ...nodeDisk,
  room: async () => room(),
});

for (const [name, totalBytes, reserveBytes] of [
  ['256 MiB', 100 * GiB, 256 * MiB],
  ['a sixteenth of a small disk', 64 * MiB, 4 * MiB],
] as const) {
  test(`the reserve: ${name}`, async (t) => {
    const grow = (freeBytes: number) =>
      leaveReserve(
        withRoom(() => ({ totalBytes, freeBytes })),
        '/store/pack',
        5 * MiB,
      );
    await t.notThrowsAsync(grow(reserveBytes + 5 * MiB));
    await t.throwsAsync(grow(reserveBytes + 5 * MiB - 1), { code: 'ENOSPC', message: /are free, and/ });
  });
}

test('the index asks for room for what it writes, without a disk that is full', async (t) => {
  const dir = await tempDir(t);
  t.notThrows(() => ensureIndexRoom(dir, 100));
  t.throws(() => ensureIndexRoom(dir, 2 ** 50), { code: 'ENOSPC' });
});

test('batches end at the reserve; the pack that is full by then is kept out of it', async (t) => {
  const dir = join(await tempDir(t), 'store');
  let freeBytes = GiB;
  const disk = withRoom(() => ({ totalBytes: 100 * GiB, freeBytes }));
  await createStore(dir);
  const store = await openStore(dir, { disk, packBytesTarget: 4 * KiB });
  t.teardown(() => store.close());
  const base = await backUp(store, 'disk', null, before);
  const packCount = async () => (await listFiles(join(dir, 'packs'))).length;
  const packsBefore = await packCount();

  const capture = await store.createCapture(describe('disk', after, base.id, 'd'.repeat(32)));
  const items = changesBetween(before, after);
  await sendChanges(capture, items.slice(0, 10), 5);
  freeBytes = 256 * MiB;
  await t.throwsAsync(sendChanges(capture, items.slice(10, 15), 5, 3), { code: 'store-full' });
  t.true(await holds(store, base, before));
  t.is(capture.durableSequence, 2);
  await capture.abort();
  t.is(await packCount(), packsBefore + 2);
  freeBytes = GiB;
  t.true(await holds(store, await runSession(store, { durable: 0, point: null }), after));
});
