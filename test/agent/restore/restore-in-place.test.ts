/**
 * Restores to targets that hold something: only what differs is fetched and written, and nothing
 * is where nothing differs.
 */
import { open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { type RestoreOptions, runRestore } from '../../../src/agent/restore/restore.js';
import { looksBlank, openTargetTree } from '../../../src/agent/tree/target-tree.js';
import { GiB, MiB } from '../../../src/domain/base/limits.js';
import { native } from '../../../src/native/index.js';
import { createMemoryDevice } from '../../../src/native/testing.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { readStamp, stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import { attachLoop, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { pointReceiver } from '../../helpers/fakes/point-receiver.js';
import { testWith } from '../../helpers/requirements.js';
import { BackupWorld, BLOCK, faultyReceiver } from '../../helpers/worlds/backup.js';

/** With a short last block, which is zero, and zeros in between. */
const GEOMETRY = { sizeBytes: 400 * BLOCK - 12_800, blockSize: BLOCK };
const INDEXES = [0, 1, 2, 5, ...Array.from({ length: 150 }, (_, i) => 40 + i), 300, 302];

async function world(t: ExecutionContext, blockIndexes = INDEXES) {
  const directory = await temporaryDirectory(t, 'in-place');
  const made = await pointReceiver(directory, { geometry: GEOMETRY, blockIndexes });
  t.teardown(() => made.close());
  const target = join(directory, 'target.img');
  const notices: string[] = [];
  const restore = (overrides: Partial<RestoreOptions> = {}) =>
    runRestore({
      ...{ receiver: made.receiver, point: made.point, target, stateDirectory: join(directory, 'state') },
      overwrite: true,
      onEvent: (event) => event.type === 'notice' && notices.push(event.text),
      ...overrides,
    });
  const fetched = () => made.requests.splice(0).reduce((sum, count) => sum + count, 0);
  return { ...made, directory, target, restore, fetched, notices };
}

async function overwrite(path: string, blockIndexes: readonly number[], byteLength = BLOCK): Promise<void> {
  const file = await open(path, 'r+');
  for (const blockIndex of blockIndexes) {
    await file.write(
      stampedBlock({ seed: 4, blockIndex, generation: 8 }, byteLength),
      0,
      undefined,
      blockIndex * BLOCK,
    );
  }
  await file.close();
}

test('only blocks that differ are fetched; where the point is zero they are zeroed; what is the same is left', async (t) => {
  const { bytes, target, restore, fetched } = await world(t);
  await writeFile(target, bytes);
  // Data over data, data over zeros; and zeros over data.
  await overwrite(target, [5, 77, 150, 200, 301]);
  const file = await open(target, 'r+');
  await file.write(Buffer.alloc(3 * BLOCK), 0, undefined, 60 * BLOCK);
  await file.close();
  const result = await restore({ verify: true });
  t.true(bytes.equals(await readFile(target)));
  t.is(fetched(), 6, 'blocks 5, 77, 150 and 60 to 62; not those of the head, which the target had');
  t.like(result, {
    differingBytes: 8 * BLOCK,
    writtenBytes: 6 * BLOCK,
    readBytes: GEOMETRY.sizeBytes,
    isVerified: true,
  });
  t.true(result.wireBytes < 6 * BLOCK, `${result.wireBytes} bytes: the blocks compress`);
});

test('where nothing differs, nothing is written or fetched', async (t) => {
  const { bytes, target, restore, fetched } = await world(t);
  await writeFile(target, bytes);
  const before = await stat(target, { bigint: true });
  const result = await restore();
  const after = await stat(target, { bigint: true });
  t.is(after.mtimeNs, before.mtimeNs);
  t.is(after.ino, before.ino);
  t.is(fetched(), 0);
  t.like(result, { differingBytes: 0, writtenBytes: 0 });
});

test('--rewrite does not look', async (t) => {
  const { bytes, target, restore, fetched } = await world(t);
  await writeFile(target, Buffer.alloc(GEOMETRY.sizeBytes, 0xff));
  for (const round of [1, 2]) {
    const result = await restore({ rewrite: true });
    t.true(bytes.equals(await readFile(target)), `round ${round}`);
    t.is(fetched(), INDEXES.length);
    t.like(result, { differingBytes: null, readBytes: 0, writtenBytes: INDEXES.length * BLOCK });
  }
});

/** In bytes; what the target has beyond the point, or lacks. */
const OTHER_SIZES = {
  'a sector longer': GEOMETRY.sizeBytes + 512,
  'up to the end of the last block': 400 * BLOCK,
  'some blocks longer': 407 * BLOCK + 100,
  'a sector shorter': GEOMETRY.sizeBytes - 512,
  'shorter by more than the last block': 399 * BLOCK,
  'cut in the midst of data': 188 * BLOCK + 1000,
  'a byte more than a mark': 513,
};

for (const [name, sizeBytes] of Object.entries(OTHER_SIZES)) {
  test(`an image that is ${name}: ${sizeBytes} bytes`, async (t) => {
    const { bytes, target, restore, fetched } = await world(t);
    // Else the same; in what is too much zeros, or something.
    for (const fill of [0, 0xff]) {
      const content = Buffer.alloc(sizeBytes, fill);
      bytes.copy(content);
      await writeFile(target, content);
      const result = await restore({ verify: true });
      t.true(bytes.equals(await readFile(target)));
      const lacking = INDEXES.filter((index) => (index + 1) * BLOCK > sizeBytes).length;
      t.is(fetched(), lacking, `filled with ${fill}`);
      t.is(result.differingBytes, lacking * BLOCK);
    }
    // The last block, which is zero in the point, is not where the size changes.
    const content = Buffer.alloc(sizeBytes, 0xff);
    bytes.copy(content, 0, 0, 399 * BLOCK);
    await writeFile(target, content);
    await restore({ verify: true });
    t.true(bytes.equals(await readFile(target)));
  });
}

test('an image with no room for a mark is made anew beside it', async (t) => {
  const { bytes, target, directory, restore } = await world(t);
  await writeFile(target, Buffer.alloc(511, 1));
  await restore({ verify: true });
  t.true(bytes.equals(await readFile(target)));
  const small = await pointReceiver(await temporaryDirectory(t, 'tiny'), {
    geometry: { sizeBytes: 300, blockSize: BLOCK },
    blockIndexes: [0],
  });
  t.teardown(() => small.close());
  await runRestore({
    ...{ receiver: small.receiver, point: small.point, target, overwrite: true },
    stateDirectory: join(directory, 'state'),
  });
  t.true(small.bytes.equals(await readFile(target)));
});

test('a new image that a killed restore was writing is gone on with', async (t) => {
  const { bytes, target, restore, fetched } = await world(t);
  const partial = Buffer.from(bytes);
  partial.fill(0, 100 * BLOCK);
  for (const length of [partial.length, partial.length + MiB, 150 * BLOCK + 7]) {
    const left = Buffer.alloc(length, 0xff);
    partial.copy(left);
    await writeFile(`${target}.stillpoint-partial`, left);
    const result = await restore();
    t.true(bytes.equals(await readFile(target)));
    const missing = INDEXES.filter((index) => index >= 100).length;
    t.is(fetched(), missing);
    t.is(result.differingBytes, missing * BLOCK);
    await rm(target);
  }
});

test("where the local tree is the point's, digests do not cross the wire", async (t) => {
  const made = await BackupWorld.make(t);
  await made.makeImage(GEOMETRY.sizeBytes, INDEXES);
  const before = await readFile(made.image);
  const { point } = await made.backup();
  await made.change(3, [7, 41, 42, 301]);
  const asked: string[] = [];
  const receiver = faultyReceiver(made.receiver, (method) => {
    asked.push(method);
    return null;
  });
  const { image: target, stateDirectory } = made;
  const options = { receiver, point, target, stateDirectory, overwrite: true };
  const result = await runRestore(options);
  t.true(before.equals(await readFile(target)));
  t.deepEqual(asked, ['damage', 'info', 'blocks']);
  t.like(result, { differingBytes: 4 * BLOCK, writtenBytes: 2 * BLOCK });

  // Without it, and while a backup of the device holds it, they do.
  await made.change(4, [41]);
  await made.forgetState();
  asked.length = 0;
  await runRestore(options);
  t.true(before.equals(await readFile(target)));
  t.true(asked.includes('nodes'));
});

testWith(
  ['root', 'loop'],
  'a larger device: what lies behind the point is neither read nor written',
  async (t) => {
    const { bytes, target, restore, fetched } = await world(t);
    const content = Buffer.alloc(GEOMETRY.sizeBytes + 3 * MiB + 512, 0xff);
    bytes.copy(content);
    await writeFile(target, content);
    await overwrite(target, [1, 50]);
    const loop = attachLoop(t, target);
    const result = await restore({ target: loop, verify: true });
    run('sync');
    t.true(content.equals(await readFile(target)));
    t.is(fetched(), 2);
    t.is(result.differingBytes, 2 * BLOCK);
    t.is(result.readBytes, 400 * BLOCK, 'the last block as a whole');
  },
);

testWith(['root', 'loop'], 'a blank disk is not read first; one that is not blank is', async (t) => {
  const { bytes, target, directory, restore, fetched, notices } = await world(t);
  await writeFile(target, '');
  await truncate(target, 408 * BLOCK);
  const loop = attachLoop(t, target);
  const result = await restore({ target: loop });
  run('sync');
  t.true(bytes.equals((await readFile(target)).subarray(0, bytes.length)));
  t.is(fetched(), INDEXES.length);
  t.is(result.differingBytes, null);
  t.true(notices.includes(`${loop} looks blank, so it is written without being read first`));

  const blank = join(directory, 'blank');
  await writeFile(blank, '');
  await truncate(blank, GiB);
  const device = await native.openDevice(attachLoop(t, blank), { write: true });
  t.teardown(() => device.close());
  t.true(await looksBlank(device, GiB));
  for (const byteOffset of [512, GiB - 512]) {
    await device.write(byteOffset, Buffer.alloc(512, 1));
    t.false(await looksBlank(device, GiB), `byte ${byteOffset}`);
    await device.write(byteOffset, Buffer.alloc(512));
  }
  // A file tells where it has holes.
  const file = await native.openDevice(blank);
  t.false(await looksBlank(file, GiB));
  await file.close();
});

test('what can not be read differs, also where it would seem to be zero', async (t) => {
  const { bytes, directory, receiver, point } = await world(t);
  for (const surplus of [0, 512, 5 * BLOCK]) {
    const device = createMemoryDevice(bytes.length + surplus);
    t.teardown(() => device.close());
    await device.write(0, bytes);
    const look = async () => {
      const { tree, differing } = await openTargetTree({
        ...{ receiver, point, device, stateDirectory: join(directory, 'state'), onEvent: () => undefined },
        ...{ digester: PLAIN, signal: new AbortController().signal, watch: () => () => undefined },
      });
      t.is(tree.generation.root, point.root);
      await tree.close();
      return differing;
    };
    t.deepEqual(await look(), []);
    device.addBadRange(20 * BLOCK + 1024, 512);
    device.addBadRange(50 * BLOCK, 512);
    device.addBadRange(399 * BLOCK + 512, 512);
    const blocks = [20, 50, 399].map((index) => [index, index + 1] as const);
    t.deepEqual(await look(), blocks);
  }
});

const HUGE = 100 * GiB;

test('an image of 100 GiB with 300 changed blocks is rolled back for the price of these', async (t) => {
  t.timeout(10 * 60_000);
  const blockIndexes = Array.from({ length: 1000 }, (_, n) => Math.floor((n * HUGE) / BLOCK / 1000));
  const made = await BackupWorld.make(t);
  await made.makeImage(HUGE, blockIndexes);
  const { point } = await made.backup();
  const changed = blockIndexes.filter((_, n) => n % 10 < 3);
  await made.change(1, changed);
  await made.forgetState();
  const wire = { nodes: 0, blocks: 0 };
  const { receiver } = made;
  const counting = new Proxy(receiver, {
    get: (_, name: keyof ReceiverPort) => {
      const method = (receiver[name] as (...args: unknown[]) => Promise<Uint8Array>).bind(receiver);
      if (name !== 'nodes' && name !== 'blocks') return method;
      return async (...args: unknown[]) => {
        const answer = await method(...args);
        wire[name] += answer.length;
        return answer;
      };
    },
  });
  const { stateDirectory, image: target } = made;
  const result = await runRestore({ receiver: counting, point, target, stateDirectory, overwrite: true });
  t.like(result, { differingBytes: 300 * BLOCK, writtenBytes: 300 * BLOCK });
  t.log(
    `${result.wireBytes} bytes on the wire, of which ${wire.nodes} digests, for ${300 * BLOCK} of blocks`,
  );
  t.true(result.wireBytes < wire.blocks + MiB);
  const restored = await open(target);
  for (const blockIndex of blockIndexes) {
    const { buffer } = await restored.read(Buffer.alloc(BLOCK), 0, BLOCK, blockIndex * BLOCK);
    t.deepEqual(readStamp(buffer), { seed: 1, blockIndex, generation: 0 });
  }
  await restored.close();
});
