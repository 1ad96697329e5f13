/** The addon's replay, watched: how its windows are used, and whether it is closed. */
import { type Digester, type JournalReplay, native, type StoredBlocks } from '../../../src/native/index.js';

export class WatchedReplay implements JournalReplay {
  /** How many windows were opened, and their most blocks. */
  windowCount = 0;
  blocksMost = 0;
  isClosed = false;
  readonly #inner: JournalReplay;

  constructor(sizeBytes: number, blockSize: number) {
    this.#inner = native.createJournalReplay(sizeBytes, blockSize);
  }

  note(records: Uint8Array): Promise<void> {
    return this.#inner.note(records);
  }

  touchedRanges(): (readonly [number, number])[] {
    return this.#inner.touchedRanges();
  }

  open(blockIndexes: Float64Array): void {
    this.windowCount += 1;
    this.blocksMost = Math.max(this.blocksMost, blockIndexes.length);
    this.#inner.open(blockIndexes);
  }

  load(blocks: StoredBlocks, digester: Digester): Promise<void> {
    return this.#inner.load(blocks, digester);
  }

  apply(records: Uint8Array): Promise<void> {
    return this.#inner.apply(records);
  }

  digests(digester: Digester): Promise<Buffer> {
    return this.#inner.digests(digester);
  }

  close(): Promise<void> {
    this.isClosed = true;
    return this.#inner.close();
  }
}
