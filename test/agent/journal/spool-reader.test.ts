import { truncate } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import { RecordsLost, SpoolReader } from '../../../src/agent/journal/spool-reader.js';
import type { JournalMark } from '../../../src/domain/journal/journal.js';
import { native } from '../../../src/native/index.js';
import { journalRecord } from '../../helpers/bytes/journal-records.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { type HandMadeJournal, HandMadeSpool } from '../../helpers/journals/spool.js';

const KiB = 1024;

async function spool(t: ExecutionContext, segmentBytes = 4 * KiB): Promise<HandMadeJournal> {
  return new HandMadeSpool(await tempDir(t)).hold(segmentBytes);
}

const readerOf = (journal: HandMadeJournal) => new SpoolReader(journal.directory, native.scanJournal);

/** All from a record on, in pieces. */
async function readAll(
  journal: Pick<HandMadeJournal, 'directory' | 'head'>,
  reader: SpoolReader,
  after: JournalMark | null,
  bytesMax = 2 * KiB,
): Promise<{ bytes: Buffer; last: JournalMark | null; pieces: number }> {
  const parts: Buffer[] = [];
  let last = after;
  for (;;) {
    const read = await reader.read(journal.head, last, bytesMax);
    if (read === null) return { bytes: Buffer.concat(parts), last, pieces: parts.length };
    parts.push(Buffer.from(read.records));
    last = read.last;
  }
}

const markAt = (journal: HandMadeJournal, ordinal: number): JournalMark => ({
  ordinal,
  stamp: String((journal.bytes[ordinal - 1] as Buffer).readBigUInt64LE(24)),
});

test('records are read whole, over segments, up to the head and no further', async (t) => {
  const journal = await spool(t);
  await journal.writeMany(40);
  await journal.scribble(journalRecord({ kind: 'stamp', ordinal: 42, stamp: '1900000000000000000' }));
  const reader = readerOf(journal);
  const { bytes, last, pieces } = await readAll(journal, reader, null);
  t.deepEqual(bytes, Buffer.concat(journal.bytes));
  t.deepEqual(last, markAt(journal, 41));
  t.true(pieces >= 10, 'in messages of the size that is asked for');
  t.is(await reader.read(journal.head, last, 2 * KiB), null);
});

test('more is read when the head has moved, into new segments, too', async (t) => {
  const journal = await spool(t);
  const reader = readerOf(journal);
  let { last } = await readAll(journal, reader, null);
  for (let i = 0; i < 12; i += 1) {
    await journal.writeMany(1 + (i % 3), 1500);
    if (i === 6) {
      journal.close();
      t.is(await reader.read(journal.head, markAt(journal, journal.head.ordinal), KiB), null);
      journal.reopen();
    }
    const before: number = last?.ordinal ?? 0;
    const read = await readAll(journal, reader, last, 64 * KiB);
    t.deepEqual(read.bytes, Buffer.concat(journal.bytes.slice(before)));
    ({ last } = read);
  }
});

test('reading begins behind any record, wherever it lies', async (t) => {
  const journal = await spool(t);
  await journal.writeMany(30);
  for (let after = 1; after <= 31; after += 1) {
    const { bytes } = await readAll(journal, readerOf(journal), markAt(journal, after));
    t.deepEqual(bytes, Buffer.concat(journal.bytes.slice(after)), `after ${after}`);
  }
});

test('a record that is larger than a message is read alone', async (t) => {
  const journal = await spool(t);
  await journal.writeMany(1, 1024 * KiB);
  await journal.writeMany(1, 1024 * KiB);
  const { pieces, bytes } = await readAll(journal, readerOf(journal), null, 64 * KiB);
  t.is(pieces, 3);
  t.deepEqual(bytes, Buffer.concat(journal.bytes));
});

test('what was released can be gone on from, and what is behind it is lost', async (t) => {
  const journal = await spool(t);
  await journal.writeMany(30);
  const first = async (number: number) =>
    (await readerOf(journal).read(journal.head, null, KiB))?.segment === number;
  t.true(await first(1));
  await journal.release(20);
  t.true(journal.head.oldestSegment > 1);
  t.true(await first(journal.head.oldestSegment));
  const oldest = (await readerOf(journal).read(journal.head, null, 1))?.last.ordinal as number;
  const { bytes } = await readAll(journal, readerOf(journal), markAt(journal, oldest - 1));
  t.deepEqual(bytes, Buffer.concat(journal.bytes.slice(oldest - 1)), 'the record itself is gone');
  await t.throwsAsync(readerOf(journal).read(journal.head, markAt(journal, oldest - 2), KiB), {
    instanceOf: RecordsLost,
    message: /does not have what follows its record/,
  });
  await journal.drop();
  await t.throwsAsync(readerOf(journal).read(journal.head, null, KiB), { message: 'its spool was given up' });
});

test('a receiver with another record of that ordinal gets nothing', async (t) => {
  const journal = await spool(t);
  await journal.writeMany(10);
  const other = { ordinal: 5, stamp: '77' };
  await t.throwsAsync(readerOf(journal).read(journal.head, other, KiB), {
    instanceOf: RecordsLost,
    message: /its record 5 is not the one/,
  });
});

test('damage is named and never read past', async (t) => {
  const journal = await spool(t, 64 * KiB);
  await journal.writeMany(10);
  const whole = Buffer.concat(journal.bytes);
  const flipped = Buffer.from(whole);
  const at = Buffer.concat(journal.bytes.slice(0, 4)).length;
  flipped[at + 100] = (flipped[at + 100] ?? 0) ^ 1;
  await journal.damage(1, flipped);
  const damaged = { instanceOf: RecordsLost, message: `its spool is damaged: segment 1, byte ${at}` };
  await t.throwsAsync(readerOf(journal).read(journal.head, null, 64 * KiB), damaged);
  const header = Buffer.from(whole);
  header.fill(0xff, at, at + 64);
  await journal.damage(1, header);
  await t.throwsAsync(
    readerOf(journal).read(journal.head, markAt(journal, 8), KiB),
    damaged,
    'on the way there',
  );
  await journal.damage(1, whole);
  const reader = readerOf(journal);
  await truncate(journal.segmentPath(1), whole.length - 1);
  await t.throwsAsync(reader.read(journal.head, null, 64 * KiB), { message: /damaged: segment 1, byte/ });
  await journal.damage(1, whole);
  t.deepEqual((await readAll(journal, reader, null)).bytes, whole, 'it can be tried again');
});

test('what the system refuses passes: it is tried again', async (t) => {
  const journal = await spool(t, KiB);
  await journal.writeMany(10);
  const reader = readerOf(journal);
  const after = markAt(journal, 2);
  const beyond = { ...journal.head, segment: journal.head.segment + 1, endOffset: KiB };
  const [error] = await readAll({ directory: journal.directory, head: beyond }, reader, after).then(
    () => [],
    (failure: NodeJS.ErrnoException) => [failure],
  );
  t.false(error instanceof RecordsLost);
  t.is(error?.code, 'ENOENT');
  t.deepEqual((await readAll(journal, reader, after)).bytes, Buffer.concat(journal.bytes.slice(2)));
});
