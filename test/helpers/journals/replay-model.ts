/** The addon's `createJournalReplay`, written from the border's words alone: a device in memory. */
import { blockCount, blockLength } from '../../../src/domain/blocks/geometry.js';
import { type Digester, type JournalReplay, native, type StoredBlocks } from '../../../src/native/index.js';

const HEADER_BYTES = 64;
const [WRITE, ZERO] = [1, 2];

interface Change {
  readonly byteOffset: number;
  readonly byteLength: number;
  /** Null: zeros. */
  readonly payload: Buffer | null;
}

export class ReplayModel implements JournalReplay {
  readonly #geometry: { readonly sizeBytes: number; readonly blockSize: number };
  readonly #touched = new Set<number>();
  #blocks = new Map<number, Buffer>();
  /** How many windows were opened, and their most blocks. */
  windowCount = 0;
  blocksMost = 0;
  isClosed = false;

  constructor(sizeBytes: number, blockSize: number) {
    this.#geometry = { sizeBytes, blockSize };
  }

  async note(records: Uint8Array): Promise<void> {
    for (const change of changesOf(records))
      for (const block of this.#blocksOf(change)) this.#touched.add(block);
  }

  touchedRanges(): (readonly [number, number])[] {
    const ranges: [number, number][] = [];
    for (const block of [...this.#touched].sort((a, b) => a - b)) {
      const last = ranges.at(-1);
      if (last?.[1] === block) last[1] = block + 1;
      else ranges.push([block, block + 1]);
    }
    return ranges;
  }

  open(blockIndexes: Float64Array): void {
    this.windowCount += 1;
    this.blocksMost = Math.max(this.blocksMost, blockIndexes.length);
    this.#blocks = new Map(
      [...blockIndexes].map((block) => [block, Buffer.alloc(blockLength(this.#geometry, block))]),
    );
  }

  async load(blocks: StoredBlocks, digester: Digester): Promise<void> {
    const sessionId = '0'.repeat(32);
    const body = await native.encodeBatch({ sessionId, sequence: 0, agentTimeMs: 0, ...blocks });
    const bounds = { sessionId, sequence: 0, ...this.#geometry, digester };
    const contents = await native.decodeBlocks(body, bounds);
    for (const [i, block] of [...blocks.blockIndexes].entries()) {
      if (!this.#blocks.has(block)) throw new Error(`block ${block} is not in the window`);
      this.#blocks.set(block, Buffer.from(contents[i] as Buffer));
    }
  }

  async apply(records: Uint8Array): Promise<void> {
    const { blockSize } = this.#geometry;
    for (const change of changesOf(records))
      for (const block of this.#blocksOf(change)) {
        const content = this.#blocks.get(block);
        if (content === undefined) continue;
        const from = Math.max(0, change.byteOffset - block * blockSize);
        const to = Math.min(content.length, change.byteOffset + change.byteLength - block * blockSize);
        if (change.payload === null) content.fill(0, from, to);
        else change.payload.copy(content, from, from + block * blockSize - change.byteOffset);
      }
  }

  async digests(digester: Digester): Promise<Buffer> {
    return Buffer.concat([...this.#blocks.values()].map((content) => digester.leafDigest(content)));
  }

  async close(): Promise<void> {
    this.isClosed = true;
  }

  *#blocksOf({ byteOffset, byteLength }: Change): Generator<number> {
    const { sizeBytes, blockSize } = this.#geometry;
    if (byteOffset + byteLength > sizeBytes)
      throw Object.assign(new Error('a record ends behind the device'), { code: 'bad-length' });
    const end = Math.min(blockCount(this.#geometry), Math.ceil((byteOffset + byteLength) / blockSize));
    for (let block = Math.floor(byteOffset / blockSize); block < end; block += 1) yield block;
  }
}

function* changesOf(records: Uint8Array): Generator<Change> {
  const bytes = Buffer.from(records.buffer, records.byteOffset, records.byteLength);
  for (let at = 0; at < bytes.length; ) {
    const payloadBytes = bytes.readUInt32LE(at + 8);
    const [byteOffset, byteLength] = [at + 32, at + 40].map((place) => Number(bytes.readBigUInt64LE(place)));
    const kind = bytes[at + 5];
    const payload = bytes.subarray(at + HEADER_BYTES, at + HEADER_BYTES + payloadBytes);
    if (kind === WRITE || kind === ZERO)
      yield {
        byteOffset: byteOffset ?? 0,
        byteLength: byteLength ?? 0,
        payload: kind === ZERO ? null : payload,
      };
    at += HEADER_BYTES + payloadBytes;
  }
}
