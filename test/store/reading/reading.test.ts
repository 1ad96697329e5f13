/**
 * A store that is read without being owned: with its index or without, beside its owner,
 * and leaving nothing behind.
 */
import { readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { RECORD_KIND_BLOCK } from '../../../src/native/index.js';
import { createStore, openStore, openStoreForReading } from '../../../src/store/open.js';
import type { Store } from '../../../src/store/port/store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { listFiles } from '../../helpers/faults/disk.js';
import { flipRecords } from '../../helpers/faults/pack-damage.js';
import { backup, makeMachine, runExpecting, start } from '../../helpers/machines/stillpoint.js';
import {
  backUp,
  change,
  changesBetween,
  describe,
  emptyState,
  holds,
  leavesOf,
  sendChanges,
} from '../../helpers/worlds/store-device.js';

const geometry = { sizeBytes: 200 * 64 * KiB - 100, blockSize: 64 * KiB };
const first = change(emptyState(geometry), [
  [0, 1],
  [100, 3],
  [199, 4],
]);
const second = change(first, [
  [1, 5],
  [150, 10],
]);

interface World {
  readonly dir: string;
  readonly points: readonly [Point, Point];
}

async function makeWorld(t: ExecutionContext): Promise<World> {
  const dir = await tempDir(t);
  await createStore(dir);
  const store = await openStore(dir);
  const points = [
    await backUp(store, 'disk', null, first),
    await backUp(store, 'disk', first, second),
  ] as const;
  await store.close();
  return { dir, points };
}

async function checkReader(
  t: ExecutionContext,
  store: Store,
  { points }: World,
  what: string,
): Promise<void> {
  t.deepEqual(await store.points({}), [...points], what);
  t.true(await holds(store, points[0], first), what);
  t.true(await holds(store, points[1], second), what);
  for await (const event of store.verify({})) t.not(event.type, 'finding', what);
  for await (const event of store.check(points[1], [[0, 200]])) t.not(event.type, 'damaged', what);
}

/** Names, sizes and times. LMDB's own lock is left out: there readers say which pages they read. */
async function stateOf(dir: string): Promise<string[]> {
  const states = (await listFiles(dir))
    .filter((name) => name !== 'index/lock.mdb')
    .map(async (name) => {
      const { size, mtimeMs, ino } = await stat(join(dir, name));
      return `${name} ${size} ${mtimeMs} ${ino}`;
    });
  return Promise.all(states);
}

async function scratchCount(storeId: string): Promise<number> {
  const names = await readdir(tmpdir());
  return names.filter((name) => name.startsWith(`stillpoint-reading-${storeId.slice(0, 16)}`)).length;
}

const HARMS: readonly (readonly [string, (index: string) => Promise<void>])[] = [
  ['whole', async () => undefined],
  ['gone', (index) => rm(index, { recursive: true })],
  ['no index', (index) => writeFile(join(index, 'data.mdb'), Buffer.alloc(100_000, 'x'))],
  ['empty', (index) => writeFile(join(index, 'data.mdb'), '')],
  [
    'cut short',
    async (index) => {
      const path = join(index, 'data.mdb');
      await writeFile(path, (await readFile(path)).subarray(0, 20_000));
    },
  ],
  ['one that owners died of', (index) => writeFile(join(index, 'owners'), '4')],
];

for (const [name, harm] of HARMS) {
  test(`a reader gives every point, and changes nothing, with an index that is: ${name}`, async (t) => {
    const world = await makeWorld(t);
    await harm(join(world.dir, 'index'));
    const before = await stateOf(world.dir);
    const messages: string[] = [];
    const store = await openStoreForReading(world.dir, { log: (message) => messages.push(message) });
    await checkReader(t, store, world, name);
    t.is(await scratchCount(store.storeId), 1);
    await store.close();
    t.is(await scratchCount(store.storeId), 0, 'its own index is removed');
    t.deepEqual(await stateOf(world.dir), before);
    t.is(
      messages.filter((message) => message.includes('one is made for this command')).length,
      name === 'whole' ? 0 : 1,
    );
  });
}

test('an index of another store, or of an older state of this one, is not enough', async (t) => {
  const world = await makeWorld(t);
  const other = await makeWorld(t);
  const path = join(world.dir, 'index', 'data.mdb');
  await writeFile(path, await readFile(join(other.dir, 'index', 'data.mdb')));
  const reader = await openStoreForReading(world.dir);
  await checkReader(t, reader, world, 'of another store');
  await reader.close();
  const owner = await openStore(world.dir);
  await owner.close();
  const old = await readFile(path);
  const again = await openStore(world.dir);
  const third = change(second, [[30, 77]]);
  const point = await backUp(again, 'disk', second, third);
  await again.close();
  await writeFile(path, old);
  const behind = await openStoreForReading(world.dir);
  t.true(await holds(behind, point, third));
  await behind.close();
});

test('what a reader finds damaged is remembered: the next session is not built on it', async (t) => {
  const { dir, points } = await makeWorld(t);
  const [digest = Buffer.alloc(0)] = leavesOf(second).values();
  await flipRecords(dir, RECORD_KIND_BLOCK, digest);
  const reader = await openStoreForReading(dir);
  let findingCount = 0;
  for await (const event of reader.verify({})) if (event.type === 'finding') findingCount += 1;
  t.true(findingCount > 0);
  await reader.close();
  const owner = await openStore(dir);
  t.is(await owner.baseFor({ agent: 'alpha', device: 'disk' }), null);
  t.is((await owner.points({ agent: 'alpha' })).length, points.length);
  await owner.close();
});

test('sessions that are open are listed from their files, as their owner lists them', async (t) => {
  const dir = await tempDir(t);
  await createStore(dir);
  const owner = await openStore(dir, { packBytesTarget: 300 * KiB });
  const point = await backUp(owner, 'disk', null, first);
  const capture = await owner.createCapture(describe('disk', second, point.id));
  await sendChanges(
    capture,
    changesBetween(
      first,
      change(first, [
        [3, 31],
        [4, 32],
        [5, 33],
        [6, 34],
        [7, 35],
        [8, 36],
        [9, 37],
      ]),
    ),
    2,
  );
  const ended = await owner.createCapture(describe('other', second, null));
  await sendChanges(ended, changesBetween(null, change(emptyState(geometry), [[2, 222]])));
  await ended.abort();
  const listed = await owner.partialSets({ agent: 'alpha' });
  await owner.close();
  const reader = await openStoreForReading(dir);
  const lessExact = (sets: typeof listed) => sets.map(({ lastActivityAt, expiresAt, ...set }) => set);
  t.deepEqual(lessExact(await reader.partialSets({ agent: 'alpha' })), lessExact(listed));
  t.deepEqual(
    (await reader.partialSets({})).map(({ agent, device, state }) => [agent, device, state]),
    [
      ['alpha', 'disk', 'open'],
      ['alpha', 'other', 'ended'],
    ],
  );
  for await (const event of reader.verify({})) t.not(event.type, 'finding');
  await reader.close();
});

test('a reader goes on while another process makes points, makes the index anew, and makes it grow', async (t) => {
  const machine = await makeMachine(t);
  const world = await makeWorld(t);
  const image = join(machine.directory, 'image');
  const { randomBytes } = await import('node:crypto');
  const reader = await openStoreForReading(world.dir);
  t.true(await holds(reader, world.points[0], first), 'its index is open');
  await writeFile(image, randomBytes(12_000 * KiB));
  await backup(t, machine, world.dir, image, '--name', 'image', '--block-size', '4K');
  await checkReader(t, reader, world, 'after one that grew');
  await rm(join(world.dir, 'index'), { recursive: true });
  await backup(t, machine, world.dir, image, '--name', 'image');
  await checkReader(t, reader, world, 'after one that was made anew');
  await reader.close();
});

test('commands that died with an index are remembered: the third one makes its own', async (t) => {
  const machine = await makeMachine(t);
  const world = await makeWorld(t);
  const env = { ...machine.env, TMPDIR: machine.directory };
  for (let round = 0; round < 2; round += 1) {
    // A process that reads the index until it is killed.
    const script = `import { openStoreForReading } from ${JSON.stringify(new URL('../../../src/store/open.js', import.meta.url).href)};
      const store = await openStoreForReading(${JSON.stringify(world.dir)});
      const [point] = await store.points({});
      await store.nodes(point, [{ level: 1, index: 0 }]);
      process.kill(process.pid, 'SIGKILL');`;
    const { spawnSync } = await import('node:child_process');
    const { signal, stderr } = spawnSync(process.execPath, ['--input-type=module', '-e', script], {
      env,
      encoding: 'utf8',
    });
    t.is(signal, 'SIGKILL', stderr);
  }
  const verify = () => runExpecting(t, { ...machine, env }, 0, 'verify', '--store', world.dir);
  t.regex((await verify()).stderr, /commands that read it died; one is made for this command/);
  const image = join(machine.directory, 'image');
  await writeFile(image, Buffer.alloc(100_000, 'a'));
  await backup(t, machine, world.dir, image);
  t.notRegex((await verify()).stderr, /one is made for this command/, 'another index is believed again');
  t.deepEqual(
    (await readdir(machine.directory)).filter((name) => name.startsWith('stillpoint-reading')),
    [],
  );
});

test('reading, and a second backup, beside a command that has the store open', async (t) => {
  const machine = await makeMachine(t);
  const { dir } = await makeWorld(t);
  const image = join(machine.directory, 'image');
  await writeFile(image, Buffer.alloc(300_000, 'b'));
  const owner = await openStore(dir);
  const capture = await owner.createCapture(
    describe('disk', second, (await owner.points({}))[1]?.id ?? null),
  );
  await sendChanges(capture, changesBetween(second, change(second, [[9, 9]])));
  for (const args of [
    ['points'],
    ['points', '--partial'],
    ['verify'],
    ['restore', 'alpha/disk@1', join(machine.directory, 'out')],
    ['diff', 'disk@1', 'disk@2'],
  ])
    await runExpecting(t, machine, 0, ...args, '--store', dir);
  const waiting = start(machine, ['backup', image, '--name', 'mine', '--store', dir]);
  let told = '';
  await new Promise<void>((resolve) =>
    waiting.stderr?.on('data', (chunk: Buffer) => {
      told += chunk.toString();
      if (told.includes('waits until it has ended')) resolve();
    }),
  );
  t.true(told.includes(`process ${process.pid} has it open`), told);
  const interrupted = start(machine, ['backup', image, '--name', 'never', '--store', dir]);
  await new Promise((resolve) => interrupted.stderr?.once('data', resolve));
  interrupted.kill('SIGINT');
  await new Promise((resolve) => interrupted.once('close', resolve));
  t.not(interrupted.exitCode, 0);
  t.is(waiting.exitCode, null);
  await owner.close();
  const [code] = await new Promise<[number | null]>((resolve) =>
    waiting.once('close', (ended) => resolve([ended])),
  );
  t.is(code, 0, told);
  t.is(told.match(/waits until it has ended/g)?.length, 1);
  const listed = await runExpecting(t, machine, 0, 'points', '--store', dir);
  t.regex(listed.stdout, /^mine@1 /m);
  t.notRegex(listed.stdout, /never/);
});
