import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import { KiB } from '../../src/domain/limits.js';
import { createStore, openStore } from '../../src/store/store.js';
import { backUp, change, emptyState, holds } from '../helpers/store-device.js';

const geometry = { sizeBytes: 200 * 64 * KiB - 100, blockSize: 64 * KiB };

test('points read back bit for bit, also after the store was closed and opened', async (t) => {
  const dir = await mkdtemp(join(tmpdir(), 'store-test-'));
  t.teardown(() => rm(dir, { recursive: true, force: true }));
  await createStore(dir);
  let store = await openStore(dir);
  const first = change(emptyState(geometry), [
    [0, 1],
    [1, 2],
    [2, 1],
    [100, 3],
    [199, 4],
  ]);
  const second = change(first, [
    [1, null],
    [2, 9],
    [150, 10],
  ]);
  const point1 = await backUp(store, 'disk', null, first);
  const point2 = await backUp(store, 'disk', first, second);
  t.deepEqual([point1.sequence, point2.sequence], [1, 2]);
  t.true(await holds(store, point1, first));
  t.true(await holds(store, point2, second));
  await store.close();

  store = await openStore(dir);
  const points = await store.points({ agent: 'alpha', device: 'disk' });
  t.deepEqual(points, [point1, point2]);
  t.true(await holds(store, point1, first));
  t.true(await holds(store, point2, second));
  await store.close();
});
