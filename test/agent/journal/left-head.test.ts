import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { decodeLeftHead, readLeftHead } from '../../../src/agent/journal/left-head.js';
import { native, type TapJournalHead } from '../../../src/native/index.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const HEAD: TapJournalHead = {
  ...{ journalId: '0123456789abcdef'.repeat(2), clockId: 'fedcba9876543210'.repeat(2), state: 'broken' },
  ...{ ordinal: 70, stamp: '1796000000000000001', segment: 3, recordOffset: 512, endOffset: 4096 },
  ...{ oldestSegment: 2, lastOrdinal: 70, brokenStamp: '1796000000000000007', reason: 'its spool is full' },
};

/** As native/core/tap/journal/head.cc. */
function encode(head: TapJournalHead): Buffer {
  const bytes = Buffer.alloc(512);
  bytes.write('SPJCLOSE', 'latin1');
  bytes.writeUInt32LE(1, 8);
  bytes.write(head.journalId, 16, 'hex');
  bytes.write(head.clockId, 32, 'hex');
  const words = [
    ...[['open', 'broken', 'closed'].indexOf(head.state) + 1, head.ordinal, head.stamp, head.segment],
    ...[head.recordOffset, head.endOffset, head.oldestSegment, head.lastOrdinal, head.brokenStamp],
    head.reason.length,
  ];
  for (const [at, word] of words.entries()) bytes.writeBigUInt64LE(BigInt(word), 48 + 8 * at);
  bytes.write(head.reason, 128, 'utf8');
  native.checksum(bytes.subarray(0, 480)).copy(bytes, 480);
  return bytes;
}

test('the head that a clean end leaves is read, whole or not at all', async (t) => {
  const directory = await tempDir(t);
  t.is(await readLeftHead(directory), null);
  for (const head of [HEAD, { ...HEAD, state: 'closed', reason: '', brokenStamp: '0' } as const]) {
    await writeFile(join(directory, 'closed'), encode(head));
    t.deepEqual(await readLeftHead(directory), head);
  }
  const bytes = encode(HEAD);
  for (let at = 0; at < bytes.length; at += 7) {
    const damaged = Buffer.from(bytes);
    damaged[at] = (damaged[at] ?? 0) ^ 0x10;
    t.is(decodeLeftHead(damaged), null, `byte ${at}`);
  }
  t.is(decodeLeftHead(Buffer.alloc(512)), null, 'not written yet');
  t.is(decodeLeftHead(bytes.subarray(0, 511)), null);
  t.is(decodeLeftHead(encode({ ...HEAD, state: 'open' })), null, 'nobody leaves an open one');
});
