/**
 * The suite of every store, on each that there is: on disk, over another object store, in memory,
 * and opened only to be read.
 */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { createStore, openStore, openStoreForReading, type StoreOptions } from '../../src/store/open.js';
import type { Store } from '../../src/store/port/store.js';
import { testStoreGroups } from '../conformance/store/groups.js';
import { testStoreReading } from '../conformance/store/reading.js';
import { testStoreRemovals } from '../conformance/store/removals.js';
import { type MakeStore, type StoreWorld, testStore } from '../conformance/store/sessions.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { MemoryObjectStore } from '../helpers/fakes/memory-object-store.js';
import { MemoryStore } from '../helpers/fakes/memory-store.js';
import { FaultyStore } from '../helpers/faults/store.js';

const START_MS = Date.parse('2026-01-01T00:00:00.000Z');

async function newStoreDir(t: ExecutionContext): Promise<string> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  return dir;
}

async function packStore(t: ExecutionContext, options: StoreOptions): Promise<StoreWorld> {
  const dir = await newStoreDir(t);
  let nowMs = START_MS;
  const open = (): Promise<Store> => openStore(dir, { ...options, now: () => new Date(nowMs) });
  const store = await open();
  return {
    store,
    reopen: async () => {
      await store.close();
      return open();
    },
    pass: (ms) => {
      nowMs += ms;
    },
  };
}

const memoryStore: MakeStore = async () => {
  let nowMs = START_MS;
  const store = new MemoryStore({ now: () => new Date(nowMs) });
  return {
    store,
    reopen: () => store.reopen(),
    pass: (ms) => {
      nowMs += ms;
    },
  };
};

const STORES: readonly (readonly [string, MakeStore])[] = [
  ['pack store', (t) => packStore(t, {})],
  ['pack store over objects in memory', (t) => packStore(t, { objects: new MemoryObjectStore() })],
  ['memory store', memoryStore],
];
for (const [name, make] of STORES) {
  testStore(name, make);
  testStoreRemovals(name, make);
  testStoreGroups(name, make);
}

testStoreReading('memory store without faults', async (_t, points) => {
  const store = new FaultyStore();
  await points.write(store);
  return store.reopen();
});

testStoreReading('store opened for reading', async (t, points) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  await points.write(store);
  await store.close();
  return openStoreForReading(dir);
});
testStoreReading('store opened for reading beside its owner', async (t, points) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  t.teardown(() => store.close());
  await points.write(store);
  return openStoreForReading(dir);
});
