/**
 * Random histories of one device: written, resized, backed up over links that are cut at random messages,
 * its local tree lost, damaged or taken back, its receiver stopped or put back to an older copy of its
 * store. A model knows all bytes. In between, comparisons in every mode name exactly the blocks that
 * differ from any point; the root of every point is that of the device's bytes at the instant, computed
 * here from the definition.
 */
import { cp, mkdir, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { runBackup } from '../../src/agent/backup/backup.js';
import type { BackupResult } from '../../src/agent/backup/options.js';
import { runCompare } from '../../src/agent/compare/compare.js';
import { runRestore } from '../../src/agent/restore/restore.js';
import { isStillpointError, StillpointError } from '../../src/domain/base/errors.js';
import { DIGEST_BYTES, KiB, TREE_FANOUT } from '../../src/domain/base/limits.js';
import { blockCount, blockLength, type Geometry } from '../../src/domain/blocks/geometry.js';
import type { Point } from '../../src/domain/point/point.js';
import { DIRECTIONS } from '../../src/domain/session/compare-direction.js';
import { createMemoryDevice } from '../../src/native/testing.js';
import type { ReceiverPort } from '../../src/protocol/port/receiver.js';
import { openEmbeddedReceiver } from '../../src/receiver/embedded.js';
import { createStore, openStore } from '../../src/store/open.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { stampedBlock } from '../helpers/bytes/stamped-blocks.js';
import { filesBelow, flipBit } from '../helpers/disks/images.js';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';
import { LONG, type Random, seededRandom } from '../helpers/seed.js';
import { faultyReceiver, providerOf } from '../helpers/worlds/backup.js';

const HISTORIES = LONG ? 500 : 12;
const OPERATIONS = 14;
const BLOCK = 4 * KiB;
const DEVICE = 'disk';
const BLOCKS_MAX = 300;

/** From the definition in docs/format.md section 1, over all leaves. */
function rootOf(bytes: Buffer): string {
  const size: Geometry = { sizeBytes: bytes.length, blockSize: BLOCK };
  let level: Buffer[] = Array.from({ length: blockCount(size) }, (_, index) =>
    PLAIN.leafDigest(bytes.subarray(index * BLOCK, index * BLOCK + blockLength(size, index))),
  );
  do {
    level = Array.from({ length: Math.max(1, Math.ceil(level.length / TREE_FANOUT)) }, (_, index) =>
      PLAIN.nodeDigest(Buffer.concat(level.slice(index * TREE_FANOUT, (index + 1) * TREE_FANOUT))),
    );
  } while (level.length > 1);
  return PLAIN.rootDigest(bytes.length, BLOCK, level[0] ?? Buffer.alloc(DIGEST_BYTES)).toString('hex');
}

/**
 * Blocks that differ, counted by hand; what lies beyond the shorter one's whole blocks is the same
 * only where both are zero.
 */
function differing(device: Buffer, point: Buffer): number[] {
  const count = Math.ceil(Math.max(device.length, point.length) / BLOCK);
  const leaf = (bytes: Buffer, index: number) =>
    PLAIN.leafDigest(bytes.subarray(index * BLOCK, (index + 1) * BLOCK));
  return Array.from({ length: count }, (_, index) => index).filter(
    (index) => !leaf(device, index).equals(leaf(point, index)),
  );
}

class World {
  readonly history: string[] = [];
  /** What the points hold, by id. */
  readonly states = new Map<string, Buffer>();
  readonly store: string;
  readonly stateDirectory: string;
  device: Buffer;
  receiver: ReceiverPort | null = null;
  generation = 0;
  /** The store may lack points that were acknowledged: that is accepted, and only then. */
  isRewound = false;
  copies = 0;

  constructor(
    readonly t: ExecutionContext,
    readonly random: Random,
    readonly directory: string,
  ) {
    this.store = join(directory, 'store');
    this.stateDirectory = join(directory, 'state');
    this.device = Buffer.alloc(1 + random.below(BLOCKS_MAX * BLOCK));
  }

  async port(): Promise<ReceiverPort> {
    this.receiver ??= await openEmbeddedReceiver(this.store, { openStore });
    return this.receiver;
  }

  async stopReceiver(): Promise<void> {
    await this.receiver?.close();
    this.receiver = null;
  }

  async points(): Promise<Point[]> {
    return (await this.port()).points(DEVICE);
  }

  /** A device in memory with the model's bytes: nothing to be known of it but what it holds. */
  async provider() {
    const device = createMemoryDevice(this.device.length);
    await device.write(0, this.device);
    return { provider: providerOf(device), close: () => device.close() };
  }

  async backup(receiver: ReceiverPort, compare: boolean): Promise<BackupResult> {
    const { provider, close } = await this.provider();
    try {
      const result = await runBackup({
        ...{ receiver, path: '/memory', device: DEVICE, stateDirectory: this.stateDirectory, provider },
        ...{ blockSize: BLOCK, compare, patienceMs: 0, acceptStore: this.isRewound },
      });
      this.isRewound = false;
      return result;
    } finally {
      await close();
    }
  }

  /** All points are known, or there is one new one, which is of the device as it is. */
  async settle(committed: Point | null): Promise<void> {
    const points = await this.points();
    const unknown = points.filter(({ id }) => !this.states.has(id));
    if (unknown.length > 1) throw new Error(`${unknown.length} new points`);
    for (const point of unknown) {
      if (point.root !== rootOf(this.device))
        throw new Error(`${point.sequence}: not the root of the device`);
      this.states.set(point.id, Buffer.from(this.device));
    }
    if (committed !== null && !points.some(({ id }) => id === committed.id))
      throw new Error('an acknowledged point is not there');
  }

  async trees(): Promise<string[]> {
    return (await filesBelow(this.stateDirectory).catch(() => [])).filter((path) => path.endsWith('/tree'));
  }
}

/** Fails from the nth call on, before the receiver has worked or after, for a while or for good. */
function cutLink(receiver: ReceiverPort, random: Random): ReceiverPort {
  const lost = new StillpointError('connection-lost', {
    ...{ thing: 'link', reason: 'it was cut', permanent: false },
  });
  let left = random.below(14);
  const side = random.pick(['before', 'after'] as const);
  const sessionMessages = new Set(['begin', 'have', 'batch', 'status', 'commit', 'nodes', 'compareNodes']);
  return faultyReceiver(receiver, (method) => {
    // Questions that belong to no session are asked again for minutes: those are not what this is about.
    if (!sessionMessages.has(method) || method === 'nodes' || method === 'compareNodes') return null;
    left -= 1;
    return left < 0 ? { [side]: lost } : null;
  });
}

type Operation = (world: World) => Promise<void>;

const ACTIONS: Readonly<Record<string, { readonly weight: number; readonly act: Operation }>> = {
  write: {
    weight: 10,
    act: async (world) => {
      const { random, device } = world;
      world.generation += 1;
      for (let n = 1 + random.below(5); n > 0 && device.length > 0; n -= 1) {
        const from = random.below(device.length);
        const length = Math.min(device.length - from, random.pick([1, 512, BLOCK, 9 * BLOCK]));
        if (random.below(4) === 0) device.fill(0, from, from + length);
        else {
          const stamp = { seed: random.seed, blockIndex: random.below(9999), generation: world.generation };
          stampedBlock(stamp, Math.max(length, 64)).copy(device, from, 0, length);
        }
      }
    },
  },
  resize: {
    weight: 2,
    act: async (world) => {
      const resized = Buffer.alloc(world.random.below(BLOCKS_MAX * BLOCK));
      world.device.copy(resized);
      world.device = resized;
    },
  },
  backup: {
    weight: 5,
    act: async (world) => {
      const { point } = await world.backup(await world.port(), false);
      await world.settle(point);
    },
  },
  cut: {
    weight: 6,
    act: async (world) => {
      const receiver = cutLink(await world.port(), world.random);
      let committed: Point | null = null;
      try {
        committed = (await world.backup(receiver, false)).point;
      } catch (error) {
        if (!isStillpointError(error)) throw error;
      }
      await world.settle(committed);
    },
  },
  ship: {
    weight: 2,
    act: async (world) => {
      const { point } = await world.backup(await world.port(), true);
      await world.settle(point);
    },
  },
  stopReceiver: { weight: 3, act: (world) => world.stopReceiver() },
  loseTree: {
    weight: 2,
    act: async (world) => {
      for (const path of await world.trees()) await rm(path);
    },
  },
  damageTree: {
    weight: 2,
    act: async (world) => {
      for (const path of await world.trees()) {
        if (world.random.below(2) === 0) await flipBit(path, world.random);
        else await truncate(path, world.random.below(20_000));
      }
    },
  },
  rewindTree: {
    weight: 2,
    act: async (world) => {
      const kept = join(world.directory, 'kept-tree');
      const [path] = await world.trees();
      if (path === undefined) return;
      if ((await readdir(world.directory)).includes('kept-tree') && world.random.below(2) === 0)
        await cp(kept, path);
      else await cp(path, kept);
    },
  },
  loseState: {
    weight: 1,
    act: (world) => rm(world.stateDirectory, { recursive: true, force: true }),
  },
  copyStore: {
    weight: 2,
    act: async (world) => {
      await world.stopReceiver();
      await rm(join(world.directory, 'copy'), { recursive: true, force: true });
      await cp(world.store, join(world.directory, 'copy'), { recursive: true });
    },
  },
  rewindStore: {
    weight: 2,
    act: async (world) => {
      if (!(await readdir(world.directory)).includes('copy')) return;
      await world.stopReceiver();
      world.isRewound = true;
      await rm(world.store, { recursive: true });
      await cp(join(world.directory, 'copy'), world.store, { recursive: true });
    },
  },
  compare: {
    weight: 8,
    act: async (world) => {
      const points = await world.points();
      if (points.length === 0) return;
      const point = world.random.pick(points);
      const direction = world.random.pick(DIRECTIONS);
      const deep = world.random.below(3) === 0;
      const count = Math.ceil(Math.max(world.device.length, point.geometry.sizeBytes) / BLOCK);
      const cut = world.random.below(count + 1);
      const byteRanges =
        world.random.below(3) === 0 && cut < count ? [[cut * BLOCK, count * BLOCK] as const] : undefined;
      const { provider, close } = await world.provider();
      const found = await runCompare({
        ...{ receiver: await world.port(), point, path: '/memory', stateDirectory: world.stateDirectory },
        ...{ provider, direction, deep, byteRanges },
      }).finally(close);
      const expected = differing(world.device, world.states.get(point.id) as Buffer).filter(
        (index) => byteRanges === undefined || index >= cut,
      );
      const listed = [...found.differing.ranges()].flatMap(([start, end]) =>
        Array.from({ length: end - start }, (_, i) => start + i),
      );
      if (listed.join() !== expected.join())
        throw new Error(
          `${direction}: ${listed.join()} differ from @${point.sequence}, and not ${expected.join()}`,
        );
      if (found.damaged.length > 0) throw new Error('the receiver calls whole blocks damaged');
    },
  },
  restore: {
    weight: 3,
    act: async (world) => {
      const points = await world.points();
      if (points.length === 0) return;
      const point = world.random.pick(points);
      const target = join(world.directory, 'restored');
      const receiver = await world.port();
      await writeFile(target, Buffer.alloc(point.geometry.sizeBytes, 0x5a));
      await runRestore({
        ...{ receiver, point, target, stateDirectory: world.stateDirectory, overwrite: true, verify: true },
      });
      await rm(target);
    },
  },
};

function choose(random: Random): string {
  let left = random.below(Object.values(ACTIONS).reduce((sum, { weight }) => sum + weight, 0));
  for (const [name, { weight }] of Object.entries(ACTIONS)) {
    left -= weight;
    if (left < 0) return name;
  }
  return 'write';
}

async function runHistory(t: ExecutionContext, random: Random, directory: string): Promise<number> {
  await mkdir(directory);
  const world = new World(t, random, directory);
  await createStore(world.store);
  try {
    for (let number = 0; number < OPERATIONS; number += 1) {
      const name = number === 0 ? 'write' : number === 1 ? 'backup' : choose(random);
      world.history.push(name);
      await ACTIONS[name]?.act(world);
    }
    await ACTIONS.backup?.act(world);
    for (const point of await world.points()) {
      if (point.root !== rootOf(world.states.get(point.id) as Buffer)) throw new Error('a root has changed');
    }
    // Nothing is left of comparisons.
    const left = (await readdir(world.stateDirectory)).filter((name) => name.startsWith('scratch-'));
    if (left.length > 0) throw new Error(`${left.join()} stayed`);
  } catch (error) {
    t.fail(`seed ${random.seed}, after ${world.history.join(' ')}: ${(error as Error).stack}`);
  } finally {
    await world.stopReceiver();
  }
  const points = world.states.size;
  await rm(directory, { recursive: true });
  return points;
}

test('random histories: comparisons are exact, and every root is that of the device', async (t) => {
  t.timeout(2 * 60 * 60_000);
  const random = seededRandom(t);
  const directory = await temporaryDirectory(t, 'compare-history');
  let points = 0;
  for (let number = 0; number < HISTORIES && t.passed; number += 1) {
    points += await runHistory(t, random, join(directory, String(number)));
  }
  t.log(`${HISTORIES} histories, ${points} points`);
  t.true(points >= HISTORIES);
});
