/** Partition tables as Linux reads them, and which blocks of a disk are left out. */
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { crc32 } from 'node:zlib';
import test, { type ExecutionContext } from 'ava';
import fc from 'fast-check';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { type ExclusionWish, planExclusion } from '../../../src/domain/device/exclusion.js';
import { contentOf } from '../../../src/domain/device/partition-content.js';
import { type PartitionTable, readPartitionTable } from '../../../src/domain/device/partition-table.js';
import { writeGpt, writeMbr } from '../../helpers/disks/partition-table.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const SECTOR = 512;
const SWAP_GUID = '0657fd6d-a4ab-43c4-84e5-0933c84b4f4f';

async function imageOf(t: ExecutionContext, write: (path: string) => Promise<void>): Promise<Buffer> {
  const path = join(await tempDir(t), 'disk');
  const file = await open(path, 'w');
  await file.truncate(8 * MiB);
  await file.close();
  await write(path);
  return readFile(path);
}

const readTable = (bytes: Buffer, sectorSizes: readonly number[] = [512, 4096]) =>
  readPartitionTable({
    ...{ sizeBytes: bytes.length, sectorSizes, crc32 },
    read: async (byteOffset, byteLength) => bytes.subarray(byteOffset, byteOffset + byteLength),
  });

/** @param entries type, start, count in sectors */
function mbr(bytes: Buffer, at: number, entries: readonly (readonly [number, number, number])[]): void {
  for (const [n, [type, start, count]] of entries.entries()) {
    bytes.writeUInt8(type, at * SECTOR + 446 + 16 * n + 4);
    bytes.writeUInt32LE(start, at * SECTOR + 446 + 16 * n + 8);
    bytes.writeUInt32LE(count, at * SECTOR + 446 + 16 * n + 12);
  }
  bytes.writeUInt16LE(0xaa55, at * SECTOR + 510);
}

const LINUX = '0fc63daf-8483-4772-8e79-3d69d8477de4';

test('a GPT is read, from its copy if need be; a damaged one is not guessed at', async (t) => {
  const bytes = await imageOf(t, (path) =>
    writeGpt(path, 1, [
      { start: 2048, length: 100 },
      { start: 4096, length: 8 },
    ]),
  );
  const expected = {
    kind: 'gpt',
    containers: [],
    partitions: [
      { number: 1, byteOffset: MiB, byteLength: 51_200, type: LINUX, name: '' },
      { number: 2, byteOffset: 2 * MiB, byteLength: 4096, type: LINUX, name: '' },
    ],
  };
  t.deepEqual(await readTable(bytes), expected as PartitionTable);
  bytes.writeUInt8(0xff, 2 * SECTOR + 40);
  t.deepEqual(await readTable(bytes), expected as PartitionTable, 'the copy at the end');
  bytes.writeUInt8(0xff, bytes.length - SECTOR + 20);
  t.is(await readTable(bytes), 'both copies of its GPT are damaged');
  t.is(await readTable(Buffer.alloc(MiB)), null);
  t.is(await readTable(Buffer.alloc(100)), null);
});

test('an MBR is read, with its logical partitions; chains that lead nowhere are refused', async (t) => {
  const plain = await imageOf(t, (path) => writeMbr(path, 1, [{ start: 2048, length: 100 }]));
  t.deepEqual(await readTable(plain), {
    ...{ kind: 'mbr', containers: [] },
    partitions: [{ number: 1, byteOffset: MiB, byteLength: 51_200, type: '83', name: '' }],
  });
  const bytes = Buffer.alloc(8 * MiB);
  mbr(bytes, 0, [
    [0x82, 64, 100],
    [0, 0, 0],
    [0x0f, 2048, 8192],
  ]);
  mbr(bytes, 2048, [
    [0x83, 64, 200],
    [0x05, 1024, 1024],
  ]);
  mbr(bytes, 2048 + 1024, [[0x82, 32, 300]]);
  const table = (await readTable(bytes)) as PartitionTable;
  t.deepEqual(
    table.partitions.map(({ number, byteOffset, byteLength, type }) => [
      number,
      byteOffset / SECTOR,
      byteLength / SECTOR,
      type,
    ]),
    [
      [1, 64, 100, '82'],
      [5, 2048 + 64, 200, '83'],
      [6, 2048 + 1024 + 32, 300, '82'],
    ],
  );
  t.deepEqual(table.containers, [3]);
  // The kernel counts a partition without a type, and others beside the first one: numbers move.
  const odd = Buffer.from(bytes);
  mbr(odd, 2048, [
    [0, 64, 200],
    [0x05, 1024, 1024],
    [0x83, 300, 100],
    [0x83, 300, 100_000],
  ]);
  const counted = (await readTable(odd)) as PartitionTable;
  t.deepEqual(
    counted.partitions.map(({ number, byteOffset }) => [number, byteOffset / SECTOR]),
    [
      [1, 64],
      [5, 2048 + 64],
      [6, 2048 + 300],
      [7, 2048 + 1024 + 32],
    ],
  );
  mbr(bytes, 2048 + 1024, [
    [0x82, 32, 300],
    [0x05, 1024, 1024],
  ]);
  t.is(await readTable(bytes), 'the chain of its logical partitions does not end');
  mbr(bytes, 2048, [
    [0x83, 64, 200],
    [0x05, 1_000_000, 1024],
  ]);
  t.is(await readTable(bytes), 'its extended partition leads past its end');
  mbr(bytes, 0, [[0x83, 64, 1_000_000]]);
  bytes.fill(0, 446 + 16, 510);
  t.is(await readTable(bytes), 'its partition 1 reaches past its end');
  bytes.write('FAT32 code', 446, 'latin1');
  t.is(await readTable(bytes), null, 'the boot sector of a FAT');
});

test('swap is known by its signature, for any size of pages; a hibernated machine is told from it', (t) => {
  const signed = (at: number, text: string, bytes = 128 * KiB) => {
    const head = Buffer.alloc(bytes);
    head.write(text, at, 'latin1');
    return contentOf(head, Buffer.alloc(bytes), 64 * MiB);
  };
  for (const page of [4096, 8192, 16_384, 65_536]) {
    t.is(signed(page - 10, 'SWAPSPACE2'), 'swap');
    t.is(signed(page - 10, 'S1SUSPEND'), 'hibernated');
  }
  t.is(signed(4086, '\xed\xc3\x02\xe9\x98V\xe5\x0c'), 'hibernated');
  for (const [at, text] of [
    [0, 'LUKS\xba\xbe'],
    [0, 'XFSB'],
    [1080, '\x53\xef'],
    [512, 'LABELONE'],
    [65_600, '_BHRfS_M'],
  ] as const)
    t.is(signed(at, text), 'other', text);
  t.is(signed(0, ''), 'unknown');
  t.is(signed(0, 'XFSB', 512), 'other', 'a partition of a sector');
});

test('swap that is on something else, or under it, is neither', (t) => {
  const sizeBytes = 64 * MiB + 3 * SECTOR;
  const content = (signatures: readonly (readonly [byteOffset: number, text: string])[]) => {
    const disk = Buffer.alloc(sizeBytes);
    for (const [at, text] of signatures) disk.write(text, at, 'latin1');
    return contentOf(disk.subarray(0, 128 * KiB), disk.subarray(-128 * KiB), sizeBytes);
  };
  const swap = [4086, 'SWAPSPACE2'] as const;
  const md = '\xfc\x4e\x2b\xa9';
  for (const other of [
    ...[[64 * MiB - 64 * KiB, md] as const, [64 * MiB - 8 * KiB, md] as const, [4096, md] as const],
    [sizeBytes - 512, '\xde\x11\xde\x11'] as const,
    [65_600, '_BHRfS_M'] as const,
  ]) {
    t.is(content([swap, other]), 'both', String(other));
    t.is(content([other]), 'other', String(other));
    t.is(content([[4086, 'S1SUSPEND'], other]), 'hibernated');
  }
  t.is(content([swap, [64 * MiB - 65_000, md]]), 'swap', 'where nothing is looked for');
  t.is(
    content([
      [8182, 'SWAPSPACE2'],
      [65_526, 'S1SUSPEND'],
    ]),
    'hibernated',
    'of a larger page',
  );
});

const ALL: ExclusionWish = { partitions: null, excludePartitions: [], excludeSwap: false };

test('swap by its type alone counts in a GPT; a contradiction is backed up, with a warning', (t) => {
  const size = { sizeBytes: 64 * MiB, blockSize: 64 * KiB };
  const plan = (type: string, content: 'swap' | 'other' | 'both' | 'unknown') =>
    planExclusion(
      '/dev/sda',
      { ...ALL, excludeSwap: true },
      {
        kind: 'gpt',
        containers: [],
        partitions: [{ number: 1, byteOffset: MiB, byteLength: MiB, type, name: '' }],
      },
      () => content,
      size,
    );
  t.is(plan(SWAP_GUID, 'unknown').excluded.length, 1, 'encrypted with a new key at each start');
  t.regex(plan(SWAP_GUID, 'unknown').warnings.join(), /partition 1 is left out for its type alone/);
  t.is(plan('82', 'unknown').excluded.length, 0);
  t.like(plan('83', 'swap'), {
    excluded: [{ byteOffset: MiB + 64 * KiB, byteLength: MiB - 192 * KiB, reason: 'partition 1, swap' }],
    warnings: [],
  });
  t.deepEqual(plan(SWAP_GUID, 'both').excluded, []);
  t.regex(plan(SWAP_GUID, 'both').warnings.join(), /the signature of swap and that of something else/);
  for (const type of [SWAP_GUID, '82']) {
    const { excluded, warnings } = plan(type, 'other');
    t.deepEqual(excluded, []);
    t.regex(warnings.join(), /has the type of swap but holds something else/);
  }
});

const partition = fc.record({
  start: fc.integer({ min: 1, max: 4000 }),
  count: fc.integer({ min: 1, max: 1500 }),
});

test('no byte outside of what was left out is ever excluded, however partitions lie', (t) => {
  fc.assert(
    fc.property(
      fc.array(partition, { minLength: 1, maxLength: 5 }),
      fc.constantFrom(4096, 65_536, 262_144),
      fc.nat({ max: 31 }),
      (parts, blockSize, chosen) => {
        const sizeBytes = 5500 * SECTOR;
        const partitions = parts.map(({ start, count }, n) => ({
          ...{ number: n + 1, byteOffset: start * SECTOR, byteLength: count * SECTOR, type: '83', name: '' },
        }));
        const isOut = ({ number }: { number: number }) => ((chosen >> (number - 1)) & 1) === 1;
        const wish = { ...ALL, excludePartitions: partitions.filter(isOut).map(({ number }) => number) };
        const table = { kind: 'mbr', partitions, containers: [] } as const;
        const { excluded } = planExclusion('disk', wish, table, () => 'unknown', { sizeBytes, blockSize });
        const within = (list: typeof partitions, byte: number) =>
          list.some(({ byteOffset, byteLength }) => byteOffset <= byte && byte < byteOffset + byteLength);
        let end = 128 * KiB;
        for (const { byteOffset, byteLength } of excluded) {
          t.true(byteOffset >= end && byteOffset % blockSize === 0);
          end = byteOffset + byteLength;
          t.true(end === sizeBytes || end % blockSize === 0);
          for (let byte = byteOffset; byte < end; byte += SECTOR)
            t.true(
              within(partitions.filter(isOut), byte) &&
                !within(
                  partitions.filter((one) => !isOut(one)),
                  byte,
                ),
            );
        }
      },
    ),
    { numRuns: 60 },
  );
});
