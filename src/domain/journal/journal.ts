/** What a journal of a tap's writes is, for every room (docs/journal.md). */

/** Of the write clock of a host: nanoseconds since 1970, as decimal digits. A number can't hold them all. */
export type Stamp = string;

export interface JournalMark {
  /** 1, 2, 3 … within the journal, without gaps. */
  readonly ordinal: number;
  readonly stamp: Stamp;
}

/** Where the instant of a hold is in its tap's journal: a point with one is a base for all that follows. */
export interface JournalPosition extends JournalMark {
  /** 32 hex digits, as `clockId`. */
  readonly journalId: string;
  readonly clockId: string;
}

/** What a receiver has of a journal after records were appended. */
export interface JournalAppended {
  /** The last one that is durable; null: none is. */
  readonly last: JournalMark | null;
}

/** Nothing follows in a journal. */
export interface JournalEnd {
  /** A clause. */
  readonly reason: string;
  /** All that was written before it is in the journal, if the receiver has the last record. */
  readonly stamp: Stamp;
  /** Of the journal at its tap; 0: it has none. */
  readonly lastOrdinal: number;
}

/** What an audit found out: a later point, proven by its own session, against base and records. */
export interface JournalAudit {
  /** The later one. */
  readonly pointId: string;
  /** Of its instant: what it says is true of all records up to there, from the base before. */
  readonly ordinal: number;
  /** A clause: what did not fit. Null: all did. */
  readonly fault: string | null;
}

/** A journal as a receiver has it. */
export interface StoredJournal {
  readonly agent: string;
  readonly device: string;
  /** 32 hex digits, as `clockId`. */
  readonly journalId: string;
  readonly clockId: string;
  /** The first and the last record that are there, durable; null: none is. */
  readonly first: JournalMark | null;
  readonly last: JournalMark | null;
  readonly sizeBytes: number;
  /** Null: it goes on. */
  readonly end: JournalEnd | null;
  /** By ordinal; at most one has a fault, and then it is the last. */
  readonly audits: readonly JournalAudit[];
}

interface OfDevice {
  readonly agent: string;
  readonly device: string;
}

export function sameDevice(a: OfDevice, b: OfDevice): boolean {
  return a.agent === b.agent && a.device === b.device;
}

const NS_PER_MS = 1_000_000n;

export function stampMs(stamp: Stamp): number {
  return Number(BigInt(stamp) / NS_PER_MS);
}

/** The last stamp of a millisecond. */
export function lastStampOfMs(timeMs: number): Stamp {
  return String((BigInt(Math.trunc(timeMs)) + 1n) * NS_PER_MS - 1n);
}

export function compareStamps(a: Stamp, b: Stamp): number {
  const [left, right] = [BigInt(a), BigInt(b)];
  return left < right ? -1 : left > right ? 1 : 0;
}

/** ISO 8601, to the nanosecond. */
export function isoOfStamp(stamp: Stamp): string {
  const fraction = stamp.padStart(9, '0').slice(-9);
  return `${new Date(stampMs(stamp)).toISOString().slice(0, -'.000Z'.length)}.${fraction}Z`;
}
