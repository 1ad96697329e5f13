import { copyFile, readdir, readFile, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { DeviceState, deviceStateDirectory } from '../../../src/agent/state/device-state.js';
import { type ErrorCode, StillpointError } from '../../../src/domain/base/errors.js';
import { native } from '../../../src/native/index.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { leafOf, makeTree } from '../../helpers/bytes/trees.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';

const BLOCK = 65_536;
const GEOMETRY = { sizeBytes: 200 * BLOCK - 100, blockSize: BLOCK };
const KEY = { storeId: '5'.repeat(32), agent: 'local', device: 'disk1' };
const [OLD, NEW] = ['a'.repeat(32), 'b'.repeat(32)];

interface World {
  readonly stateDirectory: string;
  /** Of the device. */
  readonly directory: string;
}

/** At rest with the tree of point OLD. */
async function atRest(t: ExecutionContext): Promise<World> {
  const stateDirectory = await temporaryDirectory(t, 'state');
  const state = await DeviceState.open(stateDirectory, KEY, PLAIN);
  await state.replaceTree((path) => makeTree(path, GEOMETRY, new Map([[3, leafOf('old 3')]]), OLD));
  await state.close();
  return { stateDirectory, directory: deviceStateDirectory(stateDirectory, KEY) };
}

/** Goes through a session up to the sealed overlay of point NEW. @returns its root. */
async function sealedSession(state: DeviceState): Promise<string> {
  const { tree } = state;
  if (tree === null) throw new Error('no tree');
  const overlay = await state.newOverlay(tree);
  overlay.put(3, leafOf('new 3'));
  overlay.put(199, leafOf('new 199'));
  const root = (await tree.rootWith(overlay)).toString('hex');
  await state.seal(NEW, root);
  return root;
}

async function inState<T>(world: World, work: (state: DeviceState) => Promise<T>): Promise<T> {
  const state = await DeviceState.open(world.stateDirectory, KEY, PLAIN);
  try {
    return await work(state);
  } finally {
    await state.close();
  }
}

const filesOf = async ({ directory }: World) => (await readdir(directory)).sort();

test('a commit moves the tree from one point to the next, and nothing else stays', async (t) => {
  const world = await atRest(t);
  const root = await inState(world, async (state) => {
    const sealed = await sealedSession(state);
    await state.commit();
    return sealed;
  });
  t.deepEqual(await filesOf(world), ['lock', 'tree']);
  await inState(world, async (state) => {
    t.like(state.local, { tree: { pointId: NEW, root, geometry: GEOMETRY }, pending: null, problem: null });
    t.deepEqual(state.tree?.leaves(3, 1), leafOf('new 3'));
    t.deepEqual(state.tree?.leaves(199, 1), leafOf('new 199'));
  });
});

test('killed while scanning: the old tree, the overlay gone', async (t) => {
  const world = await atRest(t);
  await inState(world, async (state) => {
    if (state.tree !== null) (await state.newOverlay(state.tree)).put(5, leafOf('never'));
  });
  t.deepEqual(await filesOf(world), ['lock', 'overlay', 'tree']);
  await inState(world, async (state) => t.like(state.local, { tree: { pointId: OLD }, pending: null }));
  t.deepEqual(await filesOf(world), ['lock', 'tree']);
});

test('killed around the receiver’s commit: both answers remain possible', async (t) => {
  const world = await atRest(t);
  const root = await inState(world, sealedSession);
  await inState(world, async (state) => {
    t.like(state.local, { tree: { pointId: OLD }, pending: { pointId: NEW, root } });
    // The receiver has not committed it: the next session starts over.
    await state.discardOverlay();
    t.like(state.local, { tree: { pointId: OLD }, pending: null });
    await sealedSession(state);
  });
  await inState(world, async (state) => {
    // The receiver has committed it.
    await state.commit();
    t.like(state.local, { tree: { pointId: NEW, root }, pending: null });
    t.true(await state.tree?.verify());
  });
});

test('killed after the rename to `committed`, before or in the middle of the apply, or after it', async (t) => {
  for (const progress of ['before', 'middle', 'after'] as const) {
    const world = await atRest(t);
    const root = await inState(world, sealedSession);
    const path = (name: string) => join(world.directory, name);
    await rename(path('overlay'), path('committed'));
    if (progress !== 'before') {
      await copyFile(path('committed'), path('kept'));
      const before = await readFile(path('tree'));
      await inState(world, async () => undefined);
      const after = await readFile(path('tree'));
      // Old header and new leaves, as a kill between the two syncs leaves it.
      if (progress === 'middle')
        await writeFile(path('tree'), Buffer.concat([before.subarray(0, 512), after.subarray(512)]));
      await rename(path('kept'), path('committed'));
    }
    await inState(world, async (state) => {
      t.like(state.local, { tree: { pointId: NEW, root }, pending: null, problem: null }, progress);
      t.true(await state.tree?.verify());
    });
    t.deepEqual(await filesOf(world), ['lock', 'tree']);
  }
});

test('a tree that was being made is debris', async (t) => {
  const world = await atRest(t);
  await writeFile(join(world.directory, 'tree.new'), 'x');
  await writeFile(join(world.directory, 'tree.new.overlay'), 'x');
  await inState(world, async (state) => t.like(state.local, { tree: { pointId: OLD } }));
  t.deepEqual(await filesOf(world), ['lock', 'tree']);
});

test('a flipped bit anywhere in the tree is found, and the tree dropped', async (t) => {
  const world = await atRest(t);
  const path = join(world.directory, 'tree');
  const good = await readFile(path);
  const leaf = good.indexOf(leafOf('old 3'));
  const node = good.indexOf(PLAIN.nodeDigest(Buffer.concat([Buffer.alloc(96), leafOf('old 3')])));
  t.true(leaf > 0 && node > leaf);
  for (const at of [0, 9, 30, leaf, node]) {
    const bad = Buffer.from(good);
    bad[at] = (bad[at] ?? 0) ^ 0x10;
    await writeFile(path, bad);
    await inState(world, async (state) => {
      t.is(state.local.tree, null, `byte ${at}`);
      t.regex(state.local.problem ?? '', /^the local tree (is damaged|can't be used: )/);
    });
    t.deepEqual(await filesOf(world), ['lock']);
  }
});

test('a damaged overlay never reaches the tree', async (t) => {
  const world = await atRest(t);
  await inState(world, sealedSession);
  const overlay = join(world.directory, 'overlay');
  const bytes = await readFile(overlay);
  const leaf = bytes.indexOf(leafOf('new 3'));
  bytes[leaf] = (bytes[leaf] ?? 0) ^ 1;
  await writeFile(overlay, bytes);
  await inState(world, async (state) => t.like(state.local, { tree: { pointId: OLD }, pending: null }));
  await writeFile(join(world.directory, 'committed'), bytes);
  await inState(world, async (state) => t.is(state.local.tree, null));
  t.deepEqual(await filesOf(world), ['lock']);
});

test('an overlay without its tree is debris', async (t) => {
  const world = await atRest(t);
  await inState(world, sealedSession);
  await rm(join(world.directory, 'tree'));
  await inState(world, async (state) =>
    t.deepEqual(state.local, { tree: null, pending: null, problem: null }),
  );
});

test('one at a time, and names can not leave the directory', async (t) => {
  const { stateDirectory } = await atRest(t);
  const state = await DeviceState.open(stateDirectory, KEY, PLAIN);
  const refused = async (key: typeof KEY, code: ErrorCode) => {
    const error = await t.throwsAsync(DeviceState.open(stateDirectory, key, PLAIN), {
      instanceOf: StillpointError,
    });
    t.is((error as StillpointError | undefined)?.code, code);
  };
  await refused(KEY, 'session-busy');
  await (await DeviceState.open(stateDirectory, { ...KEY, device: 'disk2' }, PLAIN)).close();
  await state.close();
  await (await DeviceState.open(stateDirectory, KEY, PLAIN)).close();
  await refused({ ...KEY, device: '../disk1' }, 'bad-name');
  await refused({ ...KEY, storeId: '..' }, 'bad-name');
  await refused({ ...KEY, agent: '/' }, 'bad-name');
});

test('a resized tree is of no point, until its session is committed', async (t) => {
  const world = await atRest(t);
  await inState(world, async (state) => {
    const { tree } = state;
    if (tree === null) return t.fail();
    const resized = await state.replaceTree((path) => native.resizeTree(tree, path, 400 * BLOCK));
    t.is(resized.generation.pointId, '0'.repeat(32));
    t.deepEqual(resized.leaves(3, 1), leafOf('old 3'));
    await sealedSession(state);
    await state.commit();
    t.like(state.local, { tree: { pointId: NEW, geometry: { sizeBytes: 400 * BLOCK } } });
  });
});
