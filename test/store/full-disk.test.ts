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
  commitRequest,
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
