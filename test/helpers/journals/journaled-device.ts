/** A device with a journal, its agent, and its receiver: in memory. */
import type { JournalPosition, StoredJournal } from '../../../src/domain/journal/journal.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { newSessionId } from '../../conformance/receiver.js';
import { encodeTestBatch, encodeTestRecord, rootOf } from '../bytes/batches.js';
import { PLAIN } from '../bytes/digests.js';
import { type JournalRecord, journalRecord } from '../bytes/journal-records.js';
import { beginRequest, commitRequest, GEOMETRY } from '../bytes/requests.js';

export const CLOCK_ID = 'c'.repeat(32);
const { blockSize, sizeBytes } = GEOMETRY;

type Change =
  | { readonly kind: 'write'; readonly byteOffset: number; readonly payload: Uint8Array }
  | { readonly kind: 'zero'; readonly byteOffset: number; readonly byteLength: number };

export class JournaledDevice {
  readonly content = Buffer.alloc(sizeBytes);
  readonly port: ReceiverPort;
  readonly device: string;
  readonly journalId = newSessionId();
  /** Records that were not shipped. */
  spool: Buffer[] = [];
  ordinal = 0;
  #stamp: bigint;
  #sent = Buffer.alloc(sizeBytes);

  constructor(port: ReceiverPort, { device = 'disk', startMs = Date.UTC(2026, 0, 1) } = {}) {
    this.port = port;
    this.device = device;
    this.#stamp = BigInt(startMs) * 1_000_000n;
  }

  begin(): Promise<StoredJournal> {
    return this.port.beginJournal(this.device, this.journalId, CLOCK_ID);
  }

  /** Time goes on. */
  pass(ms: number): void {
    this.#stamp += BigInt(ms) * 1_000_000n;
  }

  write(byteOffset: number, payload: Uint8Array): void {
    this.#record({ kind: 'write', byteOffset, payload });
    this.content.set(payload, byteOffset);
  }

  zero(byteOffset: number, byteLength: number): void {
    this.#record({ kind: 'zero', byteOffset, byteLength });
    this.content.fill(0, byteOffset, Math.min(sizeBytes, byteOffset + byteLength));
  }

  #record(record: Change | { readonly kind: 'instant'; readonly sessionId: string }): void {
    this.ordinal += 1;
    this.#stamp += 1000n;
    this.spool.push(journalRecord({ ...record, ordinal: this.ordinal, stamp: this.#stamp } as JournalRecord));
  }

  hold(): JournalPosition {
    this.#record({ kind: 'instant', sessionId: newSessionId() });
    return {
      ...{ journalId: this.journalId, clockId: CLOCK_ID },
      ...{ ordinal: this.ordinal, stamp: String(this.#stamp) },
    };
  }

  async ship(): Promise<void> {
    if (this.spool.length === 0) return;
    await this.port.appendJournal(this.journalId, Buffer.concat(this.spool));
    this.spool = [];
  }

  /** A point of an instant: of the content, with what differs from the last point. */
  async backUp(journal: JournalPosition | null, changes: Partial<CommitRequest> = {}): Promise<Point> {
    const [state, changed] = [new Map<number, Buffer>(), new Map<number, Buffer>()];
    for (let at = 0; at < sizeBytes; at += blockSize) {
      const block = Buffer.from(this.content.subarray(at, at + blockSize));
      if (block.some((byte) => byte !== 0)) state.set(at / blockSize, block);
      if (!block.equals(this.#sent.subarray(at, at + blockSize))) changed.set(at / blockSize, block);
    }
    this.#sent = Buffer.from(this.content);
    const last = (await this.port.points(this.device)).at(-1) ?? null;
    const sessionId = newSessionId();
    const base = last === null ? null : { id: last.id, root: last.root };
    await this.port.begin(beginRequest({ device: this.device, sessionId, base }));
    if (changed.size > 0) await this.port.batch(sessionId, 1, batchOf(sessionId, changed));
    return this.port.commit(
      sessionId,
      commitRequest({
        ...{ root: rootOf(GEOMETRY, state), batchCount: changed.size > 0 ? 1 : 0 },
        ...(journal === null ? {} : { journal }),
        ...changes,
      }),
    );
  }
}

/** Ascending. Blocks of zeros have no record. */
function batchOf(sessionId: string, blocks: ReadonlyMap<number, Buffer>): Buffer {
  const isZero = (bytes: Buffer) => bytes.every((byte) => byte === 0);
  const records = [...blocks.values()].filter((bytes) => !isZero(bytes));
  const entries = [...blocks].map(([blockIndex, bytes]) =>
    isZero(bytes)
      ? { blockIndex, kind: 0 }
      : { blockIndex, digest: PLAIN.leafDigest(bytes), ordinal: records.indexOf(bytes) },
  );
  return encodeTestBatch({
    sessionId,
    sequence: 1,
    entries,
    records: records.map((raw) => encodeTestRecord(raw)),
  });
}
