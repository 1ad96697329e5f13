/** TreeFile and LeafOverlay through the addon, against a tree that is nothing but a map of leaves. */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import { open, truncate } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { TiB } from '../../src/domain/base/limits.js';
import { blockCount, blockLength, type Geometry, treeHeight } from '../../src/domain/blocks/geometry.js';
import { type LeafOverlay, native, type TreeFile } from '../../src/native/index.js';
import { PLAIN } from '../helpers/bytes/digests.js';

const NULL_DIGEST = Buffer.alloc(32);
type Leaves = Map<number, Buffer>;

function setAll(leaves: Leaves, changes: Leaves): void {
  for (const [index, digest] of changes) {
    if (digest.equals(NULL_DIGEST)) leaves.delete(index);
    else leaves.set(index, digest);
  }
}

/** docs/format.md section 1, level by level; nodeDigest and rootDigest are proven by the core's tests. */
function modelRoot(g: Geometry, leaves: Leaves): string {
  let level = leaves;
  for (let height = treeHeight(g); height > 0; height -= 1) {
    const contents = new Map<number, Buffer>();
    for (const [index, digest] of level) {
      const content = contents.get(Math.floor(index / 64)) ?? Buffer.alloc(64 * 32);
      digest.copy(content, (index % 64) * 32);
      contents.set(Math.floor(index / 64), content);
    }
    level = new Map([...contents].map(([index, content]) => [index, PLAIN.nodeDigest(content)]));
  }
  return PLAIN.rootDigest(g.sizeBytes, g.blockSize, level.get(0) ?? NULL_DIGEST).toString('hex');
}

async function inDirectory(body: (directory: string) => Promise<void>): Promise<void> {
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-tree-'));
  try {
    await body(directory);
  } finally {
    rmSync(directory, { recursive: true });
  }
}

async function applyLeaves(directory: string, tree: TreeFile, changes: Leaves): Promise<LeafOverlay> {
  const pointId = randomBytes(16).toString('hex');
  const overlay = await native.createOverlay(
    join(directory, pointId),
    tree.sizeBytes,
    tree.blockSize,
    tree.generation.root,
  );
  for (const [index, digest] of changes) overlay.put(index, digest);
  await overlay.seal({ pointId, root: (await tree.rootWith(overlay)).toString('hex') });
  await tree.apply(overlay);
  return overlay;
}

const counts = [0, 1, 63, 64, 65, 4095, 4096, 4097, 64 ** 3 - 1, 64 ** 3 + 1];
const geometries: fc.Arbitrary<Geometry> = fc.oneof(
  fc
    .tuple(fc.constantFrom(...counts), fc.integer({ min: 0, max: 4095 }))
    .map(([count, missing]) => ({ sizeBytes: Math.max(0, count * 4096 - missing), blockSize: 4096 })),
  fc
    .tuple(fc.integer({ min: 0, max: 2 ** 40 }), fc.integer({ min: 12, max: 22 }))
    .map(([sizeBytes, bits]) => ({ sizeBytes, blockSize: 2 ** bits })),
  fc.constant({ sizeBytes: 16 * TiB, blockSize: 65536 }),
);

function changesOf(g: Geometry): fc.Arbitrary<Leaves> {
  if (blockCount(g) === 0) return fc.constant(new Map());
  const index = fc.oneof(
    fc.integer({ min: 0, max: blockCount(g) - 1 }),
    fc.integer({ min: 0, max: Math.min(blockCount(g) - 1, 130) }),
    fc.constant(blockCount(g) - 1),
  );
  const digest = fc.oneof(
    { weight: 1, arbitrary: fc.constant(NULL_DIGEST) },
    {
      weight: 4,
      arbitrary: fc.uint8Array({ minLength: 32, maxLength: 32 }).map((bytes) => Buffer.from(bytes)),
    },
  );
  return fc.array(fc.tuple(index, digest), { maxLength: 60 }).map((pairs) => new Map(pairs));
}

test('a tree file agrees with the model through changes, reopening and resizing', async (t) => {
  const cases = geometries.chain((g) =>
    fc.tuple(
      fc.constant(g),
      fc.array(changesOf(g), { minLength: 1, maxLength: 3 }),
      fc.nat(2 * g.sizeBytes + 1),
    ),
  );
  await fc.assert(
    fc.asyncProperty(cases, async ([g, rounds, otherSize]) => {
      await inDirectory(async (directory) => {
        const path = join(directory, 'tree');
        let tree = await native.createTree(path, g.sizeBytes, g.blockSize, PLAIN);
        const leaves: Leaves = new Map();
        for (const changes of rounds) {
          const overlay = await applyLeaves(directory, tree, changes);
          setAll(leaves, changes);
          t.is(overlay.presentCount, changes.size);
          t.is(tree.generation.root, modelRoot(g, leaves));
          t.deepEqual(tree.generation, overlay.generation);
          await overlay.close();
          await tree.close();
          tree = await native.openTree(path, PLAIN);
        }
        t.true(await tree.verify());
        t.is(tree.blockCount, blockCount(g));

        const indexes = [...leaves.keys()].sort((a, b) => a - b);
        let at = tree.nextNonNull(0);
        for (const index of indexes) {
          t.is(at, index);
          t.deepEqual(tree.leaves(index, 1), leaves.get(index));
          at = tree.nextNonNull(index + 1);
        }
        t.is(at, tree.blockCount);

        const other: Geometry = { sizeBytes: otherSize, blockSize: g.blockSize };
        const kept = [...leaves].filter(
          ([index]) => index < blockCount(other) && blockLength(other, index) === blockLength(g, index),
        );
        const resized = await native.resizeTree(tree, join(directory, 'resized'), otherSize);
        t.is(resized.generation.root, modelRoot(other, new Map(kept)));
        t.is(resized.generation.pointId, '0'.repeat(32));
        t.true(await resized.verify());
        await Promise.all([tree.close(), resized.close()]);
      });
    }),
    { numRuns: 60 },
  );
});

test('an overlay gives back what was put, node by node', async (t) => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'overlay');
    const overlay = await native.createOverlay(path, 16 * TiB, 65536, 'ab'.repeat(32));
    const digest = native.checksum(Buffer.from('leaf'));
    t.is(overlay.nextNode(0), -1);
    t.is(overlay.generation, null);
    overlay.put(70, Buffer.concat([digest, NULL_DIGEST]));
    overlay.put(200_000_000, digest);
    t.is(overlay.presentCount, 3);
    t.deepEqual(overlay.get(70), digest);
    t.deepEqual(overlay.get(71), NULL_DIGEST);
    t.is(overlay.get(72), null);
    t.is(overlay.nextNode(0), 1);
    t.is(overlay.nextNode(2), 3_125_000);
    t.is(overlay.nextNode(3_125_001), -1);
    const node = overlay.node(1);
    t.is(node.length, 8 + 64 * 32);
    t.is(node.readBigUInt64LE(0), 0b1100_0000n);
    t.deepEqual(node.subarray(8 + 6 * 32, 8 + 7 * 32), digest);
    t.throws(() => overlay.put(2 ** 28, digest), { code: 'bad-index' });
    t.throws(() => overlay.put(0, Buffer.alloc(33)), { code: 'argument' });

    await overlay.seal({ pointId: '12'.repeat(16), root: 'cd'.repeat(32) });
    t.throws(() => overlay.put(0, digest), { code: 'argument' });
    await overlay.close();
    const again = await native.openOverlay(path);
    t.deepEqual(again.generation, { pointId: '12'.repeat(16), root: 'cd'.repeat(32) });
    t.is(again.baseRoot, 'ab'.repeat(32));
    t.is(again.presentCount, 3);
    await again.close();
    t.true(statSync(path).blocks * 512 < 1024 * 1024, 'the file is sparse');
  });
});

test('a damaged tree or overlay is refused, and a flipped bit is found', async (t) => {
  await inDirectory(async (directory) => {
    const path = join(directory, 'tree');
    const tree = await native.createTree(path, 1000 * 4096, 4096, PLAIN);
    const overlay = await applyLeaves(directory, tree, new Map([[500, native.checksum(Buffer.from('x'))]]));
    const overlayPath = overlay.path;
    await overlay.close();
    t.true(await tree.verify());
    const flip = async (file: string, byteOffset: number) => {
      const handle = await open(file, 'r+');
      const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, byteOffset);
      await handle.write(Buffer.from([(buffer[0] ?? 0) ^ 16]), 0, 1, byteOffset);
      await handle.close();
    };
    await flip(path, 4096 + 500 * 32 + 7);
    t.false(await tree.verify());
    await tree.close();
    await flip(path, 40);
    await t.throwsAsync(native.openTree(path, PLAIN), { code: 'tree-damaged' });
    await flip(path, 40);
    await truncate(path, 8192);
    const error = await t.throwsAsync(native.openTree(path, PLAIN), { code: 'tree-damaged' });
    t.is((error as Error & { path?: string }).path, path);
    await flip(overlayPath, 8192 + 500 * 32);
    await t.throwsAsync(native.openOverlay(overlayPath), { code: 'tree-damaged' });
    await t.throwsAsync(native.openTree(join(directory, 'none'), PLAIN), { code: 'ENOENT' });
    await t.throwsAsync(native.createTree(path, 4096, 4096, PLAIN), { code: 'EEXIST' });
    await t.throwsAsync(native.createTree(join(directory, 'new'), 4096, 5000, PLAIN), { code: 'argument' });
  });
});

test('closed handles refuse by name, and close waits for work in flight', async (t) => {
  await inDirectory(async (directory) => {
    const tree = await native.createTree(join(directory, 'tree'), 16 * TiB, 65536, PLAIN);
    const overlay = await native.createOverlay(
      join(directory, 'overlay'),
      16 * TiB,
      65536,
      tree.generation.root,
    );
    for (let i = 0; i < 2000; i += 1) overlay.put(i * 99_991, native.checksum(Buffer.from(`${i}`)));
    const root = tree.rootWith(overlay);
    const verified = tree.verify();
    await Promise.all([tree.close(), overlay.close(), tree.close()]);
    t.is((await root).length, 32);
    t.true(await verified);
    t.throws(() => tree.nextNonNull(0), { code: 'closed' });
    t.throws(() => overlay.presentCount, { code: 'closed' });
    await t.throwsAsync(tree.verify(), { code: 'closed' });
    t.is(tree.blockCount, 2 ** 28, 'what does not change stays readable');
    await t.throwsAsync(tree.rootWith(tree as unknown as LeafOverlay), { code: 'closed' });
  });
});

test('objects of another class are arguments refused, not crashes', async (t) => {
  await inDirectory(async (directory) => {
    const tree = await native.createTree(join(directory, 'tree'), 4096, 4096, PLAIN);
    await t.throwsAsync(tree.rootWith(tree as unknown as LeafOverlay), { code: 'argument' });
    await t.throwsAsync(tree.apply({} as LeafOverlay), { code: 'argument' });
    t.throws(() => tree.leaves(0, 2), { code: 'bad-index' });
    t.throws(() => tree.leaves(-1, 1), { code: 'argument' });
    await tree.close();
  });
});
