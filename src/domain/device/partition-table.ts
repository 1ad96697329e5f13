/**
 * Partition tables: GPT, and MBR with logical partitions. Read as Linux reads them: a protective entry in the
 * MBR means a GPT; a GPT whose first header is damaged is read from its copy at the end. Pure: the caller
 * gives the function that reads.
 */
export interface Partition {
  /** As in the name of its node. */
  readonly number: number;
  readonly byteOffset: number;
  readonly byteLength: number;
  /** GUID in lower case, or of an MBR two hex digits. */
  readonly type: string;
  /** Of a GPT; empty without one. */
  readonly name: string;
}

export interface PartitionTable {
  readonly kind: 'gpt' | 'mbr';
  /** By number. */
  readonly partitions: readonly Partition[];
  /** Numbers of an MBR that only contain others. */
  readonly containers: readonly number[];
}

export interface TableSource {
  readonly sizeBytes: number;
  /** What the device says; an image does not know, so both usual ones are tried. */
  readonly sectorSizes: readonly number[];
  /** Reads any range inside the device. */
  read(byteOffset: number, byteLength: number): Promise<Buffer>;
  crc32(bytes: Buffer): number;
}

const SECTOR_BYTES = 512;
const ENTRIES_AT = 446;
const GPT_PROTECTIVE = 0xee;
const CONTAINER_TYPES: readonly number[] = [0x05, 0x0f, 0x85];
const FIRST_LOGICAL = 5;
/** Of a chain that goes in circles, or is made to be long. */
const LOGICAL_MAX = 256;
const GPT_ENTRIES_MAX = 1024;
const GPT_ENTRY_BYTES_MAX = 4096;
const GPT_NAME_OFFSET = 56;
const GPT_NAME_END = 128;
const NO_TYPE = '00000000-0000-0000-0000-000000000000';

/** @returns null: there is none; a clause: there is one, and it can't be read. */
export async function readPartitionTable(source: TableSource): Promise<PartitionTable | string | null> {
  if (source.sizeBytes < SECTOR_BYTES) return null;
  const sector = await source.read(0, SECTOR_BYTES);
  const entries = mbrEntries(sector);
  if (entries === null) return null;
  if (entries.some(({ type }) => type === GPT_PROTECTIVE)) return readGpt(source);
  return readMbr(source, entries);
}

interface MbrEntry {
  readonly type: number;
  /** In sectors. */
  readonly start: number;
  readonly count: number;
  /** From 0. */
  readonly slot: number;
}

/** Null: it is no MBR. The boot sector of a FAT ends with the same signature, and has code in that place. */
function mbrEntries(sector: Buffer): MbrEntry[] | null {
  if (sector.length < SECTOR_BYTES || sector.readUInt16LE(510) !== 0xaa55) return null;
  const entries: MbrEntry[] = [];
  for (let n = 0; n < 4; n += 1) {
    const at = ENTRIES_AT + 16 * n;
    const flag = sector.readUInt8(at);
    if (flag !== 0 && flag !== 0x80) return null;
    entries.push({
      slot: n,
      type: sector.readUInt8(at + 4),
      start: sector.readUInt32LE(at + 8),
      count: sector.readUInt32LE(at + 12),
    });
  }
  return entries.some(isUsed) ? entries : null;
}

const isUsed = ({ type, count }: MbrEntry): boolean => type !== 0 && count > 0;

async function readMbr(source: TableSource, entries: readonly MbrEntry[]): Promise<PartitionTable | string> {
  const [sectorBytes = SECTOR_BYTES] = source.sectorSizes;
  const partitions: Partition[] = [];
  const containers: number[] = [];
  const logical: Partition[] = [];
  for (const [n, entry] of entries.entries()) {
    if (!isUsed(entry)) continue;
    if (!CONTAINER_TYPES.includes(entry.type)) {
      partitions.push(partitionOf(n + 1, entry, entry.start, sectorBytes));
      continue;
    }
    containers.push(n + 1);
    // The kernel numbers the logical partitions of the first one only.
    if (containers.length > 1) return 'it has two extended partitions';
    const found = await readLogical(source, entry, sectorBytes);
    if (typeof found === 'string') return found;
    logical.push(...found);
  }
  return checked({ kind: 'mbr', partitions: [...partitions, ...logical], containers }, source.sizeBytes);
}

/**
 * Numbered as the kernel does (block/partitions/msdos.c): each sector may have several partitions, whatever
 * their types; of its last two entries only those that lie within it count.
 */
async function readLogical(
  source: TableSource,
  container: MbrEntry,
  sectorBytes: number,
): Promise<Partition[] | string> {
  const found: Partition[] = [];
  let [at, count] = [container.start, container.count];
  for (let steps = 0; steps < LOGICAL_MAX; steps += 1) {
    if ((at + 1) * sectorBytes > source.sizeBytes) return 'its extended partition leads past its end';
    const sector = await source.read(at * sectorBytes, SECTOR_BYTES);
    // A container may be empty.
    const entries = (mbrEntries(sector) ?? []).filter((entry) => entry.count > 0);
    for (const entry of entries) {
      const start = at + entry.start;
      const isWithin =
        entry.start + entry.count <= count && start + entry.count <= container.start + container.count;
      if (!CONTAINER_TYPES.includes(entry.type) && (entry.slot < 2 || isWithin))
        found.push(partitionOf(FIRST_LOGICAL + found.length, entry, start, sectorBytes));
    }
    const next = entries.find(({ type }) => CONTAINER_TYPES.includes(type));
    if (next === undefined) return found;
    [at, count] = [container.start + next.start, next.count];
  }
  return 'the chain of its logical partitions does not end';
}

function partitionOf(number: number, entry: MbrEntry, start: number, sectorBytes: number): Partition {
  return {
    number,
    byteOffset: start * sectorBytes,
    byteLength: entry.count * sectorBytes,
    type: entry.type.toString(16).padStart(2, '0'),
    name: '',
  };
}

async function readGpt(source: TableSource): Promise<PartitionTable | string> {
  for (const sectorBytes of source.sectorSizes) {
    const last = Math.floor(source.sizeBytes / sectorBytes) - 1;
    for (const at of [1, last]) {
      const partitions = await gptAt(source, at, sectorBytes);
      if (partitions !== null) return checked({ kind: 'gpt', partitions, containers: [] }, source.sizeBytes);
    }
  }
  return 'both copies of its GPT are damaged';
}

/** Null: there is no whole GPT whose header is in this sector. */
async function gptAt(source: TableSource, at: number, sectorBytes: number): Promise<Partition[] | null> {
  if (at < 1 || (at + 1) * sectorBytes > source.sizeBytes) return null;
  const sector = await source.read(at * sectorBytes, SECTOR_BYTES);
  const headerBytes = sector.readUInt32LE(12);
  if (sector.toString('latin1', 0, 8) !== 'EFI PART' || headerBytes < 92 || headerBytes > SECTOR_BYTES)
    return null;
  const header = Buffer.from(sector.subarray(0, headerBytes));
  const sum = header.readUInt32LE(16);
  header.writeUInt32LE(0, 16);
  if (source.crc32(header) !== sum || Number(header.readBigUInt64LE(24)) !== at) return null;
  const entriesAt = Number(header.readBigUInt64LE(72)) * sectorBytes;
  const [count, entryBytes] = [header.readUInt32LE(80), header.readUInt32LE(84)];
  if (count > GPT_ENTRIES_MAX || entryBytes < 128 || entryBytes > GPT_ENTRY_BYTES_MAX) return null;
  if (entriesAt + count * entryBytes > source.sizeBytes) return null;
  const entries = await source.read(entriesAt, count * entryBytes);
  if (source.crc32(entries) !== header.readUInt32LE(88)) return null;
  return Array.from({ length: count }, (_, n) => entries.subarray(n * entryBytes, (n + 1) * entryBytes))
    .map((entry, n) => gptPartition(entry, n + 1, sectorBytes))
    .filter(({ type, byteLength }) => type !== NO_TYPE && byteLength > 0);
}

function gptPartition(entry: Buffer, number: number, sectorBytes: number): Partition {
  const [first, last] = [Number(entry.readBigUInt64LE(32)), Number(entry.readBigUInt64LE(40))];
  return {
    number,
    byteOffset: first * sectorBytes,
    byteLength: (last + 1 - first) * sectorBytes,
    type: guidOf(entry),
    name: entry.toString('utf16le', GPT_NAME_OFFSET, GPT_NAME_END).split('\0', 1)[0] ?? '',
  };
}

/** The first three parts are little-endian. */
function guidOf(bytes: Buffer): string {
  const hex = (part: Buffer): string => part.toString('hex');
  const turned = (from: number, to: number): string => hex(Buffer.from(bytes.subarray(from, to)).reverse());
  return [
    turned(0, 4),
    turned(4, 6),
    turned(6, 8),
    hex(bytes.subarray(8, 10)),
    hex(bytes.subarray(10, 16)),
  ].join('-');
}

function checked(table: PartitionTable, sizeBytes: number): PartitionTable | string {
  const wrong = table.partitions.find(
    ({ byteOffset, byteLength }) => byteOffset <= 0 || byteOffset + byteLength > sizeBytes,
  );
  return wrong === undefined ? table : `its partition ${wrong.number} reaches past its end`;
}
