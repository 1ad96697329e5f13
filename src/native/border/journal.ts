/**
 * The part of the border for journals of taps (docs/journal.md); rules as in ../index.ts. Stamps are decimal
 * digits: nanoseconds since 1970, more than a number holds.
 */
import type { StoredBlocks } from './batch.js';
import type { Device } from './device.js';
import type { Digester } from './digest.js';

/** As its tap publishes it. */
export interface TapJournalHead {
  /** 32 hex digits, as `clockId`. */
  readonly journalId: string;
  readonly clockId: string;
  readonly state: 'open' | 'broken' | 'closed';
  /** All up to here are whole in the spool's segments; 0: none is. */
  readonly ordinal: number;
  readonly stamp: string;
  /** Where that record lies, and where it ends. */
  readonly segment: number;
  readonly recordOffset: number;
  readonly endOffset: number;
  readonly oldestSegment: number;
  /** That was drawn: where the head of a broken journal will end. */
  readonly lastOrdinal: number;
  /** Of a broken one: all that was written before it is in the journal. */
  readonly brokenStamp: string;
  /** Why it broke, a clause; else empty. */
  readonly reason: string;
}

/** What a run of whole records is. */
export interface JournalRun {
  readonly recordCount: number;
  /** Of the whole records; what follows is the start of one that is cut. */
  readonly byteLength: number;
  readonly first: { readonly ordinal: number; readonly stamp: string } | null;
  readonly last: { readonly ordinal: number; readonly stamp: string } | null;
}

export interface JournalScanOptions {
  /** The first record must have the ordinal after this one; null: any. Those after it follow without gaps. */
  readonly afterOrdinal: number | null;
  /**
   * Records up to there are wanted; the run ends before the first later one. It may be later than any stamp
   * can be. Default: all.
   */
  readonly throughStamp?: string;
  /** The run ends before a record that would make it longer; but it has one. Default: no bound. */
  readonly bytesMax?: number;
}

/**
 * Applies records to blocks in memory, a window of blocks at a time: for audits, and points made of journals.
 * Records come in whole ones, and follow each other within a pass, from call to call: the errors of
 * `scanJournal`, `truncated`, and `bad-index` for one that ends beyond the device; nothing of the call counts
 * then. One call at a time: EBUSY.
 */
export interface JournalReplay {
  /** First pass: notes which blocks the records touch. */
  note(records: Uint8Array): Promise<void>;
  /**
   * Blocks [start, end) that were noted, ascending, merged, at most 262144 ranges. Where there would be
   * more, or the device has more than 2^28 blocks, some that no record touches are among them.
   */
  touchedRanges(): (readonly [number, number])[];
  /**
   * Second pass, for a window: from now on it has these blocks, ascending, and all are zeros. `argument`:
   * they are more than 256 MiB.
   */
  open(blockIndexes: Float64Array): void;
  /**
   * Contents of the base of some of them, ascending, proven by their digests; before records are applied.
   * Blocks of the base that are zeros are left. The errors of `encodeBatch` and `decodeRecord`, `bad-length`:
   * the block has another; then the window must be opened again.
   */
  load(blocks: StoredBlocks, digester: Digester): Promise<void>;
  /** The records in their order; what is outside of the window is passed over. */
  apply(records: Uint8Array): Promise<void>;
  /** Of the window's blocks, n * 32 bytes; NULL for one that is all zeros. */
  digests(digester: Digester): Promise<Buffer>;
  close(): Promise<void>;
}

export interface JournalAddon {
  /** Null: there is none, or it is from before a restart of the machine. `bad-magic`, errno names. */
  readJournalHead(path: string): Promise<TapJournalHead | null>;
  /**
   * Proves whole records: structure, checksums, ordinals without gaps, ascending stamps. `bad-magic`,
   * `bad-version`, `bad-kind`, `bad-length`, `bad-checksum`, `bad-order`, with the `byteOffset` of the
   * record.
   */
  scanJournal(records: Uint8Array, options: JournalScanOptions): Promise<JournalRun>;
  createJournalReplay(sizeBytes: number, blockSize: number): JournalReplay;
  /**
   * Writes what the records say to a device, as if in their order. It does not flush. All of them are proven
   * first, and where one is wrong (see JournalReplay), nothing is written. Bytes that were written or zeroed
   * count once, however often.
   * @param except byte ranges [start, end) that are left alone, ascending, apart
   */
  applyJournal(
    device: Device,
    records: Uint8Array,
    except: readonly (readonly [number, number])[],
  ): Promise<{ readonly writtenBytes: number }>;
}
