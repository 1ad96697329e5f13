/**
 * The arithmetic against two models that share nothing with it: devices that are really cut up and counted,
 * and BigInt for large ones.
 */
import test from 'ava';
import fc from 'fast-check';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { DEVICE_SIZE_MAX, KiB, MiB, TiB } from '../../../src/domain/base/limits.js';
import {
  blockCount,
  blockLength,
  type Geometry,
  geometry,
  levelCount,
  sameGeometry,
  treeHeight,
} from '../../../src/domain/blocks/geometry.js';

/** All that docs/format.md section 1 accepts. */
const BLOCK_SIZES = [4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096].map((size) => size * KiB);
const [SMALLEST, LARGEST] = [4 * KiB, 4 * MiB];

/**
 * Nodes of each level, leaves first, by putting a node above every started 64 until one is left; there is
 * a level above the leaves.
 */
function levelsAbove(leaves: bigint): bigint[] {
  const levels = [leaves];
  let below = leaves;
  do {
    below = below / 64n + (below % 64n === 0n ? 0n : 1n);
    levels.push(below);
  } while (below > 1n);
  return levels;
}

/** As `levelsAbove`, with nodes that are really made. */
function countedLevels(leaves: number): number[] {
  let nodes = Array.from({ length: leaves }, (_, index) => index);
  const levels = [nodes.length];
  do {
    const above: number[] = [];
    while (nodes.length > 0) above.push(nodes.splice(0, 64).length);
    nodes = above;
    levels.push(nodes.length);
  } while (nodes.length > 1);
  return levels;
}

function lengthsOf(sizeBytes: number, blockSize: number): number[] {
  const lengths: number[] = [];
  for (let left = sizeBytes; left > 0; left -= blockSize) lengths.push(Math.min(left, blockSize));
  return lengths;
}

function levelsOf(g: Geometry): number[] {
  return Array.from({ length: treeHeight(g) + 1 }, (_, level) => levelCount(g, level));
}

const blockSizes = fc.constantFrom(...BLOCK_SIZES);

test('small devices have the blocks and nodes that cutting them up gives', (t) => {
  const check = (sizeBytes: number, blockSize: number) => {
    const g = geometry(sizeBytes, blockSize);
    const lengths = lengthsOf(sizeBytes, blockSize);
    t.is(blockCount(g), lengths.length);
    t.deepEqual(
      lengths.map((_, blockIndex) => blockLength(g, blockIndex)),
      lengths,
    );
    t.deepEqual(levelsOf(g), countedLevels(lengths.length));
  };
  for (const count of [0, 1, 2, 63, 64, 65, 4095, 4096, 4097]) {
    for (const blockSize of [SMALLEST, LARGEST]) {
      check(count * blockSize, blockSize);
      if (count > 0) check(count * blockSize - 1, blockSize);
      check(count * blockSize + 1, blockSize);
    }
  }
  fc.assert(
    fc.property(blockSizes, fc.nat(300), fc.nat(), (blockSize, count, short) =>
      check(Math.max(0, count * blockSize - (short % blockSize)), blockSize),
    ),
  );
});

test('devices of any size have the blocks and nodes of exact arithmetic', (t) => {
  const sizes = fc.oneof(
    fc.nat(DEVICE_SIZE_MAX),
    fc
      .tuple(blockSizes, fc.nat(6), fc.integer({ min: -2, max: 2 }), fc.integer({ min: -2, max: 2 }))
      .map(([blockSize, power, blocks, bytes]) => blockSize * (64 ** power + blocks) + bytes)
      .filter((size) => size >= 0 && size <= DEVICE_SIZE_MAX),
  );
  fc.assert(
    fc.property(sizes, blockSizes, fc.double({ min: 0, max: 1, noNaN: true }), (sizeBytes, blockSize, at) => {
      const g = geometry(sizeBytes, blockSize);
      const [size, block] = [BigInt(sizeBytes), BigInt(blockSize)];
      const tail = size % block;
      const count = size / block + (tail === 0n ? 0n : 1n);
      t.is(blockCount(g), Number(count));
      t.deepEqual(levelsOf(g), levelsAbove(count).map(Number));
      if (count === 0n) return;
      t.is(blockLength(g, Number(count) - 1), tail === 0n ? blockSize : Number(tail));
      const anyButLast = Math.floor(at * (Number(count) - 2));
      if (count > 1n) t.is(blockLength(g, anyButLast), blockSize);
    }),
    { numRuns: 1000 },
  );
});

test('the edges, by hand', (t) => {
  type Levels = [leaves: number, ...above: number[]];
  const cases: [sizeBytes: number, blockSize: number, lastLength: number | null, levels: Levels][] = [
    [0, SMALLEST, null, [0, 0]],
    [1, SMALLEST, 1, [1, 1]],
    [SMALLEST - 1, SMALLEST, SMALLEST - 1, [1, 1]],
    [SMALLEST, SMALLEST, SMALLEST, [1, 1]],
    [SMALLEST + 1, SMALLEST, 1, [2, 1]],
    [63 * SMALLEST, SMALLEST, SMALLEST, [63, 1]],
    [64 * SMALLEST, SMALLEST, SMALLEST, [64, 1]],
    [64 * SMALLEST + 1, SMALLEST, 1, [65, 2, 1]],
    [4095 * SMALLEST, SMALLEST, SMALLEST, [4095, 64, 1]],
    [4096 * SMALLEST, SMALLEST, SMALLEST, [4096, 64, 1]],
    [4097 * SMALLEST, SMALLEST, SMALLEST, [4097, 65, 2, 1]],
    [262_143 * SMALLEST, SMALLEST, SMALLEST, [262_143, 4096, 64, 1]],
    [262_144 * SMALLEST, SMALLEST, SMALLEST, [262_144, 4096, 64, 1]],
    [262_145 * SMALLEST, SMALLEST, SMALLEST, [262_145, 4097, 65, 2, 1]],
    [16 * TiB, SMALLEST, SMALLEST, [2 ** 32, 2 ** 26, 2 ** 20, 2 ** 14, 256, 4, 1]],
    [16 * TiB, LARGEST, LARGEST, [2 ** 22, 2 ** 16, 1024, 16, 1]],
    [16 * TiB - 512, LARGEST, LARGEST - 512, [2 ** 22, 2 ** 16, 1024, 16, 1]],
    [DEVICE_SIZE_MAX, SMALLEST, SMALLEST - 1, [2 ** 41, 2 ** 35, 2 ** 29, 2 ** 23, 2 ** 17, 2048, 32, 1]],
  ];
  for (const [sizeBytes, blockSize, lastLength, levels] of cases) {
    const g = geometry(sizeBytes, blockSize);
    const name = `${sizeBytes} bytes in blocks of ${blockSize}`;
    t.is(treeHeight(g), levels.length - 1, name);
    t.is(blockCount(g), levels[0], name);
    t.deepEqual(levelsOf(g), levels, name);
    if (lastLength !== null) t.is(blockLength(g, blockCount(g) - 1), lastLength, name);
  }
});

test('block sizes are the powers of two from 4 KiB to 4 MiB, and sizes whole bytes below 8 PiB', (t) => {
  const refusal = (sizeBytes: number, blockSize: number) => {
    const error = t.throws(() => geometry(sizeBytes, blockSize));
    t.true(isStillpointError(error, 'bad-geometry'), `${sizeBytes} / ${blockSize}`);
    return error?.message ?? '';
  };
  for (const blockSize of BLOCK_SIZES) {
    for (const sizeBytes of [0, 1, DEVICE_SIZE_MAX]) {
      t.deepEqual(geometry(sizeBytes, blockSize), { sizeBytes, blockSize });
    }
    for (const near of [blockSize - 1, blockSize + 1, blockSize * 1.5, -blockSize]) {
      t.regex(refusal(0, near), new RegExp(`block size ${near}: .*power of two`));
    }
  }
  for (const blockSize of [0, 1, 2048, 8 * MiB, 2 ** 40, Number.NaN, Number.POSITIVE_INFINITY]) {
    t.regex(refusal(0, blockSize), new RegExp(`block size ${blockSize}: `));
  }
  for (const sizeBytes of [-1, 0.5, DEVICE_SIZE_MAX + 1, 2 ** 60, Number.NaN, Number.POSITIVE_INFINITY]) {
    t.regex(refusal(sizeBytes, SMALLEST), new RegExp(`device size ${sizeBytes}: .*below 8 PiB`));
  }
});

test('geometries are the same if size and block size are', (t) => {
  const geometries = fc.record({
    sizeBytes: fc.constantFrom(0, 1, SMALLEST, LARGEST, LARGEST + 1),
    blockSize: fc.constantFrom(SMALLEST, 64 * KiB, LARGEST),
  });
  fc.assert(
    fc.property(geometries, geometries, (a, b) => {
      t.true(sameGeometry(a, { ...a }));
      t.is(sameGeometry(a, b), `${a.sizeBytes}/${a.blockSize}` === `${b.sizeBytes}/${b.blockSize}`);
    }),
  );
});
