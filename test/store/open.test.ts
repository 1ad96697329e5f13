import { spawnSync } from 'node:child_process';
import { mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { AGENT_MANIFEST_BYTES_MAX, BATCH_BYTES_MAX, KiB, MiB } from '../../src/domain/base/limits.js';
import type { Point } from '../../src/domain/point/point.js';
import { answeredCount, encodeBlocks } from '../../src/protocol/codecs/blocks-codec.js';
import { createStore, type OpenProgress, openStore } from '../../src/store/open.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { MemoryObjectStore } from '../helpers/fakes/memory-object-store.js';
import { listFiles } from '../helpers/faults/disk.js';
import { refused } from '../helpers/refused.js';
import {
  backUp,
  change,
  commitRequest,
  describe,
  emptyState,
  holds,
  leavesOf,
  readBlocks,
} from '../helpers/worlds/store-device.js';

const geometry = { sizeBytes: 200 * 64 * KiB - 100, blockSize: 64 * KiB };
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

async function newStoreDir(t: ExecutionContext): Promise<string> {
  const dir = join(await tempDir(t), 'a', 'store');
  await createStore(dir);
  return dir;
}

test('points read back bit for bit, also after the store was closed and opened', async (t) => {
  const dir = await newStoreDir(t);
  let store = await openStore(dir);
  const point1 = await backUp(store, 'disk', null, first);
  const point2 = await backUp(store, 'disk', first, second);
  t.deepEqual([point1.sequence, point2.sequence], [1, 2]);
  t.deepEqual([point1.baseSequence, point2.baseSequence], [null, 1]);
  t.true(await holds(store, point1, first));
  t.true(await holds(store, point2, second));
  await store.close();

  store = await openStore(dir);
  t.deepEqual(await store.points({ agent: 'alpha', device: 'disk' }), [point1, point2]);
  t.deepEqual(await store.points({ agent: 'alpha' }), [point1, point2]);
  t.deepEqual(await store.points({ agent: 'beta' }), []);
  t.deepEqual(await store.point('alpha', point1.id), point1);
  t.is(await store.point('beta', point1.id), null);
  t.true(await holds(store, point1, first));
  t.true(await holds(store, point2, second));
  await store.close();
});

test('the index is made anew when it is deleted, unreadable or of another store, with progress', async (t) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  const point1 = await backUp(store, 'disk', null, first);
  const point2 = await backUp(store, 'disk', first, second);
  await store.close();
  const otherDir = await newStoreDir(t);
  await (await openStore(otherDir)).close();
  const harms = [
    () => rm(join(dir, 'index'), { recursive: true }),
    () => writeFile(join(dir, 'index', 'data.mdb'), Buffer.alloc(100_000, 'x')),
    async () =>
      writeFile(join(dir, 'index', 'data.mdb'), await readFile(join(otherDir, 'index', 'data.mdb'))),
  ];
  for (const harm of harms) {
    await harm();
    const progress: OpenProgress[] = [];
    const again = await openStore(dir, { onProgress: (event) => progress.push(event) });
    t.true(progress.some(({ step, done, total }) => step === 'indexing packs' && total === 4 && done === 4));
    t.true(progress.some(({ step, done, total }) => step === 'walking points' && total === 2 && done === 2));
    t.true(await holds(again, point1, first));
    t.true(await holds(again, point2, second));
    const capture = await again.createCapture({
      agent: 'alpha',
      device: 'disk',
      sessionId: 'a'.repeat(32),
      geometry,
      identity: point2.identity,
      basePointId: point2.id,
    });
    t.deepEqual(
      await capture.have(Buffer.concat([...leavesOf(first).values(), ...leavesOf(second).values()])),
      new Set(Array.from({ length: 10 }, (_, i) => i)),
    );
    await capture.abort();
    await again.close();
  }
});

test('packs and manifests may be kept elsewhere', async (t) => {
  const dir = await newStoreDir(t);
  const objects = new MemoryObjectStore();
  let store = await openStore(dir, { objects });
  const point = await backUp(store, 'disk', null, first);
  await store.close();
  t.deepEqual(
    (await listFiles(dir)).filter((name) => /^(packs|points)/.test(name)),
    [],
  );
  store = await openStore(dir, { objects });
  t.true(await holds(store, point, first));
  for await (const event of store.verify({})) t.not(event.type, 'finding');
  await store.close();
});

test('neighbours are read in one go, and once', async (t) => {
  const objects = new MemoryObjectStore();
  const store = await openStore(await newStoreDir(t), { objects });
  const point = await backUp(store, 'disk', null, first);
  await store.nodes(point, [{ level: 1, index: 0 }]); // So that only blocks are read from here on.
  const keys: string[] = [];
  const read = objects.read.bind(objects);
  objects.read = (key, byteOffset, byteLength) => {
    keys.push(key);
    return read(key, byteOffset, byteLength);
  };
  await readBlocks(store, point, [0, 1, 2]);
  t.is(keys.length, 1);
  await store.close();
});

test('a program that is started while a store is open gets none of its files', async (t) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  const { stdout } = spawnSync('ls', ['-l', '/proc/self/fd'], { encoding: 'utf8' });
  await store.close();
  t.regex(stdout, /0 -> /);
  t.false(stdout.includes(dir), stdout);
});

test('a store has one owner', async (t) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  await refused(t, openStore(dir), 'store-locked', new RegExp(`process ${process.pid} has it open`));
  await store.close();
  await store.close();
  await (await openStore(dir)).close();
});

test('a directory that is no store is not opened and not touched; one with things in it is not made one', async (t) => {
  const dir = await tempDir(t);
  await refused(t, openStore(join(dir, 'absent')), 'store-missing');
  await refused(t, openStore(dir), 'store-missing', /no store\.json/);
  t.deepEqual(await listFiles(dir), []);
  await mkdir(join(dir, 'lost+found'));
  await createStore(dir);
  await refused(t, createStore(dir), 'usage', /it already is a store/);
  const full = await tempDir(t);
  await writeFile(join(full, 'letter.txt'), 'x');
  await refused(t, createStore(full), 'usage', /not empty: it has letter\.txt/);
  t.deepEqual(await listFiles(full), ['letter.txt']);
});

test('a store of a later version is refused by name', async (t) => {
  const dir = await newStoreDir(t);
  const text = await readFile(join(dir, 'store.json'), 'utf8');
  await (await openStore(dir)).close();
  for (const name of ['store-copy.json', 'store.json'])
    await writeFile(join(dir, name), text.replace('stillpoint-store 4', 'stillpoint-store 5'));
  await refused(t, openStore(dir), 'version', /format version 5, and this program reads 1 to 4/);
});

test('a sequence is not used again after its point was deleted', async (t) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  await backUp(store, 'disk', null, first);
  await backUp(store, 'disk', first, second);
  await store.close();
  const manifest = join(dir, 'points', 'alpha', 'disk', '0000000002');
  await writeFile(`${manifest}.deleted`, '');
  await rm(manifest);
  const again = await openStore(dir);
  t.deepEqual(
    (await again.points({ agent: 'alpha' })).map(({ sequence }) => sequence),
    [1],
  );
  const third = await backUp(again, 'disk', first, second);
  t.is(third.sequence, 3);
  t.is(third.baseSequence, 1);
  await again.close();
});

test('blocks: at most a batch at once, ascending, there, and not zero', async (t) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  const large = { sizeBytes: 8 * 4 * MiB, blockSize: 4 * MiB };
  const { randomFillSync } = await import('node:crypto');
  const blocks = new Map([0, 1, 2, 3, 4, 5].map((i) => [i, randomFillSync(Buffer.alloc(4 * MiB))] as const));
  const state = { geometry: large, blocks };
  const point = await backUp(store, 'disk', null, { geometry: large, blocks: new Map() });
  const capture = await store.createCapture({
    agent: 'alpha',
    device: 'disk',
    sessionId: 'b'.repeat(32),
    geometry: large,
    identity: point.identity,
    basePointId: point.id,
  });
  const { makeBatch } = await import('../helpers/bytes/hand-made-batch.js');
  const { commitRequest } = await import('../helpers/worlds/store-device.js');
  let sequence = 0;
  for (const [blockIndex, bytes] of blocks) {
    sequence += 1;
    await capture.append(sequence, makeBatch('b'.repeat(32), sequence, [{ blockIndex, bytes }]));
  }
  const full = await capture.commit(commitRequest(state, sequence));
  const answer = await store.blocks(full, [0, 1, 2, 3, 4, 5], (stored) => encodeBlocks(full.id, stored));
  t.is(answeredCount(answer, [0, 1, 2, 3, 4, 5]), 3, 'as many as fit');
  t.true(answer.length <= BATCH_BYTES_MAX);
  t.true(await holds(store, full, state));
  for (const request of [
    [],
    [6],
    [7, 8],
    [1, 1],
    [2, 1],
    [-1],
    [0.5],
    [8],
    Array.from({ length: 4097 }, (_, i) => i),
  ]) {
    await refused(t, readBlocks(store, full, request), 'bad-message');
  }
  for (const node of [
    { level: 0, index: 0 },
    { level: 2, index: 0 },
    { level: 1, index: 1 },
    { level: 1, index: -1 },
    { level: 1.5, index: 0 },
  ]) {
    await refused(t, store.nodes(full, [node]), 'bad-message');
  }
  t.deepEqual(await store.nodes(point, [{ level: 1, index: 0 }]), [Buffer.alloc(0)], 'a null node is empty');
  await store.close();
});

test('an index that its owners keep dying with is not believed any more', async (t) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  const point = await backUp(store, 'disk', null, first);
  await store.close();
  t.false((await listFiles(dir)).includes('index/owners'));
  const open = `
    import { openStore } from ${JSON.stringify(new URL('../../src/store/open.js', import.meta.url).href)};
    await openStore(${JSON.stringify(dir)}, { log: (message) => console.log(message) });
    process.kill(process.pid, 'SIGKILL');`;
  for (let death = 1; death <= 4; death += 1) {
    const child = spawnSync(process.execPath, ['--input-type=module', '-e', open], { encoding: 'utf8' });
    t.is(child.signal, 'SIGKILL', child.stderr);
    t.is(/the last 3 processes that had it open died; it is made again/.test(child.stdout), death === 4);
  }
  const again = await openStore(dir);
  t.true(await holds(again, point, first));
  await again.close();
});

test('closing in the middle of a verify ends it', async (t) => {
  const dir = await newStoreDir(t);
  const store = await openStore(dir);
  await backUp(store, 'disk', null, first);
  const events = store.verify({})[Symbol.asyncIterator]();
  t.is((await events.next()).value.type, 'progress');
  const step = events.next();
  await store.close();
  await step.catch(() => undefined);
  await refused(t, Promise.resolve(events.next()), 'cancelled');
  await refused(t, store.nodes({} as Point, []), 'cancelled');
});

test('the manifests of one agent take bounded memory: then it can begin no session, and others can', async (t) => {
  const dir = await newStoreDir(t);
  let store = await openStore(dir);
  const state = emptyState(geometry);
  const each = 15 * MiB;
  for (let n = 0; n * each < AGENT_MANIFEST_BYTES_MAX; n += 1) {
    const capture = await store.createCapture(describe(`disk${n}`, state, null));
    await capture.commit({ ...commitRequest(state, 0), warnings: ['x'.repeat(each)] });
  }
  const begin = (agent: string) => store.createCapture({ ...describe('more', state, null), agent });
  await refused(t, begin('alpha'), 'too-large', /manifests of its points/);
  await store.close();
  store = await openStore(dir);
  await refused(t, begin('alpha'), 'too-large');
  await begin('beta');
  await store.close();
});
