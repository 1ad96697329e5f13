/**
 * What an agent remembers is lost or wrong, in every way that we know: the next backup says that it compares,
 * and why; ships exactly what differs, and of that only what the receiver does not hold; gives the right
 * point; and the one after that is an ordinary one.
 */
import { cp, open, readFile, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { BackupOptions, BackupResult } from '../../../src/agent/backup/options.js';
import { deviceStateDirectory } from '../../../src/agent/state/device-state.js';
import type { HoldOptions, SnapshotProvider } from '../../../src/capture/ports.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { KiB } from '../../../src/domain/base/limits.js';
import { LOCAL_AGENT } from '../../../src/domain/base/names.js';
import { native } from '../../../src/native/index.js';
import { createMemoryDevice } from '../../../src/native/testing.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makeStampedImage, stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import { IN_MEMORY } from '../../helpers/machines/stillpoint.js';
import { refused } from '../../helpers/refused.js';
import { BackupWorld, BLOCK, faultyReceiver, providerOf } from '../../helpers/worlds/backup.js';
import { watchBatches } from '../../helpers/worlds/batch-watch.js';

const SIZE = 300 * BLOCK - 12_800;
const INDEXES = [...Array.from({ length: 100 }, (_, index) => index), 250, 299];
const NULL = '';
const ZEROS = Buffer.alloc(BLOCK);

/** With three points: blocks 9 and 10 have changed since the first, 9 since the second. */
async function world(t: ExecutionContext): Promise<{ made: BackupWorld; states: Buffer[]; kept: string }> {
  const made = await BackupWorld.make(t, IN_MEMORY);
  await made.makeImage(SIZE, INDEXES);
  const states: Buffer[] = [];
  const kept = join(made.directory, 'kept');
  for (const changed of [[], [9, 10], [9]]) {
    await made.change(states.length, changed);
    await made.backup();
    states.push(await readFile(made.image));
    if (states.length === 1) await cp(made.deviceState, kept, { recursive: true });
  }
  return { made, states, kept };
}

/** New content, content that the receiver holds, and zeros. */
async function changeSome(made: BackupWorld): Promise<void> {
  await made.change(7, [20, 280]);
  await made.change(0, [9]);
  const file = await open(made.image, 'r+');
  await file.write(Buffer.alloc(BLOCK), 0, BLOCK, 50 * BLOCK);
  await file.close();
}

/** Empty: zeros. */
function leaves(bytes: Buffer): string[] {
  return Array.from({ length: Math.ceil(bytes.length / BLOCK) }, (_, block) => {
    const content = bytes.subarray(block * BLOCK, (block + 1) * BLOCK);
    return content.equals(ZEROS.subarray(0, content.length))
      ? NULL
      : PLAIN.leafDigest(content).toString('hex');
  });
}

interface Expected {
  readonly reason: RegExp;
  readonly start?: string;
  /** Of the receiver's points, the last one last. */
  readonly held: readonly Buffer[];
  /** The store has lost points: without this it is refused, with it the point says so. */
  readonly acceptStore?: boolean;
  /** The receiver has it, though no point does. */
  readonly pool?: Buffer;
}

async function heals(t: ExecutionContext, made: BackupWorld, expected: Expected): Promise<BackupResult> {
  const { held, pool, reason, start = 'compare', acceptStore = false } = expected;
  const image = await readFile(made.image);
  const base = held.at(-1) ?? Buffer.alloc(0);
  // Leaves of blocks that are not whole in both sizes are not the base's.
  const whole =
    base.length === image.length ? Infinity : Math.floor(Math.min(base.length, image.length) / BLOCK);
  const before = leaves(base).map((leaf, block) => (block < whole ? leaf : NULL));
  const now = leaves(image);
  const differing = [...now.keys()].filter((block) => now[block] !== (before[block] ?? NULL));
  const known = new Set([...held, ...(pool === undefined ? [] : [pool])].flatMap(leaves));
  const missing = new Set(
    differing.flatMap((block) => now[block] ?? NULL).filter((leaf) => !known.has(leaf)),
  );

  const watch = watchBatches(made.receiver);
  const options: Partial<BackupOptions> = { receiver: watch.receiver, compressionLevel: 0, acceptStore };
  made.events.length = 0;
  const result = await made.backup(options);
  t.is(result.base.start, start as typeof result.base.start);
  t.regex(result.base.reason, reason);
  t.true(
    made.notices().some((text) => reason.test(text)),
    made.notices().join('\n'),
  );
  t.deepEqual(
    [...watch.blocks].sort((a, b) => a - b),
    differing,
  );
  t.deepEqual(watch.sent.sort(), [...missing].sort(), 'each once, and nothing that the receiver holds');
  const bound = missing.size * (BLOCK + 200) + 24 * KiB;
  t.true(result.wireBytes < bound, `${result.wireBytes} bytes, not below ${bound}`);
  t.true((await made.contents(result.point)).equals(image));
  t.is(result.point.warnings.filter((text) => text.includes('was accepted')).length, acceptStore ? 1 : 0);

  const next = await made.backup();
  t.is(next.base.start, 'use-local');
  t.is(next.point.statistics.changedBytes, 0);
  t.is(next.point.root, result.point.root);
  return result;
}

const treeOf = (made: BackupWorld) => join(made.deviceState, 'tree');

async function flip(path: string, at: (bytes: Buffer) => number): Promise<void> {
  const bytes = await readFile(path);
  const offset = at(bytes);
  bytes[offset] = (bytes[offset] ?? 0) ^ 1;
  await writeFile(path, bytes);
}

const UNUSABLE = /the local tree (is damaged|can't be used)/;

const losses: Record<string, [(made: BackupWorld, kept: string) => Promise<void>, RegExp]> = {
  deleted: [(made) => rm(treeOf(made)), /there is no local tree/],
  'truncated to nothing': [(made) => truncate(treeOf(made), 0), UNUSABLE],
  'truncated in the middle': [(made) => truncate(treeOf(made), 5000), UNUSABLE],
  'flipped in its header': [(made) => flip(treeOf(made), () => 40), UNUSABLE],
  'flipped in a leaf': [
    (made) => flip(treeOf(made), (bytes) => bytes.indexOf(PLAIN.leafDigest(stamped(11, 0)))),
    UNUSABLE,
  ],
  'flipped in a node': [
    (made) =>
      flip(treeOf(made), (bytes) => bytes.length - 1 - [...bytes].reverse().findIndex((b) => b !== 0)),
    UNUSABLE,
  ],
  'of an earlier point': [
    async (made, kept) => {
      await rm(made.deviceState, { recursive: true });
      await rename(kept, made.deviceState);
    },
    /the local tree is not that of the last point disk1@3/,
  ],
  'of another device': [
    async (made) => {
      const path = join(made.directory, 'other.img');
      await makeStampedImage(path, { sizeBytes: SIZE, blockSize: BLOCK, seed: 5, blockIndexes: [20, 60] });
      await made.backup({ path, device: 'other' });
      const key = { storeId: made.storeId, agent: LOCAL_AGENT, device: 'other' };
      await cp(join(deviceStateDirectory(made.stateDirectory, key), 'tree'), treeOf(made));
    },
    /the local tree is not that of the last point disk1@3/,
  ],
  'gone with the whole state': [(made) => made.forgetState(), /there is no local tree/],
};

const stamped = (blockIndex: number, generation: number) =>
  stampedBlock({ seed: 1, blockIndex, generation }, BLOCK);

for (const [name, [lose, reason]] of Object.entries(losses)) {
  test(`the local tree is ${name}`, async (t) => {
    const { made, states, kept } = await world(t);
    await lose(made, kept);
    await changeSome(made);
    await heals(t, made, { reason, held: states });
  });
}

const lost = () =>
  new StillpointError('connection-lost', { thing: 'receiver', reason: 'gone', permanent: false });

test('a sealed overlay of a session that the receiver never committed: it counts for nothing, with the tree and without', async (t) => {
  const { made, states } = await world(t);
  const unheard = async (generation: number): Promise<Buffer> => {
    await made.change(generation, [30, 31]);
    const receiver = faultyReceiver(made.receiver, (method) =>
      method === 'commit' ? { before: lost() } : null,
    );
    await refused(t, made.backup({ receiver, patienceMs: 0 }), 'connection-lost', /gone/);
    return readFile(made.image);
  };
  const pool = await unheard(8);
  await rm(treeOf(made));
  await changeSome(made);
  await heals(t, made, { reason: /there is no local tree/, held: states, pool });
  await unheard(9);
  t.is((await made.backup()).base.start, 'use-local');
});

test('the receiver has an older copy of its store, and the agent remembers later points', async (t) => {
  const { made, states } = await world(t);
  // The store as it is after three points, and two more points that it will not know.
  const copy = await made.copyStore('older');
  for (const generation of [4, 5]) {
    await made.change(generation, [9, 40 + generation, 299], SIZE);
    await made.backup();
  }
  const reason = /the local tree is not that of the last point disk1@3/;
  await made.replaceStore(copy);
  await changeSome(made);
  const lost =
    /point disk1@5 \([0-9a-f]{12}, .*\) was acknowledged, and the last .* is disk1@3 .*--accept-store/;
  await refused(t, made.backup(), 'store-changed', lost);
  t.is((await made.points()).length, 3);
  const { point } = await heals(t, made, { reason, held: states, acceptStore: true });
  t.is(point.sequence, 4, 'the number is used again, by another point');
});

test('the receiver has a copy of its store from before the first point', async (t) => {
  const made = await BackupWorld.make(t, IN_MEMORY);
  const copy = await made.copyStore('older');
  await made.makeImage(SIZE, INDEXES);
  await made.backup();
  await made.replaceStore(copy);
  await refused(t, made.backup(), 'store-changed', /disk1@1 .* and the store has no point of the device now/);
  const reason = /the receiver no longer has any point of the device/;
  const { point } = await heals(t, made, { start: 'empty', reason, held: [], acceptStore: true });
  t.is(point.sequence, 1);
});

test('an accepted store whose commit was not heard of is not refused again; nor are points of another agent of the name', async (t) => {
  const { made } = await world(t);
  const copy = await made.copyStore('older');
  await made.change(4, [9]);
  await made.backup();
  await made.backup();
  await made.replaceStore(copy);
  const receiver = faultyReceiver(made.receiver, (method) =>
    method === 'commit' ? { after: lost() } : null,
  );
  await refused(t, made.backup({ receiver, patienceMs: 0, acceptStore: true }), 'connection-lost');
  t.is((await made.points()).length, 4);
  t.is((await made.backup()).point.sequence, 5);
  await made.backup({ stateDirectory: join(made.directory, 'another') });
  t.is((await made.backup()).point.sequence, 7);
  t.deepEqual((await made.points()).at(-1)?.warnings, []);
});

for (const sizeBytes of [SIZE + 40 * BLOCK + 100, SIZE + 1000, 270 * BLOCK + 512, 60 * BLOCK]) {
  test(`the local tree is lost, and the device has ${sizeBytes} bytes now`, async (t) => {
    const { made, states } = await world(t);
    await changeSome(made);
    await truncate(made.image, sizeBytes);
    if (sizeBytes > SIZE) await made.change(8, [299], sizeBytes);
    await rm(treeOf(made));
    await heals(t, made, { reason: /there is no local tree/, held: states });
  });
}

test('the local tree is lost, and blocks can’t be read', async (t) => {
  const made = await BackupWorld.make(t, IN_MEMORY);
  const device = createMemoryDevice(200 * BLOCK);
  t.teardown(() => device.close());
  const provider = providerOf(device);
  for (const block of [1, 2, 70]) await device.write(block * BLOCK, stamped(block, 0));
  await made.backup({ provider });
  const expected = await device.read(0, 200 * BLOCK);
  await rm(treeOf(made));
  await device.write(3 * BLOCK, stamped(3, 1));
  stamped(3, 1).copy(expected, 3 * BLOCK);
  device.addBadRange(2 * BLOCK, BLOCK);
  // The receiver has zeros there, and it must not be taken for equal.
  device.addBadRange(150 * BLOCK, 512);
  const watch = watchBatches(made.receiver);
  const { point, base } = await made.backup({ provider, receiver: watch.receiver });
  t.is(base.start, 'compare');
  t.deepEqual(
    point.badRanges.map(({ byteOffset, byteLength, content }) => [byteOffset, byteLength, content]),
    [
      [2 * BLOCK, BLOCK, 'previous'],
      [150 * BLOCK, 512, 'previous'],
    ],
  );
  t.deepEqual([...watch.blocks], [3]);
  t.true((await made.contents(point)).equals(expected));
  device.clearFaults();
  const next = await made.backup({ provider });
  t.is(next.base.start, 'use-local');
  t.is(next.point.statistics.changedBytes, 0);
  t.deepEqual(next.point.badRanges, []);
});

test('a receiver that answers wrong nodes gets no point, and an honest one the right one', async (t) => {
  const { made, states } = await world(t);
  await rm(treeOf(made));
  await changeSome(made);
  const spoils: Record<string, (answer: Buffer) => Uint8Array> = {
    'a wrong digest': (answer) => {
      answer[20] = (answer[20] ?? 0) ^ 1;
      return answer;
    },
    'a digest too many': (answer) => Buffer.concat([answer, Buffer.alloc(32)]),
    'a short answer': (answer) => answer.subarray(0, answer.length - 32),
    'all zero': (answer) => Buffer.alloc(answer.length),
    nothing: () => Buffer.alloc(0),
  };
  for (const [name, spoil] of Object.entries(spoils)) {
    for (const from of [1, 2]) {
      let requests = 0;
      const receiver = new Proxy(made.receiver, {
        get: (target, method: keyof ReceiverPort) => {
          if (method !== 'nodes') return (target[method] as () => unknown).bind(target);
          return async (...args: Parameters<ReceiverPort['nodes']>) => {
            requests += 1;
            const answer = Buffer.from(await target.nodes(...args));
            return requests >= from ? spoil(answer) : answer;
          };
        },
      });
      await refused(t, made.backup({ receiver }), 'bad-digest', /does not prove it/);
      t.is((await made.points()).length, 3, name);
    }
  }
  await heals(t, made, { reason: /there is no local tree/, held: states });
});

test('a map that leaves a change out is overruled by a comparison, which reads everything', async (t) => {
  const { made } = await world(t);
  const device = await native.openDevice(made.image, { direct: false });
  t.teardown(() => device.close());
  const holds: HoldOptions[] = [];
  const honest = providerOf(device);
  const provider: SnapshotProvider = {
    name: 'test',
    hold: async (path, options) => {
      holds.push(options);
      const tracking = {
        changes: options.full ? null : { ranges: [], sample: [] },
        reason: 'it says so',
        knows: () => true,
        committed: async () => undefined,
        adopt: async () => undefined,
      };
      return { ...(await honest.hold(path, options)), tracking };
    },
  };
  const backup = (options: Partial<BackupOptions>) =>
    made.backup({ provider, acceptIdentity: true, ...options });
  await made.change(6, [33, 260]);
  const misled = await backup({});
  t.true(misled.tracking?.used);
  t.is(misled.point.statistics.changedBytes, 0, 'the map lied');
  const found: number[] = [];
  const healed = await backup({
    compare: true,
    onCompared: (blocks) => found.push(...[...blocks.ranges()].flatMap(([start]) => start)),
  });
  t.is(holds.at(-1)?.full, true);
  t.deepEqual(found, [33, 260]);
  t.is(healed.base.reason, 'it was asked for');
  t.is(healed.point.statistics.changedBytes, 2 * BLOCK);
  t.true((await made.contents(healed.point)).equals(await readFile(made.image)));
});
