/**
 * The border with a digester that has a key: scan, tree, batches, restore and packs agree,
 * and plain digests differ.
 */
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import test from 'ava';
import { type Device, type Digester, native, type TreeFile } from '../../src/native/index.js';
import { createMemoryDevice, keyedDigester } from '../../src/native/testing.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';

const BLOCK = 4096;
const COUNT = 200;
const SESSION = '5e'.repeat(16);
const POINT = '70'.repeat(16);
const KEYED = keyedDigester(Buffer.alloc(32, 'a key'));

async function deviceOf(content: Buffer): Promise<Device> {
  const device = createMemoryDevice(content.length);
  await device.write(0, content);
  return device;
}

/** The device's tree, and the batches in which a scan against an empty tree gives it. */
async function scanned(directory: string, name: string, device: Device, digester: Digester) {
  const tree = await native.createTree(join(directory, name), device.sizeBytes, BLOCK, digester);
  const { root } = tree.generation;
  const overlay = await native.createOverlay(join(directory, `${name}.o`), device.sizeBytes, BLOCK, root);
  const scan = native.createScan(device, { base: tree, overlay });
  const batches: Buffer[] = [];
  for (let chunk = await scan.next(); chunk !== null; chunk = await scan.next()) {
    const sequence = batches.length + 1;
    batches.push(await chunk.encode({ sessionId: SESSION, sequence, agentTimeMs: 0, compressionLevel: 1 }));
  }
  await scan.close();
  await overlay.seal({ pointId: POINT, root: (await tree.rootWith(overlay)).toString('hex') });
  await tree.apply(overlay);
  await overlay.close();
  return { tree, batches };
}

const boundsOf = (tree: TreeFile, digester: Digester) => ({
  ...{ sessionId: SESSION, sequence: 1, sizeBytes: tree.sizeBytes, blockSize: BLOCK },
  digester,
});

test('a digester with a key gives other digests for all but zeros', (t) => {
  const bytes = randomBytes(BLOCK);
  const node = randomBytes(64);
  const top = randomBytes(32);
  for (const other of [PLAIN, keyedDigester(Buffer.alloc(32, 'another'))]) {
    t.notDeepEqual(KEYED.leafDigest(bytes), other.leafDigest(bytes));
    t.notDeepEqual(KEYED.nodeDigest(node), other.nodeDigest(node));
    t.notDeepEqual(KEYED.rootDigest(1, BLOCK, top), other.rootDigest(1, BLOCK, top));
  }
  t.deepEqual(KEYED.leafDigest(bytes), keyedDigester(Buffer.alloc(32, 'a key')).leafDigest(bytes));
  for (const digester of [PLAIN, KEYED]) {
    t.deepEqual(digester.leafDigest(Buffer.alloc(BLOCK)), digester.zeroDigest(BLOCK));
    t.deepEqual(digester.zeroDigest(BLOCK), Buffer.alloc(32));
  }
  t.throws(() => keyedDigester(Buffer.alloc(31)), { code: 'argument' });
});

test('what is no digester is refused, where one is asked for', async (t) => {
  const directory = await temporaryDirectory(t, 'digester');
  const wrong = {} as Digester;
  await t.throwsAsync(native.createTree(join(directory, 't'), BLOCK, BLOCK, wrong), { code: 'argument' });
  await t.throwsAsync(native.openTree(join(directory, 't'), wrong), { code: 'argument' });
  await t.throwsAsync(native.salvagePack(join(directory, 'p'), wrong), { code: 'argument' });
  await t.throwsAsync(
    native.verifyPack(join(directory, 'p'), wrong, () => undefined),
    { code: 'argument' },
  );
});

test('scan, tree, batches and restore agree with a key, and not without it', async (t) => {
  const directory = await temporaryDirectory(t, 'digester');
  const content = Buffer.concat(
    Array.from({ length: COUNT }, (_, i) => (i % 3 === 0 ? Buffer.alloc(BLOCK) : randomBytes(BLOCK))),
  );
  const device = await deviceOf(content);
  const keyed = await scanned(directory, 'keyed', device, KEYED);
  const plain = await scanned(directory, 'plain', device, PLAIN);
  const { tree } = keyed;
  for (let i = 0; i < COUNT; i += 1) {
    const bytes = content.subarray(i * BLOCK, (i + 1) * BLOCK);
    t.deepEqual(tree.leaves(i, 1), tree.digester.leafDigest(bytes));
    t.deepEqual(tree.leaves(i, 1), KEYED.leafDigest(bytes));
  }
  t.not(tree.generation.root, plain.tree.generation.root);
  t.is(
    tree.generation.root,
    KEYED.rootDigest(tree.sizeBytes, BLOCK, tree.top).toString('hex'),
    'the root is of the same digester',
  );
  t.true(await tree.verify());
  const mistaken = await native.openTree(join(directory, 'keyed'), PLAIN);
  t.false(await mistaken.verify());
  await mistaken.close();

  const [body] = keyed.batches;
  if (body === undefined) return t.fail('the scan gives a batch');
  const decoded = await native.decodeBatch(body, boundsOf(tree, KEYED));
  await t.throwsAsync(native.decodeBatch(body, boundsOf(tree, PLAIN)), { code: 'bad-digest' });

  // As a store answers: records as they lie, of blocks that are not zero.
  const indexes = [...decoded.blockIndexes].filter((_, i) => decoded.kinds[i] === 1);
  const answer = await native.encodeBatch({
    ...{ sessionId: POINT, sequence: 0, agentTimeMs: 0 },
    blockIndexes: Float64Array.from(indexes),
    recordOrdinals: Uint32Array.from(indexes, (_, i) => i),
    runs: [body.subarray(decoded.recordsOffset, decoded.recordsOffset + decoded.recordsLength)],
    recordRuns: new Uint32Array(indexes.length),
    recordOffsets: Uint32Array.from(decoded.recordOffsets),
    recordDigests: decoded.recordDigests,
  });
  const target = createMemoryDevice(content.length);
  const writer = native.createRestoreWriter(target, tree);
  await writer.write(answer, POINT);
  t.is(await writer.verify(), null);
  t.deepEqual(await target.read(0, content.length), content);
  await writer.close();
  const wrong = native.createRestoreWriter(target, plain.tree);
  await t.throwsAsync(wrong.write(answer, POINT), { code: 'bad-digest' });
  t.is(await wrong.verify(), null, 'the content is the same, by its own digests');
  await wrong.close();
});
