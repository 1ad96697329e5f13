/**
 * A point that is damaged in the store: it is said before anything is written, or what is whole is restored.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import test, { type ExecutionContext } from 'ava';
import type { OnAgentEvent } from '../../../src/agent/common/events.js';
import { type RestoreOptions, type RestoreResult, runRestore } from '../../../src/agent/restore/restore.js';
import { decodeMark } from '../../../src/devices/facts/half-restored.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { type Point, pointLabel } from '../../../src/domain/point/point.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../../src/native/index.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { flipRecords } from '../../helpers/faults/pack-damage.js';
import { seededRandom } from '../../helpers/seed.js';
import { BackupWorld, BLOCK } from '../../helpers/worlds/backup.js';

const SIZE = 300 * BLOCK - 12_800;
const INDEXES = [...Array.from({ length: 40 }, (_, index) => index), 100, 150, 250, 251, 299];

interface Scene {
  readonly world: BackupWorld;
  readonly point: Point;
  readonly bytes: Buffer;
  readonly target: string;
  restore(options?: Partial<RestoreOptions>): Promise<RestoreResult>;
  /** What the target should hold without these blocks. */
  without(blocks: Iterable<number>): Buffer;
}

async function makeScene(t: ExecutionContext): Promise<Scene> {
  const world = await BackupWorld.make(t);
  await world.makeImage(SIZE, INDEXES);
  const { point } = await world.backup();
  const bytes = await readFile(world.image);
  const target = join(world.directory, 'target.img');
  const { receiver, stateDirectory } = world;
  return {
    ...{ world, point, bytes, target },
    restore: (options = {}) => runRestore({ receiver, point, target, stateDirectory, ...options }),
    without: (blocks) => {
      const left = Buffer.from(bytes);
      for (const block of blocks) left.fill(0, block * BLOCK, Math.min((block + 1) * BLOCK, SIZE));
      return left;
    },
  };
}

const blockOf = (bytes: Buffer, block: number) =>
  bytes.subarray(block * BLOCK, Math.min((block + 1) * BLOCK, SIZE));

async function damage({ world, bytes }: Scene, blocks: readonly number[]): Promise<void> {
  for (const block of blocks)
    await flipRecords(world.store, RECORD_KIND_BLOCK, PLAIN.leafDigest(blockOf(bytes, block)));
}

/** The receiver reads everything back, as a scrub does. */
async function find({ world }: Scene): Promise<void> {
  for await (const _ of world.receiver.verify()) {
    // It marks what it finds.
  }
}

const lostBlocks = ({ lostRanges }: RestoreResult) =>
  lostRanges.map(({ byteOffset, byteLength }) => [
    byteOffset / BLOCK,
    Math.ceil((byteOffset + byteLength) / BLOCK),
  ]);

test('damage that is known is said before the first byte is written, and how much', async (t) => {
  const scene = await makeScene(t);
  const { world, target, restore, bytes } = scene;
  await damage(scene, [3, 4, 299]);
  await find(scene);
  const sizes = `${2 * BLOCK + (SIZE - 299 * BLOCK)} bytes of`;
  const places = `bytes ${3 * BLOCK} to ${5 * BLOCK - 1}, bytes ${299 * BLOCK} to ${SIZE - 1}`;
  const says = new RegExp(`${sizes} it are damaged in the store: ${places}`);
  const expected = { code: 'store-damaged', message: says } as const;
  const errors = [];
  const notices: string[] = [];
  const onEvent: OnAgentEvent = (event) => void (event.type === 'notice' && notices.push(event.text));
  errors.push(await t.throwsAsync(restore({ onEvent }), expected));
  t.deepEqual(notices, [`${sizes} ${pointLabel(scene.point)} are damaged in the store: ${places}`]);
  await t.throwsAsync(readFile(target), { code: 'ENOENT' });
  const output = new PassThrough();
  errors.push(await t.throwsAsync(restore({ target: '-', output }), expected));
  t.is(output.readableLength, 0);
  const old = Buffer.alloc(SIZE, 7);
  await writeFile(target, old);
  errors.push(await t.throwsAsync(restore({ overwrite: true }), expected));
  t.true((await readFile(target)).equals(old));
  for (const error of errors) t.regex((error as StillpointError).message, /Nothing was written.*--skip-bad/);

  // What the target has already is not needed.
  await writeFile(target, scene.without([0, 50]));
  await restore({ overwrite: true, verify: true });
  t.true((await readFile(target)).equals(bytes));
  t.deepEqual(
    (await world.receiver.damage()).map(({ blockCount }) => blockCount),
    [3],
  );
});

for (const isKnown of [true, false]) {
  const what = isKnown ? 'known' : 'found on the way';
  test(`damage that is ${what} is left out: a new image, in place, a stream; and it is healed`, async (t) => {
    const scene = await makeScene(t);
    const { world, target, restore, bytes, without } = scene;
    const lost = [0, 5, 6, 150, 299];
    await damage(scene, lost);
    if (isKnown) await find(scene);
    const expected = without(lost);
    const ranges = [
      [0, 1],
      [5, 7],
      [150, 151],
      [299, 300],
    ];
    const fresh = await restore({ skipBad: true, verify: true });
    t.deepEqual(lostBlocks(fresh), ranges);
    t.true((await readFile(target)).equals(expected));

    for (const fill of [7, 0]) {
      await writeFile(target, Buffer.alloc(SIZE + (fill === 7 ? BLOCK : 0), fill));
      const inPlace = await restore({ skipBad: true, overwrite: true, verify: true });
      t.deepEqual(lostBlocks(inPlace), ranges);
      const held = await readFile(target);
      t.true(held.equals(expected), `in place of ${fill}`);
      t.is(decodeMark(held.subarray(0, 512)), null);
    }
    const output = new PassThrough({ highWaterMark: 2 * SIZE });
    t.deepEqual(lostBlocks(await restore({ skipBad: true, target: '-', output })), ranges);
    t.true((output.read() as Buffer).equals(expected));

    // By now it is known, and the device's next session heals it; its own points are whole again.
    t.is((await world.receiver.damage())[0]?.blockCount, lost.length);
    await world.backup();
    t.deepEqual(await world.receiver.damage(), []);
    const added = await restore({ overwrite: true, verify: true });
    t.true((await readFile(target)).equals(bytes));
    t.deepEqual(added.lostRanges, []);
    t.is(
      added.differingBytes,
      lost.reduce((sum, block) => sum + blockOf(bytes, block).length, 0),
      'only what was missing',
    );
    // And the device is still the last point's: nothing was believed of the target.
    const again = await world.backup();
    t.is(again.point.statistics.changedBytes, 0);
  });
}

/** It can't read a node of level 1, so nothing below it, and remembers nothing of that. */
function withoutNode(inner: ReceiverPort, node: number): ReceiverPort {
  const lost = () =>
    Promise.reject(new StillpointError('store-damaged', { thing: 'a node', reason: 'its read failed' }));
  return {
    ...inner,
    nodes: (id, requests) =>
      requests.some(({ level, index }) => level === 1 && index === node) ? lost() : inner.nodes(id, requests),
    blocks: (id, blocks) =>
      blocks.some((block) => Math.floor(block / 64) === node) ? lost() : inner.blocks(id, blocks),
  };
}

test('a part of the tree that is damaged takes what is below it, and no more; the local tree stays', async (t) => {
  const scene = await makeScene(t);
  const { world, target, restore, point, without } = scene;
  const localTree = await readFile(join(world.deviceState, 'tree'));
  const [node = Buffer.alloc(0)] = await nodesOf(world.receiver, point, 1, 0);
  await flipRecords(world.store, RECORD_KIND_NODE, PLAIN.nodeDigest(node));
  await damage(scene, [250]);
  await find(scene);
  const expected = without([...Array.from({ length: 64 }, (_, i) => i), 250]);
  await t.throwsAsync(restore(), { code: 'store-damaged' });
  for (const stateDirectory of [world.stateDirectory, null]) {
    for (const fill of [null, 9]) {
      await (fill === null ? rm(target, { force: true }) : writeFile(target, Buffer.alloc(SIZE, fill)));
      const options = { skipBad: true, overwrite: true, verify: true, stateDirectory } as const;
      const result = await restore({ ...options, receiver: withoutNode(world.receiver, 0) });
      // The local tree says which of them are zero. A new image is made without it.
      const end = stateDirectory !== null && fill !== null ? 40 : 64;
      t.deepEqual(lostBlocks(result), [
        [0, end],
        [250, 251],
      ]);
      t.true((await readFile(target)).equals(expected), `fill ${fill}`);
    }
  }
  t.deepEqual(await readFile(join(world.deviceState, 'tree')), localTree);
});

test('a target keeps what it provably has of what is damaged, and only that', async (t) => {
  const scene = await makeScene(t);
  const { world, target, restore, bytes } = scene;
  await damage(scene, [100, 250, 251]);
  const receiver = withoutNode(world.receiver, 0);
  const options = { receiver, skipBad: true, overwrite: true, verify: true } as const;
  const changed = (blocks: readonly number[]) => {
    const copy = Buffer.from(bytes);
    for (const block of blocks) copy.fill(9, block * BLOCK, block * BLOCK + 512);
    return copy;
  };
  for (const when of ['found on the way', 'known']) {
    if (when === 'known') await find(scene);
    for (const stateDirectory of [world.stateDirectory, null]) {
      await writeFile(target, changed([150, 251]));
      const whole = await restore({ ...options, stateDirectory });
      t.deepEqual(lostBlocks(whole), [[251, 252]], when);
      t.true((await readFile(target)).equals(scene.without([251])), when);
    }
    // What is below the node can be proven as a whole only; a local tree would have its leaves.
    await writeFile(target, changed([7]));
    const part = await restore({ ...options, stateDirectory: null });
    t.deepEqual(lostBlocks(part), [[0, 64]], when);
    t.true((await readFile(target)).equals(scene.without(Array.from({ length: 64 }, (_, i) => i))), when);
  }
});

test('a top of the tree that is damaged leaves nothing to restore, and nothing is written', async (t) => {
  const scene = await makeScene(t);
  const { world, target, restore, point } = scene;
  await flipRecords(world.store, RECORD_KIND_NODE, Buffer.from(point.top, 'hex'));
  await find(scene);
  const old = Buffer.alloc(SIZE, 7);
  await writeFile(target, old);
  await t.throwsAsync(restore({ skipBad: true, overwrite: true }), {
    code: 'store-damaged',
    message: /nothing of it can be proven.*Restore another point/,
  });
  t.true((await readFile(target)).equals(old));
  await writeFile(target, scene.bytes);
  const { lostRanges } = await restore({ skipBad: true, overwrite: true });
  t.deepEqual(lostRanges, [], 'but a target that is the point already is left as it is');
});

test('one that is interrupted goes on, and ends with the same bytes', async (t) => {
  const scene = await makeScene(t);
  const random = seededRandom(t);
  const { world, target, restore, without } = scene;
  await damage(scene, [1, 39, 251]);
  const expected = without([1, 39, 251]);
  for (const fill of [null, 3]) {
    await (fill === null ? rm(target, { force: true }) : writeFile(target, Buffer.alloc(SIZE, fill)));
    let left = random.below(2);
    const failing: ReceiverPort = {
      ...world.receiver,
      blocks: (...args) => {
        left -= 1;
        if (left < 0) throw new StillpointError('internal', { thing: 'a test', reason: 'it ends here' });
        return world.receiver.blocks(...args);
      },
    };
    await t.throwsAsync(restore({ receiver: failing, skipBad: true, overwrite: true }), { code: 'internal' });
    const result = await restore({ skipBad: true, overwrite: true, verify: true });
    t.deepEqual(lostBlocks(result), [
      [1, 2],
      [39, 40],
      [251, 252],
    ]);
    t.true((await readFile(target)).equals(expected), `fill ${fill}`);
  }
});

async function nodesOf(
  receiver: ReceiverPort,
  point: Point,
  level: number,
  index: number,
): Promise<Buffer[]> {
  const body = Buffer.from(await receiver.nodes(point.id, [{ level, index }]));
  return [body.subarray(4, 4 + body.readUInt32LE(0))];
}
