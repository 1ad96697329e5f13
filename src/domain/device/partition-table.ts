/**
 * Partitions by the table at the beginning of a disk: GPT (UEFI 2.10, section 5.3), or the four entries of an
 * MBR. Pure. For pictures only: nothing is decided by it. A table that is damaged, or that goes on elsewhere
 * (logical partitions), gives what can be read.
 */

export interface Partition {
  /** From 1, as the kernel numbers it. */
  readonly number: number;
  readonly byteOffset: number;
  readonly byteLength: number;
  /** MBR: two hex digits; GPT: a GUID. */
  readonly type: string;
  /** GPT; empty without one. */
  readonly name: string;
}

/** How much of a disk's beginning has a table of the usual size, whatever the size of its sectors. */
export const PARTITION_HEAD_BYTES = 32 * 1024;

const MBR_SIGNATURE_OFFSET = 510;
const MBR_ENTRIES_OFFSET = 446;
const MBR_ENTRY_BYTES = 16;
const MBR_PROTECTIVE = 0xee;
const GPT_ENTRY_BYTES_MIN = 128;
const GPT_ENTRIES_MAX = 256;
const GPT_NAME_OFFSET = 56;
const GPT_NAME_BYTES = 72;
/** Of an MBR that is a file system's boot sector: its "entries" are code. */
const MBR_FLAGS: readonly number[] = [0, 0x80];

/** @param head the first bytes of the disk. @returns by their beginnings; none: there is no table. */
export function readPartitions(head: Buffer, sectorBytes: number, sizeBytes: number): Partition[] {
  if (head.length < 512 || head.readUInt16LE(MBR_SIGNATURE_OFFSET) !== 0xaa55) return [];
  const entries = [0, 1, 2, 3].map((i) => {
    const at = MBR_ENTRIES_OFFSET + i * MBR_ENTRY_BYTES;
    return head.subarray(at, at + MBR_ENTRY_BYTES);
  });
  if (entries.some((entry) => !MBR_FLAGS.includes(entry[0] ?? 0xff))) return [];
  const found = entries.some((entry) => entry[4] === MBR_PROTECTIVE)
    ? gptPartitions(head, sectorBytes)
    : mbrPartitions(entries, sectorBytes);
  return found
    .filter(({ byteOffset, byteLength }) => byteLength > 0 && byteOffset < sizeBytes)
    .sort((a, b) => a.byteOffset - b.byteOffset);
}

function mbrPartitions(entries: readonly Buffer[], sectorBytes: number): Partition[] {
  return entries.flatMap((entry, i) => {
    const type = entry[4] ?? 0;
    if (type === 0) return [];
    return {
      number: i + 1,
      byteOffset: entry.readUInt32LE(8) * sectorBytes,
      byteLength: entry.readUInt32LE(12) * sectorBytes,
      type: type.toString(16).padStart(2, '0'),
      name: '',
    };
  });
}

function gptPartitions(head: Buffer, sectorBytes: number): Partition[] {
  const header = head.subarray(sectorBytes, sectorBytes + 92);
  if (header.length < 92 || header.toString('latin1', 0, 8) !== 'EFI PART') return [];
  const entriesAt = Number(header.readBigUInt64LE(72)) * sectorBytes;
  const count = Math.min(header.readUInt32LE(80), GPT_ENTRIES_MAX);
  const entryBytes = header.readUInt32LE(84);
  if (entryBytes < GPT_ENTRY_BYTES_MIN) return [];
  const partitions: Partition[] = [];
  for (let i = 0; i < count; i += 1) {
    const at = entriesAt + i * entryBytes;
    const entry = head.subarray(at, at + GPT_ENTRY_BYTES_MIN);
    if (entry.length < GPT_ENTRY_BYTES_MIN) break;
    if (entry.subarray(0, 16).every((byte) => byte === 0)) continue;
    const [first, last] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))];
    const name = entry.toString('utf16le', GPT_NAME_OFFSET, GPT_NAME_OFFSET + GPT_NAME_BYTES);
    partitions.push({
      number: i + 1,
      byteOffset: first * sectorBytes,
      byteLength: (last - first + 1) * sectorBytes,
      type: guid(entry),
      name: name.split('\0', 1)[0] ?? '',
    });
  }
  return partitions;
}

/** The first three parts are little-endian. */
function guid(bytes: Buffer): string {
  const part = (from: number, to: number, isReversed: boolean) => {
    const some = Buffer.from(bytes.subarray(from, to));
    return (isReversed ? some.reverse() : some).toString('hex');
  };
  return [part(0, 4, true), part(4, 6, true), part(6, 8, true), part(8, 10, false), part(10, 16, false)].join(
    '-',
  );
}
