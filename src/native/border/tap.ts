/**
 * The border to the native tap (docs/design.md section 4): types only; `native` in index.ts makes the
 * objects.
 */
import type { Device } from './device.js';
import type { TapJournalHead } from './journal.js';

/** What a map file says of itself, checked (magic, version, checksums, size). */
export interface TapMapHeader {
  /** As given to `createTap`. */
  readonly identity: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
  /** Closed cleanly: the bits are precise. Else every region that was ever marked counts as changed. */
  readonly clean: boolean;
  /** As given to `close`; empty if not clean. */
  readonly continuity: string;
  /**
   * 32 hex digits each: points that the map holds all changes since; the committed one, and sessions that
   * may have been committed.
   */
  readonly pointIds: readonly string[];
}

export interface CreateTapOptions {
  /** Block device (opened exclusively) or image file (locked). */
  readonly path: string;
  readonly readOnly?: boolean;
  /** Grain of the maps and of preserving, in bytes: a power of two, 4 KiB to 4 MiB. */
  readonly blockSize: number;
  /** Made if missing. Null: changes are not remembered beyond this process. */
  readonly mapPath: string | null;
  /** Stored in the map; a map of another identity, size or block size is not used. */
  readonly identity: string;
  /** Given: the map that is there is not to be believed, and why. */
  readonly distrust?: string | undefined;
  /** Null or missing: writes are not written down. */
  readonly journal?: TapJournalOptions | null | undefined;
}

/** Of the journal of a tap's writes (docs/journal.md). */
export interface TapJournalOptions {
  /** Its spool's, which is there. The tap alone may have it: it locks it. */
  readonly directory: string;
  /** In memory: where its heads are published as `JOURNAL-ID.head`. */
  readonly headDirectory: string;
  /** Of all segments of all its journals. */
  readonly maxBytes: number;
  /** The write clock of the host: its word in memory, its lock, and its reservation on disk. */
  readonly clock: {
    readonly wordPath: string;
    readonly lockPath: string;
    readonly reservationPath: string;
  };
}

export interface TapHoldOptions {
  /** 32 hex digits: the session, and the id of the point that it may become. */
  readonly sessionId: string;
  /** The device's last committed point; null: none. The map counts only if it knows this point. */
  readonly basePointId: string | null;
  /** Preserve every block, whatever the map says: the session reads all. */
  readonly full: boolean;
  /** The session's blocks, in bytes: where they are larger than the tap's, whole ones are preserved. */
  readonly readBlockSize: number;
  /** Blocks that are preserved too, although the map calls them unchanged: they will be read as a sample. */
  readonly sampleBlocks: readonly number[];
  readonly preserveDirectory: string;
  readonly preserveMaxBytes: number;
  /** `fail`: the snapshot is given up. `throttle`: writes wait until the session has read more. */
  readonly whenFull: 'fail' | 'throttle';
}

export interface TapGateLimits {
  /**
   * How long new writes may be held back until those in flight have ended. Then it is not
   * closed (`barrier-timeout`).
   */
  readonly barrierMs: number;
  /**
   * How long it may be closed at most, that included: it opens by itself then, whatever
   * becomes of who closed it.
   */
  readonly closedMs: number;
}

export interface TapHold {
  readonly instantMs: number;
  /**
   * The map is a superset of what differs from the base point. If false, every block is
   * preserved, and must be read.
   */
  readonly mapUsed: boolean;
  /** A clause: why the map was used or not. */
  readonly reason: string;
  /** Blocks that the session is to read, without the sample. */
  readonly changedBlocks: number;
  /** How long nobody could write. */
  readonly closedMs: number;
  /** Name of the export on the snapshot socket. */
  readonly exportName: string;
  /** Where the instant is in the journal. Missing: there is none, or it could not be begun. */
  readonly journal?: TapJournalPosition;
}

export interface TapJournalPosition {
  /** 32 hex digits, as `clockId`. */
  readonly journalId: string;
  readonly clockId: string;
  readonly ordinal: number;
  /** Nanoseconds since 1970, as decimal digits. */
  readonly stamp: string;
}

export interface TapStatus {
  readonly path: string;
  readonly sizeBytes: number;
  readonly blockSize: number;
  readonly readOnly: boolean;
  readonly map: {
    /** Null: the map can't be used, see `reason`; the next backup reads everything. */
    readonly pointIds: readonly string[] | null;
    readonly reason: string;
    /** In the backup map, and in the snapshot map. */
    readonly changedBlocks: number;
    readonly writtenBlocks: number;
    /** False once the map file could not be written: after a restart it is not used. */
    readonly persistent: boolean;
  };
  readonly hold: {
    readonly sessionId: string;
    readonly state: 'held' | 'invalid';
    /** Empty, or why it was given up. */
    readonly reason: string;
    readonly neededBlocks: number;
    readonly preservedBytes: number;
    readonly preserveMaxBytes: number;
  } | null;
  readonly counters: {
    readonly connections: number;
    readonly reads: number;
    readonly writes: number;
    readonly readBytes: number;
    readonly writtenBytes: number;
    readonly flushes: number;
    readonly errors: number;
    /** Of a single write, since the last hold began: waiting for the barrier, preserving and the map. */
    readonly longestStallMicroseconds: number;
    /** Since the last write ended; null: none yet. */
    readonly quietMs: number | null;
  };
  /** Missing: it has none. */
  readonly journal?: {
    /** All that there are, the current one last. */
    readonly heads: readonly TapJournalHead[];
    /** A clause: why it can't be opened, or why the last hold has none. Each hold tries again. */
    readonly failure: string;
    /** How far stamps are ahead of the time. */
    readonly aheadMs: number;
  };
}

/** What has become of the device below since the tap was made. */
export interface TapSourceState {
  /** Now; 0: it is gone. */
  readonly sizeBytes: number;
  /** The smallest size that was seen. */
  readonly leastBytes: number;
  /** Others that had the image open for writing and have closed it: some or none, not how many. */
  readonly foreignWriters: number;
}

export interface Tap {
  /** Serves the device as `exportName`. Resolves with the address in use once connections are accepted. */
  listen(address: string, exportName: string): Promise<string>;
  /** Where `hold` makes its exports readable. Unix socket, mode 0600. */
  listenSnapshot(address: string): Promise<string>;
  status(): TapStatus;
  /**
   * All of a hold that takes time. One at a time: EBUSY. `ETRUNCATED`: the device was cut. Ended by `cut` and
   * what follows, or `abort`.
   */
  prepare(options: TapHoldOptions): Promise<void>;
  /**
   * From here on nobody writes. Resolves with how long, in ms, nothing had been written by then.
   * `barrier-timeout`, `ETRUNCATED`, `argument` (nothing is prepared): it is open then.
   */
  closeGate(limits: TapGateLimits): Promise<number>;
  /** There was no instant: back to prepared. Harmless where it is open. */
  openGate(): Promise<void>;
  /** The instant; the gate is open after it. `gate-open`: it was before, there is no instant. */
  cut(): Promise<TapHold>;
  /**
   * What is prepared or held is given back, the gate is open; the backup map stays.
   * Harmless where there is nothing.
   */
  abort(): Promise<void>;
  /** The held session was committed: its blocks leave the backup map, the snapshot is released. */
  commit(): Promise<void>;
  /** These blocks [start, end) of the tap's size count as written. */
  mark(ranges: readonly (readonly [number, number])[]): Promise<void>;
  /**
   * The held snapshot was compared with a committed point, and all that differs was marked since: the map
   * counts for that point from now on, and the snapshot is released. `complete`: the whole device was
   * compared, whatever the map knew before. Else the map must know the point already. `argument`: it does
   * not, or nothing is held any more.
   */
  adopt(pointId: string, complete: boolean): Promise<void>;
  /** The map is not to be used before the next commit. */
  voidMap(reason: string): Promise<void>;
  /**
   * A look at the device. What others may have changed past the map makes it void, and
   * what is held is given up.
   */
  checkSource(): Promise<TapSourceState>;
  /**
   * The receiver has all records of the journal up to this one: segments without later ones are removed. One
   * that the tap does not know is done already.
   */
  releaseJournal(journalId: string, ordinal: number): Promise<void>;
  /**
   * Writes a record that no earlier stamp follows, and has it stored. Null: there is no journal, or it is
   * broken.
   */
  stampJournal(): Promise<TapJournalPosition | null>;
  /** This journal ends here, for a reason; the next hold begins a new one. Harmless if there is no such. */
  breakJournal(journalId: string, reason: string): Promise<void>;
  /** Ends listening and connections, flushes the device. Nothing is written to it afterwards. */
  stop(): Promise<void>;
  /**
   * After `stop`: writes the precise map with this mark of continuity and marks it clean; frees everything.
   * Resolves with why the journal did not end cleanly; empty: it did, or there is none.
   */
  close(continuity: string): Promise<string>;
}

/**
 * The static view that a hold exports, and which of it changed. Its `read` fails with ESHUTDOWN for
 * blocks that are not held.
 */
export interface SnapshotDevice extends Device {
  /** Blocks [start, end) of `blockSize` bytes that the tap's map names, ascending, merged. */
  changedRanges(blockSize: number): Promise<readonly (readonly [number, number])[]>;
}

export interface TapAddon {
  createTap(options: CreateTapOptions): Promise<Tap>;
  /** Null: there is none. `bad-magic`, `bad-version`, `bad-checksum`, `truncated`. */
  readTapMap(path: string): Promise<TapMapHeader | null>;
  /** Connects to an NBD server: `address` as of `listen`. Blocks that were scanned are released there. */
  openSnapshot(address: string, exportName: string): Promise<SnapshotDevice>;
}
