/**
 * Batches, records and packs through the addon, against a coder in TypeScript that knows
 * docs/format.md and nothing else.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { BATCH_ENTRIES_MAX, BATCH_ZERO_BLOCKS_MAX, KiB } from '../../src/domain/base/limits.js';
import {
  ENTRY_HELD,
  ENTRY_PAYLOAD,
  ENTRY_ZERO,
  native,
  PACK_KIND_DATA,
  PACK_KIND_TREE,
  RECORD_KIND_BLOCK,
  RECORD_KIND_NODE,
} from '../../src/native/index.js';
import { recordsOf } from '../helpers/bytes/block-batch.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { type BatchItem, makeBatch } from '../helpers/bytes/hand-made-batch.js';

const SESSION = '5e'.repeat(16);
const BLOCK = 4 * KiB;
const g = { sizeBytes: 1000 * BLOCK + 77, blockSize: BLOCK };
const bounds = { sessionId: SESSION, sequence: 3, ...g, digester: PLAIN };

/** Compressible bytes, never all zero. */
const content = (length: number, seed: number): Buffer =>
  Buffer.from(Array.from({ length }, (_, i) => ((i >> 5) * (seed + 1) + seed) & 255)).fill(seed | 1, 0, 1);

const lengthOf = (blockIndex: number) => Math.min(BLOCK, g.sizeBytes - blockIndex * BLOCK);

const batches: fc.Arbitrary<BatchItem[]> = fc
  .uniqueArray(
    fc.record({
      blockIndex: fc.integer({ min: 0, max: 1000 }),
      kind: fc.integer({ min: 0, max: 3 }),
      seed: fc.nat(5),
    }),
    { selector: (item) => item.blockIndex, maxLength: 40 },
  )
  .map((items) =>
    items
      .sort((a, b) => a.blockIndex - b.blockIndex)
      .map(({ blockIndex, kind, seed }) => {
        if (kind === 0) return { blockIndex, zeroCount: 1 };
        if (kind === 1) return { blockIndex, held: native.checksum(Buffer.from([seed])) };
        return { blockIndex, bytes: content(lengthOf(blockIndex), seed) };
      }),
  );

test('what is encoded by hand is decoded, and put into an overlay', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-codec-'));
  const overlays = fc.integer({ min: 0, max: 1 });
  let made = 0;
  await fc.assert(
    fc.asyncProperty(batches, overlays, async (items, level) => {
      const body = makeBatch(SESSION, 3, items, level);
      const batch = await native.decodeBatch(body, bounds);
      t.is(batch.entryCount, items.length);
      const path = join(directory, `overlay${made++}`);
      const overlay = await native.createOverlay(path, g.sizeBytes, g.blockSize, '00'.repeat(32));
      overlay.putBatch(body);
      t.is(overlay.presentCount, items.length);
      for (const [i, item] of items.entries()) {
        t.is(batch.blockIndexes[i], item.blockIndex);
        t.is(batch.blockCounts[i], 1);
        const digest = batch.digests.subarray(32 * i, 32 * i + 32);
        t.deepEqual(overlay.get(item.blockIndex), digest);
        if ('held' in item) {
          t.is(batch.kinds[i], ENTRY_HELD);
          t.deepEqual(digest, item.held as Buffer);
        } else if ('zeroCount' in item) {
          t.is(batch.kinds[i], ENTRY_ZERO);
          t.true(digest.every((byte) => byte === 0));
        } else {
          t.is(batch.kinds[i], ENTRY_PAYLOAD);
          const ordinal = batch.recordOrdinals[i] ?? -1;
          const from = batch.recordsOffset + (batch.recordOffsets[ordinal] ?? 0);
          const record = body.subarray(from, from + 80 + (batch.recordStoredLengths[ordinal] ?? 0));
          t.is(batch.recordRawLengths[ordinal], item.bytes.length);
          t.is(batch.recordCodecs[ordinal], record[5]);
          t.deepEqual(batch.recordDigests.subarray(32 * ordinal, 32 * ordinal + 32), digest);
          t.deepEqual(await native.decodeRecord(record, digest, PLAIN), item.bytes as Buffer);
        }
      }
      await overlay.close();
      rmSync(path);
    }),
    { numRuns: 60 },
  );
  rmSync(directory, { recursive: true });
});

test('no changed byte of a batch is accepted', async (t) => {
  const body = makeBatch(SESSION, 3, [
    { blockIndex: 1, zeroCount: 3 },
    { blockIndex: 7, bytes: content(BLOCK, 1) },
    { blockIndex: 8, held: native.checksum(Buffer.from('held')) },
    { blockIndex: 1000, bytes: content(77, 2) },
  ]);
  await t.notThrowsAsync(native.decodeBatch(body, bounds));
  for (let at = 0; at < body.length; at += 1) {
    const changed = Buffer.from(body);
    changed[at] = (changed[at] ?? 0) ^ (1 << (at % 8));
    await t.throwsAsync(native.decodeBatch(changed, bounds), undefined, `byte ${at}`);
  }
  for (let length = 0; length < body.length; length += 11) {
    await t.throwsAsync(native.decodeBatch(body.subarray(0, length), bounds), undefined, `length ${length}`);
  }
});

test('bounds of a batch are those of the domain', async (t) => {
  const huge = { sessionId: SESSION, sequence: 3, sizeBytes: 2 ** 50, blockSize: BLOCK, digester: PLAIN };
  const zeros = (zeroCount: number) => makeBatch(SESSION, 3, [{ blockIndex: 5, zeroCount }]);
  await t.notThrowsAsync(native.decodeBatch(zeros(BATCH_ZERO_BLOCKS_MAX), huge));
  await t.throwsAsync(native.decodeBatch(zeros(BATCH_ZERO_BLOCKS_MAX + 1), huge), { code: 'bad-length' });
  const held = native.checksum(Buffer.from('held'));
  const many = (count: number) =>
    makeBatch(
      SESSION,
      3,
      Array.from({ length: count }, (_, blockIndex) => ({ blockIndex, held })),
    );
  await t.notThrowsAsync(native.decodeBatch(many(BATCH_ENTRIES_MAX), huge));
  await t.throwsAsync(native.decodeBatch(many(BATCH_ENTRIES_MAX + 1), huge), { code: 'bad-length' });

  const body = zeros(1);
  await t.throwsAsync(native.decodeBatch(body, { ...huge, sessionId: '00'.repeat(16) }), {
    code: 'bad-session',
  });
  await t.throwsAsync(native.decodeBatch(body, { ...huge, sequence: 4 }), { code: 'bad-order' });
  await t.throwsAsync(native.decodeBatch(body, { ...huge, sizeBytes: 5 * BLOCK }), { code: 'bad-index' });
  await t.throwsAsync(native.decodeBatch(body, { ...huge, blockSize: 5 }), { code: 'argument' });
});

test('one block and restore batches round-trip', async (t) => {
  const a = content(BLOCK, 1);
  const tail = content(77, 2);
  const one = await native.encodeBlock({
    sessionId: SESSION,
    sequence: 3,
    agentTimeMs: 1,
    blockIndex: 1000,
    bytes: tail,
    digester: PLAIN,
    compressionLevel: 1,
  });
  t.is((await native.decodeBatch(one, bounds)).blockIndexes[0], 1000);
  const zero = await native.encodeBlock({
    sessionId: SESSION,
    sequence: 3,
    agentTimeMs: 1,
    blockIndex: 4,
    bytes: Buffer.alloc(BLOCK),
    digester: PLAIN,
    compressionLevel: 1,
  });
  t.is((await native.decodeBatch(zero, bounds)).kinds[0], ENTRY_ZERO);

  const options = {
    sessionId: SESSION,
    sequence: 0,
    agentTimeMs: 0,
    ...recordsOf([a, tail]),
    blockIndexes: Float64Array.of(2, 9, 1000),
    recordOrdinals: Uint32Array.of(0, 0, 1),
  };
  const body = await native.encodeBatch(options);
  const blocks = await native.decodeBlocks(body, { ...bounds, sequence: 0 });
  t.deepEqual(blocks, [a, a, tail]);
  await t.throwsAsync(native.encodeBatch({ ...options, blockIndexes: Float64Array.of(9, 2, 1000) }), {
    code: 'bad-order',
  });
  await t.throwsAsync(native.encodeBatch({ ...options, recordOrdinals: Uint32Array.of(0, 0, 2) }), {
    code: 'bad-index',
  });
  await t.throwsAsync(native.encodeBatch({ ...options, blockIndexes: Float64Array.of(0.5, 2, 1000) }), {
    code: 'argument',
  });
});

test('restore batches take records out of runs, and only those that were asked for', async (t) => {
  const [a, b] = [randomBytes(BLOCK), Buffer.alloc(BLOCK, 7)];
  const packed = recordsOf([a, b]);
  const [recordA, recordB] = packed.runs as [Buffer, Buffer];
  const gap = randomBytes(100);
  const options = {
    sessionId: SESSION,
    sequence: 0,
    agentTimeMs: 0,
    blockIndexes: Float64Array.of(4, 5),
    recordOrdinals: Uint32Array.of(0, 1),
    recordDigests: packed.recordDigests,
    runs: [Buffer.concat([recordB, gap, recordA, gap])],
    recordRuns: Uint32Array.of(0, 0),
    recordOffsets: Uint32Array.of(recordB.length + gap.length, 0),
  };
  const body = await native.encodeBatch(options);
  t.deepEqual(await native.decodeBlocks(body, { ...bounds, sequence: 0 }), [a, b]);
  await t.throwsAsync(native.encodeBatch({ ...options, recordOffsets: Uint32Array.of(0, 0) }), {
    code: 'bad-digest',
  });
  await t.throwsAsync(native.encodeBatch({ ...options, recordOffsets: Uint32Array.of(2 ** 32 - 1, 0) }), {
    code: 'truncated',
  });
  await t.throwsAsync(native.encodeBatch({ ...options, recordRuns: Uint32Array.of(1, 0) }), {
    code: 'argument',
  });
  await t.throwsAsync(native.encodeBatch({ ...options, recordDigests: packed.recordDigests.subarray(1) }), {
    code: 'argument',
  });
});

test('a freed buffer is empty at once, and no other that shares memory with it', async (t) => {
  const record = recordsOf([Buffer.alloc(BLOCK, 1)]).runs[0] as Buffer;
  const own = Buffer.allocUnsafeSlow(5000);
  for (const buffer of [record, own]) {
    native.freeBuffer(buffer);
    t.is(buffer.length, 0);
    t.notThrows(() => native.freeBuffer(buffer));
  }
  const whole = Buffer.allocUnsafeSlow(100);
  native.freeBuffer(whole.subarray(0, 99));
  t.is(whole.length, 100);
  t.throws(() => native.freeBuffer('text' as unknown as Uint8Array), { code: 'argument' });
});

test('records: nodes, wrong digests and lengths', async (t) => {
  const children = Buffer.concat([native.checksum(Buffer.from('a')), native.checksum(Buffer.from('b'))]);
  const digest = PLAIN.nodeDigest(children);
  const node = native.encodeRecord(RECORD_KIND_NODE, digest, children, 1);
  t.deepEqual(await native.decodeRecord(node, digest, PLAIN), children);
  await t.throwsAsync(native.decodeRecord(node, PLAIN.leafDigest(children), PLAIN), { code: 'bad-digest' });
  await t.throwsAsync(native.decodeRecord(Buffer.concat([node, node]), digest, PLAIN), {
    code: 'bad-length',
  });
  await t.throwsAsync(native.decodeRecord(node.subarray(0, 70), digest, PLAIN), { code: 'truncated' });
  t.throws(() => native.encodeRecord(3, digest, children, 1), { code: 'argument' });
  t.throws(() => native.encodeRecord(RECORD_KIND_NODE, digest, Buffer.alloc(33), 1), { code: 'bad-length' });
});

function makePack(kind: number, contents: readonly Buffer[]): { pack: Buffer; offsets: number[] } {
  const packId = 'ab'.repeat(16);
  const parts = [native.encodePackHeader(packId, kind)];
  const offsets: number[] = [];
  const entries = Buffer.alloc(56 * contents.length);
  let offset = 64;
  for (const [i, bytes] of contents.entries()) {
    const digest = kind === PACK_KIND_DATA ? PLAIN.leafDigest(bytes) : PLAIN.nodeDigest(bytes);
    const record = native.encodeRecord(
      kind === PACK_KIND_DATA ? RECORD_KIND_BLOCK : RECORD_KIND_NODE,
      digest,
      bytes,
      1,
    );
    const entry = entries.subarray(56 * i);
    digest.copy(entry);
    entry.writeBigUInt64LE(BigInt(offset), 32);
    entry.writeUInt32LE(record.length - 80, 40);
    entry.writeUInt32LE(bytes.length, 44);
    entry[48] = record[5] ?? 0;
    entry[49] = record[4] ?? 0;
    offsets.push(offset);
    parts.push(record);
    offset += record.length;
  }
  parts.push(native.encodePackTail(packId, offset, entries));
  return { pack: Buffer.concat(parts), offsets };
}

test('packs: read, verified, damaged, salvaged', async (t) => {
  const directory = mkdtempSync(join(tmpdir(), 'stillpoint-pack-'));
  const path = join(directory, 'pack');
  for (const kind of [PACK_KIND_DATA, PACK_KIND_TREE]) {
    const contents = Array.from({ length: 10 }, () => randomBytes(320));
    const { pack, offsets } = makePack(kind, contents);
    const check = async (bytes: Buffer) => {
      writeFileSync(path, bytes);
      const found: { offset: number; digest: Buffer | null; reason: string }[] = [];
      const result = await native.verifyPack(path, PLAIN, (damage) => found.push(damage));
      return { result, found };
    };
    const good = await check(pack);
    t.deepEqual(good.found, []);
    t.is(good.result.recordCount, 10);
    const index = await native.readPackIndex(path);
    t.is(index.packId, 'ab'.repeat(16));
    t.is(index.kind, kind);
    t.deepEqual(await native.salvagePack(path, PLAIN), index);

    const damaged = Buffer.from(pack);
    damaged[(offsets[4] ?? 0) + 100] = 1 ^ (damaged[(offsets[4] ?? 0) + 100] ?? 0);
    const bad = await check(damaged);
    t.is(bad.found.length, 1);
    t.is(bad.found[0]?.offset, offsets[4]);
    t.deepEqual(bad.found[0]?.digest, index.entries.subarray(56 * 4, 56 * 4 + 32));
    t.is((await native.salvagePack(path, PLAIN)).recordCount, 9);

    const cut = await check(pack.subarray(0, offsets[7]));
    t.is(cut.found[0]?.digest, null);
    await t.throwsAsync(native.readPackIndex(path), { code: 'bad-magic' });
    t.is((await native.salvagePack(path, PLAIN)).recordCount, 7);
    const thrown = new Error('the finder gave up');
    await t.throwsAsync(
      native.verifyPack(path, PLAIN, () => {
        throw thrown;
      }),
      { is: thrown },
    );
  }
  await t.throwsAsync(
    native.verifyPack(join(directory, 'none'), PLAIN, () => {}),
    { code: 'ENOENT' },
  );
  rmSync(directory, { recursive: true });
});

test('both languages have the same constants', (t) => {
  t.is(native.constants.recordHeaderBytes, 80);
  t.is(native.constants.packHeaderBytes, 64);
  t.is(native.constants.packIndexEntryBytes, 56);
  t.is(native.constants.packFooterBytes, 96);
  t.is(native.constants.batchHeaderBytes, 64);
  t.is(native.constants.batchEntryBytes, 56);
  t.is(native.constants.batchTrailerBytes, 32);
});
