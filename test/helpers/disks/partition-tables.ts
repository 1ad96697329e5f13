/** Beginnings of disks with partition tables, as far as readers of tables look at them. */
import { crc32 } from 'node:zlib';

/** First and last sector, name. */
export type GptEntry = readonly [first: number, last: number, name: string];

/** Sectors 0 to 33 of a disk with a GPT; at least 32 KiB for sectors of 4 KiB. */
export function gptHead(sectorBytes: number, entries: readonly GptEntry[]): Buffer {
  const head = Buffer.alloc(2 * sectorBytes + 128 * 128);
  head[446 + 4] = 0xee;
  head.writeUInt32LE(1, 446 + 8);
  head.writeUInt32LE(0xffff_ffff, 446 + 12);
  head.writeUInt16LE(0xaa55, 510);
  head.write('EFI PART', sectorBytes, 'latin1');
  head.writeUInt32LE(92, sectorBytes + 12);
  head.writeBigUInt64LE(1n, sectorBytes + 24);
  head.writeBigUInt64LE(2n, sectorBytes + 72);
  head.writeUInt32LE(128, sectorBytes + 80);
  head.writeUInt32LE(128, sectorBytes + 84);
  for (const [i, [first, last, name]] of entries.entries()) {
    const at = 2 * sectorBytes + i * 128;
    Buffer.from('28732ac11ff8d211ba4b00a0c93ec93b', 'hex').copy(head, at);
    head.writeBigUInt64LE(BigInt(first), at + 32);
    head.writeBigUInt64LE(BigInt(last), at + 40);
    head.write(name, at + 56, 'utf16le');
  }
  head.writeUInt32LE(crc32(head.subarray(2 * sectorBytes)), sectorBytes + 88);
  head.writeUInt32LE(crc32(head.subarray(sectorBytes, sectorBytes + 92)), sectorBytes + 16);
  return head;
}
