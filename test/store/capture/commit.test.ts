import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { StoreIndex } from '../../../src/store/index/store-index.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  describe,
  emptyState,
  holds,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

const geometry = { sizeBytes: 40 * 4 * KiB - 1000, blockSize: 4 * KiB };
const empty = emptyState(geometry);
const state = change(empty, [
  [0, 1],
  [5, 2],
  [39, 3],
]);

interface Place {
  readonly dir: string;
  readonly store: Store;
}

async function newStore(t: ExecutionContext): Promise<Place> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await openStore(dir);
  t.teardown(() => store.close());
  return { dir, store };
}

test('a point is acknowledged once its manifest is there, also when the index can not be written', async (t) => {
  const { store, dir } = await newStore(t);
  const sessionId = 'd'.repeat(32);
  const { markWalked } = StoreIndex.prototype;
  StoreIndex.prototype.markWalked = async function (pointId) {
    if (pointId === sessionId) throw Object.assign(new Error('no space left'), { code: 'ENOSPC' });
    return markWalked.call(this, pointId);
  };
  const capture = await store.createCapture(describe('disk', state, null, sessionId));
  const count = await sendChanges(capture, changesBetween(null, state));
  const committing = capture.commit(commitRequest(state, count));
  const point = await committing.finally(() => {
    StoreIndex.prototype.markWalked = markWalked;
  });
  t.deepEqual(await store.points({ agent: 'alpha' }), [point]);
  const next = await backUp(store, 'disk', state, empty);
  await store.close();
  const again = await openStore(dir);
  t.true(await holds(again, point, state));
  t.true(await holds(again, next, empty));
  await again.close();
});

test('a block that another device has is not stored twice, and the point does not tell', async (t) => {
  const alone = await newStore(t);
  const shared = await newStore(t);
  const sizeOf = async ({ dir }: Place) => {
    const files = await listFiles(join(dir, 'packs'));
    return (await Promise.all(files.map((file) => stat(join(dir, 'packs', file))))).reduce(
      (sum, { size }) => sum + size,
      0,
    );
  };
  await backUp(shared.store, 'other', null, state);
  const before = await sizeOf(shared);
  const point = await backUp(shared.store, 'disk', null, state);
  t.is(await sizeOf(shared), before);
  t.is(point.storedBytes, (await backUp(alone.store, 'disk', null, state)).storedBytes);
  t.true(point.storedBytes > 3 * 80, String(point.storedBytes));
});
