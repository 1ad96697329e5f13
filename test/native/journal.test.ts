/** Journals through the addon: heads, runs of records, replays in memory, records written to devices. */
import { randomBytes, randomInt } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { type Device, native } from '../../src/native/index.js';
import { createMemoryDevice } from '../../src/native/testing.js';
import { recordsOf } from '../helpers/bytes/block-batch.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { attachLoop, temporaryDirectory } from '../helpers/disks/loop-device.js';
import { makeRecords, type RecordItem } from '../helpers/journals/records.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 4 * KiB;
const SIZE = 100 * BLOCK + 777;
const STAMP = 1_700_000_000_000_000_000n;
const stampOf = (ordinal: number) => String(STAMP + BigInt(ordinal) * 1000n);

/** A journal's head as docs/journal.md and native/core/tap/journal/head.h say that it lies in its file. */
function headFile(words: readonly bigint[], reason: string, boot: string): Buffer {
  const file = Buffer.alloc(4096);
  file.write('SPJHEAD1');
  file.writeBigUInt64LE(1n, 8);
  file.write(boot, 16);
  const slot = file.subarray(56 + 34 * 8);
  for (const [i, word] of words.entries()) slot.writeBigUInt64LE(word, 32 + 8 * i);
  Buffer.from('aa'.repeat(16), 'hex').copy(slot);
  Buffer.from('bb'.repeat(16), 'hex').copy(slot, 16);
  slot.writeBigUInt64LE(BigInt(reason.length), 13 * 8);
  slot.write(reason, 14 * 8);
  return file;
}

test('a head is read as its tap published it, in the boot that it is of', async (t) => {
  const path = join(await temporaryDirectory(t, 'journal'), 'head');
  t.is(await native.readJournalHead(path), null);
  const boot = readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim();
  const words = [2n, 7n, STAMP, 3n, 100n, 228n, 2n, 9n, STAMP + 5n];
  await writeFile(path, headFile(words, 'its spool is full', boot));
  t.deepEqual(await native.readJournalHead(path), {
    journalId: 'aa'.repeat(16),
    clockId: 'bb'.repeat(16),
    state: 'broken',
    ordinal: 7,
    stamp: String(STAMP),
    segment: 3,
    recordOffset: 100,
    endOffset: 228,
    oldestSegment: 2,
    lastOrdinal: 9,
    brokenStamp: String(STAMP + 5n),
    reason: 'its spool is full',
  });
  await writeFile(path, headFile(words, '', boot.replace(/[0-9a-f]/g, '0')));
  t.is(await native.readJournalHead(path), null);
  for (const [at, value] of [
    [0, 4n],
    [1, 10n],
    [4, 229n],
    [7, 2n ** 53n],
  ] as const) {
    const wrong = words.with(at, value);
    await writeFile(path, headFile(wrong, '', boot));
    await t.throwsAsync(native.readJournalHead(path), { code: 'bad-length' });
  }
  await writeFile(path, Buffer.alloc(4096));
  await t.throwsAsync(native.readJournalHead(path), { code: 'bad-magic' });
  await truncate(path, 4095);
  await t.throwsAsync(native.readJournalHead(path), { code: 'bad-length' });
  await t.throwsAsync(native.readJournalHead(join(path, 'x')), { code: 'ENOTDIR' });
});

test('a run is the whole records up to a stamp, a length or a cut', async (t) => {
  const records = makeRecords(
    [{ instant: 'cd'.repeat(16) }, { at: 5, bytes: randomBytes(9000) }, { at: 0, zeros: 4096 }, 'stamp'],
    5,
  );
  const all = Buffer.concat(records);
  const ends = records.map((_, i) => Buffer.concat(records.slice(0, i + 1)).length);
  const run = (count: number) => ({
    recordCount: count,
    byteLength: count === 0 ? 0 : ends[count - 1],
    first: count === 0 ? null : { ordinal: 5, stamp: stampOf(5) },
    last: count === 0 ? null : { ordinal: 4 + count, stamp: stampOf(4 + count) },
  });
  const any = { afterOrdinal: null };
  t.deepEqual(await native.scanJournal(all, any), run(4));
  t.deepEqual(await native.scanJournal(all, { afterOrdinal: 4 }), run(4));
  t.deepEqual(await native.scanJournal(Buffer.alloc(0), { afterOrdinal: 4 }), run(0));
  t.deepEqual(await native.scanJournal(all.subarray(0, -1), any), run(3));
  t.deepEqual(await native.scanJournal(all, { ...any, throughStamp: stampOf(6) }), run(2));
  t.deepEqual(await native.scanJournal(all, { ...any, throughStamp: '0' }), run(0));
  t.deepEqual(await native.scanJournal(all, { ...any, throughStamp: '9'.repeat(25) }), run(4));
  t.deepEqual(await native.scanJournal(all, { ...any, bytesMax: ends[1] ?? 0 }), run(2));
  t.deepEqual(await native.scanJournal(all, { ...any, bytesMax: 1 }), run(1));

  await t.throwsAsync(native.scanJournal(all, { afterOrdinal: 5 }), { code: 'bad-order' });
  const damaged = (at: number) => Buffer.from(all).fill((all[at] ?? 0) ^ 1, at, at + 1);
  for (const [at, code] of [
    [0, 'bad-magic'],
    [4, 'bad-version'],
    [5, 'bad-kind'],
    [8, 'bad-length'],
    [30, 'bad-checksum'],
  ] as const) {
    const error = await t.throwsAsync<Error & { byteOffset?: number }>(
      native.scanJournal(damaged((ends[0] ?? 0) + at), any),
      { code },
    );
    t.is(error.byteOffset, ends[0]);
  }
  for (const throughStamp of ['', '-1', '1.5', '9'.repeat(41)]) {
    await t.throwsAsync(native.scanJournal(all, { ...any, throughStamp }), { code: 'argument' });
  }
  await t.throwsAsync(native.scanJournal('text' as unknown as Buffer, any), { code: 'argument' });
});

/** Random records, and the device that they were written to. */
function randomRecords(device: Buffer, count: number): Buffer[] {
  const items = Array.from({ length: count }, (): RecordItem => {
    const length = randomInt(1, randomInt(2) === 0 ? 700 : 40_000);
    const at = randomInt(device.length - length + 1);
    if (randomInt(10) === 0) return 'stamp';
    if (randomInt(3) === 0) {
      device.fill(0, at, at + length);
      return { at, zeros: length };
    }
    const bytes = randomBytes(length);
    bytes.copy(device, at);
    return { at, bytes };
  });
  return makeRecords(items);
}

test('a replay has the digests of the device that the records were written to', async (t) => {
  const base = Buffer.concat([randomBytes(50 * BLOCK), Buffer.alloc(SIZE - 50 * BLOCK)]);
  const now = Buffer.from(base);
  const records = randomRecords(now, 20);
  const replay = native.createJournalReplay(SIZE, BLOCK);
  for (const record of records) await replay.note(record);
  const touched = replay.touchedRanges().flatMap(([start, end]) => {
    return Array.from({ length: end - start }, (_, i) => start + i);
  });
  const block = (device: Buffer, index: number) => device.subarray(index * BLOCK, (index + 1) * BLOCK);
  for (let index = 0; index <= 100; index++) {
    if (!touched.includes(index)) t.deepEqual(block(base, index), block(now, index));
  }
  for (const window of [touched.slice(0, touched.length / 2), touched.slice(touched.length / 2)]) {
    replay.open(Float64Array.from(window));
    const loaded = window.filter((index) => index < 50);
    await replay.load(
      {
        blockIndexes: Float64Array.from(loaded),
        recordOrdinals: Uint32Array.from(loaded.keys()),
        ...recordsOf(loaded.map((index) => block(base, index))),
      },
      PLAIN,
    );
    await replay.apply(Buffer.concat(records.slice(0, 7)));
    await replay.apply(Buffer.concat(records.slice(7)));
    t.deepEqual(
      await replay.digests(PLAIN),
      Buffer.concat(window.map((index) => PLAIN.leafDigest(block(now, index)))),
    );
  }
  await replay.close();
});

test('a replay refuses what does not fit, one call beside another, and all after its end', async (t) => {
  const replay = native.createJournalReplay(SIZE, BLOCK);
  const [first, second, third] = makeRecords([
    { at: 0, bytes: randomBytes(MiB / 4) },
    { at: SIZE - 5, zeros: 5 },
    { at: SIZE - 5, zeros: 6 },
  ]) as [Buffer, Buffer, Buffer];
  await t.throwsAsync(replay.apply(first), { code: 'argument' });
  await t.throwsAsync(replay.digests(PLAIN), { code: 'argument' });
  for (const wrong of [[1, 1], [101], [0.5], [-1]]) {
    t.throws(() => replay.open(Float64Array.from(wrong)), { code: 'argument' });
  }
  t.throws(() => replay.open([1] as unknown as Float64Array), { code: 'argument' });
  const large = native.createJournalReplay(2 ** 50, BLOCK);
  large.open(Float64Array.from({ length: 65_536 }, (_, i) => i));
  t.throws(() => large.open(Float64Array.from({ length: 65_537 }, (_, i) => i)), { code: 'argument' });

  replay.open(Float64Array.of(3));
  const stored = { ...recordsOf([Buffer.alloc(BLOCK, 1)]), recordOrdinals: Uint32Array.of(0) };
  const load = (blockIndex: number) =>
    replay.load({ ...stored, blockIndexes: Float64Array.of(blockIndex) }, PLAIN);
  await t.throwsAsync(load(4), { code: 'bad-index' });
  await load(3);
  await t.throwsAsync(replay.apply(second.subarray(0, 60)), { code: 'truncated' });
  await replay.apply(first);
  await t.throwsAsync(load(3), { code: 'argument' });
  await t.throwsAsync(replay.apply(third), { code: 'bad-order' });
  await replay.apply(second);
  const error = await t.throwsAsync<Error & { byteOffset?: number }>(replay.apply(third), {
    code: 'bad-index',
  });
  t.is(error.byteOffset, 0);

  const calls = await Promise.allSettled(Array.from({ length: 8 }, () => replay.digests(PLAIN)));
  for (const call of calls) t.true(call.status === 'fulfilled' || call.reason.code === 'EBUSY');
  const inFlight = replay.digests(PLAIN);
  await replay.close();
  t.deepEqual(await inFlight, Buffer.from(PLAIN.leafDigest(first.subarray(64 + 3 * BLOCK, 64 + 4 * BLOCK))));
  await replay.close();
  await t.throwsAsync(replay.note(first), { code: 'closed' });
  t.throws(() => replay.touchedRanges(), { code: 'closed' });
  await large.close();
  t.throws(() => native.createJournalReplay(SIZE, 5000), { code: 'argument' });
});

/** Random records over what the device has; ranges are left alone. */
async function expectApplied(device: Device, before: Buffer): Promise<boolean> {
  const expected = Buffer.from(before);
  const records = randomRecords(expected, 400);
  const except: [number, number][] = [
    [1000, 1001],
    [70_000, 130_000],
  ];
  for (const [start, end] of except) before.copy(expected, start, start, end);
  const { writtenBytes } = await native.applyJournal(device, Buffer.concat(records), except);
  return writtenBytes <= before.length && (await device.read(0, before.length)).equals(expected);
}

test('records are written to an image as to a plain array, and nothing where one is wrong', async (t) => {
  const content = randomBytes(3 * MiB + 777);
  const path = join(await temporaryDirectory(t, 'journal'), 'image');
  await writeFile(path, content);
  const device = await native.openDevice(path, { write: true });
  t.true(await expectApplied(device, content));
  await device.close();

  const memory = createMemoryDevice(SIZE);
  const records = makeRecords([
    { at: 0, bytes: randomBytes(100) },
    { at: SIZE - 5, zeros: 6 },
  ]);
  const error = await t.throwsAsync<Error & { byteOffset?: number }>(
    native.applyJournal(memory, Buffer.concat(records), []),
    { code: 'bad-index' },
  );
  t.is(error.byteOffset, 164);
  t.deepEqual(await memory.read(0, 100), Buffer.alloc(100));
  await t.throwsAsync(
    native.applyJournal(memory, records[0] as Buffer, [
      [5, 9],
      [8, 10],
    ]),
    { code: 'argument' },
  );
  t.deepEqual(await native.applyJournal(memory, records[0] as Buffer, [[10, 90]]), { writtenBytes: 20 });
  memory.addBadWriteRange(0, 1);
  await t.throwsAsync(native.applyJournal(memory, records[0] as Buffer, []), { code: 'EIO' });
  await memory.close();
  await t.throwsAsync(native.applyJournal(memory, records[0] as Buffer, []), { code: 'closed' });
});

for (const sectorSize of [512, 4096] as const) {
  testWith(
    ['root', 'loop'],
    `records are written past the page cache to a device with ${sectorSize}-byte sectors`,
    async (t) => {
      const content = randomBytes(4 * MiB + 3 * sectorSize);
      const image = join(await temporaryDirectory(t, 'journal'), 'image');
      await writeFile(image, content);
      const device = await native.openDevice(attachLoop(t, image, { sectorSize }), { write: true });
      t.true(device.direct);
      for (let round = 0; round < 5; round++) {
        t.true(await expectApplied(device, await device.read(0, content.length)));
      }
      await device.close();
    },
  );
}
