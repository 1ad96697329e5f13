import test from 'ava';
import { readPartitions } from '../../../src/domain/device/partition-table.js';
import { gptHead } from '../../helpers/bytes/partition-tables.js';

const GiB = 2 ** 30;

test('a GPT is read, whatever the size of sectors', (t) => {
  for (const sectorBytes of [512, 4096]) {
    const head = gptHead(sectorBytes, [
      [4096, 8191, 'data'],
      [256, 4095, 'EFI system'],
      [2 ** 40, 2 ** 41, 'beyond the disk'],
    ]);
    t.deepEqual(readPartitions(head, sectorBytes, GiB), [
      {
        number: 2,
        byteOffset: 256 * sectorBytes,
        byteLength: 3840 * sectorBytes,
        type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
        name: 'EFI system',
      },
      {
        number: 1,
        byteOffset: 4096 * sectorBytes,
        byteLength: 4096 * sectorBytes,
        type: 'c12a7328-f81f-11d2-ba4b-00a0c93ec93b',
        name: 'data',
      },
    ]);
  }
});

test('an MBR is read', (t) => {
  const head = Buffer.alloc(512);
  head.writeUInt16LE(0xaa55, 510);
  head[446] = 0x80;
  head[446 + 4] = 0x83;
  head.writeUInt32LE(2048, 446 + 8);
  head.writeUInt32LE(4096, 446 + 12);
  t.deepEqual(readPartitions(head, 512, GiB), [
    { number: 1, byteOffset: 1048576, byteLength: 2097152, type: '83', name: '' },
  ]);
});

test('what is not a table has no partitions', (t) => {
  t.deepEqual(readPartitions(Buffer.alloc(512), 512, GiB), []);
  t.deepEqual(readPartitions(Buffer.alloc(100), 512, GiB), []);
  const bootSector = Buffer.alloc(512, 0x90);
  bootSector.writeUInt16LE(0xaa55, 510);
  t.deepEqual(readPartitions(bootSector, 512, GiB), [], 'code where entries would be');
  const gpt = gptHead(512, [[34, 99, 'x']]);
  t.deepEqual(readPartitions(gpt.subarray(0, 900), 512, GiB), [], 'cut off');
  gpt.writeUInt32LE(1, 512 + 84);
  t.deepEqual(readPartitions(gpt, 512, GiB), [], 'entries of a wrong size');
});
