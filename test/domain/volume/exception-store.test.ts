import test from 'ava';
import {
  areaOffset,
  BadStore,
  parseArea,
  parseStoreHeader,
  scaledRange,
} from '../../../src/domain/volume/exception-store.js';
import { encodeStore } from '../../helpers/bytes/exception-store.js';
import { seededRandom } from '../../helpers/seed.js';

const MIB = 1024 * 1024;

/** As the provider reads it. */
function decode(bytes: Buffer, originBytes: number): number[] {
  const shape = parseStoreHeader(bytes, originBytes, bytes.length);
  const found: number[] = [];
  for (let index = 0; ; index += 1) {
    const offset = areaOffset(shape, index);
    if (offset === null) return found;
    const { chunks, isFull } = parseArea(bytes.subarray(offset, offset + shape.chunkBytes), shape);
    found.push(...chunks);
    if (!isFull) return found;
  }
}

test('what was written to the store is read from it, over several areas', (t) => {
  const random = seededRandom(t);
  for (const chunkBytes of [512, 4096, 65_536]) {
    const storeBytes = 4 * MIB;
    const perArea = chunkBytes / 16;
    const room = Math.floor((storeBytes / chunkBytes - 1) * (perArea / (perArea + 1))) - 1;
    const counts = [0, 1, perArea - 1, perArea, perArea + 1, 3 * perArea + 5].filter((count) => count < room);
    for (const count of counts) {
      const originBytes = 16 * MIB + 512;
      const originChunks = Math.ceil(originBytes / chunkBytes);
      const chunks = Array.from({ length: count }, () => random.below(originChunks));
      t.deepEqual(decode(encodeStore(chunks, { chunkBytes, storeBytes }), originBytes), chunks);
    }
  }
});

test('a store that is full to its last chunk ends there', (t) => {
  const chunkBytes = 512;
  // The header, an area, its 32 originals, and nothing after it.
  const chunks = Array.from({ length: 32 }, (_, index) => index);
  t.deepEqual(decode(encodeStore(chunks, { chunkBytes, storeBytes: 34 * 512 }), MIB), chunks);
});

test('one that overflowed, or is none, says so', (t) => {
  const options = { chunkBytes: 4096, storeBytes: MIB };
  const store = encodeStore([1, 2], options);
  const damaged = (change: (bytes: Buffer) => void): Buffer => {
    const bytes = Buffer.from(store);
    change(bytes);
    return bytes;
  };
  const rows: [RegExp, Buffer][] = [
    [/overflowed/, encodeStore([1], { ...options, isValid: false })],
    [/no exception store/, damaged((bytes) => bytes.writeUInt8(0, 0))],
    [/no exception store/, Buffer.alloc(8)],
    [/version 2/, damaged((bytes) => bytes.writeUInt32LE(2, 8))],
    [/chunks of 0 bytes/, damaged((bytes) => bytes.writeUInt32LE(0, 12))],
    [/chunks of 1536 bytes/, damaged((bytes) => bytes.writeUInt32LE(3, 12))],
    [/chunks of \d{12} bytes|chunks of \d+ bytes/, damaged((bytes) => bytes.writeUInt32LE(2 ** 31, 12))],
    [/behind the origin/, damaged((bytes) => bytes.writeBigUInt64LE(256n, 4096))],
    [/behind the origin/, damaged((bytes) => bytes.writeBigUInt64LE(2n ** 64n - 1n, 4096))],
    [/where none can be/, damaged((bytes) => bytes.writeBigUInt64LE(1n, 4096 + 8))],
    [/where none can be/, damaged((bytes) => bytes.writeBigUInt64LE(256n, 4096 + 8))],
    // 1 + 256 + 1 is the next area.
    [/where none can be/, damaged((bytes) => bytes.writeBigUInt64LE(258n, 4096 + 8))],
    [/too small to be one/, store.subarray(0, 6000)],
  ];
  for (const [message, bytes] of rows)
    t.throws(() => decode(bytes, MIB), { instanceOf: BadStore, message }, String(message));
  const shape = parseStoreHeader(store, MIB, store.length);
  const short = store.subarray(4096, 8191);
  t.throws(() => parseArea(short, shape), { instanceOf: BadStore, message: /inside of an area/ });
});

test('random bytes are refused or read, and never name what is not there', (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < 300; round += 1) {
    const bytes = encodeStore([5, 9, 200], { chunkBytes: 512, storeBytes: 64 * 512 });
    for (let flips = 1 + random.below(8); flips > 0; flips -= 1)
      bytes[random.below(1100)] = random.below(256);
    try {
      t.true(decode(bytes, MIB).every((chunk) => chunk >= 0 && chunk < 2048));
    } catch (error) {
      t.true(error instanceof BadStore, String(error));
    }
  }
});

test('chunks become all blocks that they touch, inside the device', (t) => {
  const sizes = { blockSize: 65_536, sizeBytes: 100_000 };
  t.deepEqual(scaledRange([0, 1], 4096, sizes), [0, 1]);
  t.deepEqual(scaledRange([15, 17], 4096, sizes), [0, 2]);
  t.deepEqual(scaledRange([0, 1], 1_048_576, sizes), [0, 2]);
  t.deepEqual(scaledRange([24, 25], 4096, sizes), [1, 2]);
});
