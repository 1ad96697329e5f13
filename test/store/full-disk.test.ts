/**
 * A store on a file system that is really full: what LMDB and the addon do then can't be
 * seen on an injected fault.
 */
import { execFileSync } from 'node:child_process';
import { copyFile, mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { isStillpointError } from '../../src/domain/base/errors.js';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { createStore, openStore } from '../../src/store/open.js';
import { makeBatch } from '../helpers/bytes/hand-made-batch.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { listFiles } from '../helpers/faults/disk.js';
import { testWith } from '../helpers/requirements.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  emptyState,
  holds,
  stampedBlock,
} from '../helpers/worlds/store-device.js';

const geometry = { sizeBytes: 2000 * 16 * KiB, blockSize: 16 * KiB };

/** A pack that no point of this store needs. */
async function addForeignPack(t: ExecutionContext, dir: string): Promise<void> {
  const other = join(await tempDir(t), 'other');
  await createStore(other);
  const store = await openStore(other);
  await backUp(store, 'disk', null, change(emptyState(geometry), [[5, 77]]));
  await store.close();
  const [pack = ''] = await listFiles(join(other, 'packs'));
  const to = join(dir, 'packs', pack);
  await mkdir(dirname(to), { recursive: true });
  await copyFile(join(other, 'packs', pack), to);
}

testWith(
  ['root'],
  'a full file system: a clear error, points that stay readable, and room again lets the session go on',
  async (t) => {
    const mount = await tempDir(t);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m', 'tmpfs', mount]);
    t.teardown(() => execFileSync('umount', ['-l', mount]));
    const dir = join(mount, 'store');
    await createStore(dir);
    const options = { packBytesTarget: MiB };
    let store = await openStore(dir, options);
    const first = change(emptyState(geometry), [
      [0, 1],
      [1000, 2],
    ]);
    const base = await backUp(store, 'disk', null, first);

    const sessionId = 'f'.repeat(32);
    const after = change(
      first,
      Array.from({ length: 1500 }, (_, i) => [i + 10, i + 10_000] as const),
    );
    const capture = await store.createCapture(describe('disk', after, base.id, sessionId));
    const perBatch = 10;
    const batchOf = (sequence: number) =>
      makeBatch(
        sessionId,
        sequence,
        Array.from({ length: perBatch }, (_, i) => (sequence - 1) * perBatch + i + 10).map((blockIndex) => ({
          blockIndex,
          bytes: stampedBlock(blockIndex + 9990, 16 * KiB),
        })),
        0,
      );
    const send = async (target: { append: typeof capture.append; durableSequence: number }) => {
      for (let sequence = target.durableSequence + 1; sequence <= 150; sequence += 1) {
        await target.append(sequence, batchOf(sequence));
      }
    };
    const error = await t.throwsAsync(send(capture));
    t.true(isStillpointError(error, 'store-full'), error?.stack);
    const reached = capture.durableSequence;
    t.true(reached > 20 && reached < 150, String(reached));
    // As if it had been published, and the disk was full before it was in the index.
    await addForeignPack(t, dir);
    await writeFile(join(mount, 'rest'), Buffer.alloc(30 * MiB)).catch(() => undefined);
    t.true(isStillpointError(await t.throwsAsync(send(capture)), 'store-full'));
    t.true(await holds(store, base, first));
    await store.close();

    store = await openStore(dir, options);
    t.true(await holds(store, base, first), 'also after the store was opened again');
    const found = store.captures()[0];
    if (found === undefined) throw new Error('the session is gone');
    t.true(isStillpointError(await t.throwsAsync(send(found)), 'store-full'));

    execFileSync('mount', ['-o', 'remount,size=100m', mount]);
    await rm(join(mount, 'rest'));
    await send(found);
    const point = await found.commit(commitRequest(after, 150));
    t.true(await holds(store, point, after));
    for await (const event of store.verify({})) t.not(event.type, 'finding');
    await store.close();
  },
);

testWith(
  ['root'],
  'a full disk: what a removed point needed is freed, and a session that waits for room goes on',
  async (t) => {
    const mount = await tempDir(t);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=32m', 'tmpfs', mount]);
    t.teardown(() => execFileSync('umount', ['-l', mount]));
    const dir = join(mount, 'store');
    await createStore(dir);
    const store = await openStore(dir, { packBytesTarget: MiB, keepPartialMs: 0 });
    t.teardown(() => store.close());
    const blocks = (count: number, seed: number, every = 1) =>
      Array.from({ length: count }, (_, i) => [i * every, i * every + seed] as const);
    const first = change(emptyState(geometry), blocks(1000, 10_000));
    const second = change(emptyState(geometry), blocks(250, 10_000, 4));
    const third = change(emptyState(geometry), blocks(900, 50_000));
    /** Not compressed; goes on where it was. */
    const send = async (device: string, before: DeviceState | null, after: DeviceState) => {
      const basePoint = await store.baseFor({ agent: 'alpha', device });
      const capture =
        store.captures()[0] ?? (await store.createCapture(describe(device, after, basePoint?.id ?? null)));
      const items = changesBetween(before, after);
      for (let sequence = capture.durableSequence + 1; (sequence - 1) * 10 < items.length; sequence += 1) {
        const part = items.slice((sequence - 1) * 10, sequence * 10);
        await capture.append(sequence, makeBatch(capture.description.sessionId, sequence, part, 0));
      }
      return capture;
    };
    const backUpRaw = async (device: string, before: DeviceState | null, after: DeviceState) => {
      const capture = await send(device, before, after);
      return capture.commit(commitRequest(after, capture.durableSequence));
    };
    const removed = await backUpRaw('disk', null, first);
    const kept = await backUpRaw('disk', first, second);
    const sendThird = () => backUpRaw('other', null, third);
    t.true(isStillpointError(await t.throwsAsync(sendThird()), 'store-full'));
    await store.removePoint(removed, 'room is needed');
    const report = await store.collect();
    t.is(report.state, 'done', JSON.stringify(report));
    t.true(report.freedBytes > 10 * MiB && report.rewrittenPacks > 0, JSON.stringify(report));
    const point = await sendThird();

    // Other programs take all the rest: packs that nobody needs go first, and make the room for it.
    const left = await send('left', null, change(emptyState(geometry), blocks(100, 90_000)));
    await left.abort();
    await writeFile(join(mount, 'rest'), Buffer.alloc(40 * MiB)).catch(() => undefined);
    const again = await store.collect();
    t.true(again.freedBytes > MiB, JSON.stringify(again));
    t.true(await holds(store, kept, second));
    t.true(await holds(store, point, third));
    for await (const event of store.verify({})) t.not(event.type, 'finding', JSON.stringify(event));
  },
);
