/**
 * In what order a restore in place writes: whenever it dies, the target is what it was,
 * or marked, or the point.
 */
import { randomBytes } from 'node:crypto';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { runRestore } from '../../../src/agent/restore/restore.js';
import { decodeMark } from '../../../src/devices/facts/half-restored.js';
import { KiB } from '../../../src/domain/base/limits.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { pointReceiver } from '../../helpers/fakes/point-receiver.js';
import { WriteLog } from '../../helpers/faults/write-log.js';
import { LONG, type Random, seededRandom } from '../../helpers/seed.js';

interface Case {
  readonly blockSize: number;
  readonly sizeBytes: number;
  /** Where the target differs: block indexes; null: everywhere. */
  readonly changed: readonly number[] | null;
}

const CASES: readonly Case[] = [
  { blockSize: 64 * KiB, sizeBytes: 40 * 64 * KiB, changed: [3, 17, 18, 30] },
  { blockSize: 64 * KiB, sizeBytes: 40 * 64 * KiB - 1536, changed: [0, 1, 2, 39] },
  { blockSize: 64 * KiB, sizeBytes: 40 * 64 * KiB, changed: null },
  { blockSize: 4 * KiB, sizeBytes: 700 * KiB, changed: [0, 1, 31, 32, 33, 100, 174] },
  { blockSize: 4 * KiB, sizeBytes: 512, changed: null },
  { blockSize: 64 * KiB, sizeBytes: 1024, changed: null },
  { blockSize: 1024 * KiB, sizeBytes: 4096 * KiB, changed: [2] },
  { blockSize: 1024 * KiB, sizeBytes: 700 * KiB, changed: null },
];

const stateOf = (content: Buffer, before: Buffer, after: Buffer): string => {
  if (decodeMark(content)?.point?.device === 'disk1') return 'marked';
  if (content.equals(before)) return 'before';
  return content.equals(after) ? 'after' : 'mixed';
};

/** Where anything is left that a file system could be known by, all behind it is of one time. */
function isSafe(content: Buffer, before: Buffer, after: Buffer): boolean {
  const head = content.subarray(512, 128 * KiB);
  const [own, ...times] = [content, before, after].map((bytes) => bytes.subarray(128 * KiB));
  return head.every((byte) => byte === 0) || times.some((bytes) => own?.equals(bytes));
}

async function restoreOver(t: ExecutionContext, { blockSize, sizeBytes, changed }: Case) {
  const directory = await temporaryDirectory(t, 'in-place');
  const geometry = { sizeBytes, blockSize };
  const count = Math.ceil(sizeBytes / blockSize);
  // Every third block is zero.
  const blockIndexes = Array.from({ length: count }, (_, index) => index).filter((index) => index % 3 !== 1);
  const made = await pointReceiver(directory, { geometry, blockIndexes });
  t.teardown(() => made.close());
  const before = Buffer.from(made.bytes);
  for (const index of changed ?? Array.from({ length: count }, (_, n) => n)) {
    before.set(randomBytes(Math.min(blockSize, sizeBytes - index * blockSize)), index * blockSize);
  }
  const target = join(directory, 'target.img');
  await writeFile(target, before);
  const log = WriteLog.record(t);
  const restore = () =>
    runRestore({
      ...{ receiver: made.receiver, point: made.point, target, overwrite: true },
      stateDirectory: join(directory, 'state'),
    });
  const result = await restore();
  t.true(made.bytes.equals(await readFile(target)));
  return { log, before, after: made.bytes, result, restore };
}

function checkCuts(t: ExecutionContext, random: Random, log: WriteLog, before: Buffer, after: Buffer): void {
  const seen = new Set<string>();
  for (let count = 0; count <= log.entries.length; count += 1) {
    for (let round = 0; round < (LONG ? 200 : 12); round += 1) {
      const content = log.afterCut(before, count, random);
      const state = stateOf(content, before, after);
      if (state === 'mixed') t.fail(`mixed after ${count} of ${log.entries.length} steps`);
      if (state === 'marked' && !isSafe(content, before, after))
        t.fail(
          `something that could be mounted, and is mixed, after ${count} of ${log.entries.length} steps`,
        );
      seen.add(state);
    }
  }
  t.deepEqual([...seen].sort(), ['after', 'before', 'marked']);
}

for (const each of CASES) {
  const { blockSize, sizeBytes, changed } = each;
  const where = changed === null ? 'everywhere' : `in ${changed.length} blocks`;
  test.serial(`cut anywhere: ${sizeBytes} bytes in blocks of ${blockSize}, other ${where}`, async (t) => {
    const { log, before, after, result, restore } = await restoreOver(t, each);
    checkCuts(t, seededRandom(t), log, before, after);
    const { length } = log.entries;
    t.is(result.differingBytes === 0, length === 0);
    await restore();
    t.is(log.entries.length, length, 'where nothing differs nothing is written');
  });
}

test.serial(
  'the mark is the first write, flushed before the second; the last write is the first sector',
  async (t) => {
    const { log, after } = await restoreOver(t, CASES[0] as Case);
    const [first, second] = log.entries;
    t.true(first?.type === 'write' && first.byteOffset === 0 && decodeMark(first.bytes) !== null);
    t.is(second?.type, 'flush');
    const [third, fourth] = log.entries.slice(2);
    t.deepEqual(third, { type: 'write', byteOffset: 512, bytes: Buffer.alloc(128 * KiB - 512) });
    t.is(fourth?.type, 'flush');
    t.deepEqual(log.entries.slice(-3), [
      { type: 'flush' },
      { type: 'write', byteOffset: 0, bytes: after.subarray(0, 512) },
      { type: 'flush' },
    ]);
  },
);
