/** A point that is the base of a journal, and what must come out at each of its records. */
import type { ExecutionContext } from 'ava';
import { type RestoreOptions, type RestoreResult, runRestore } from '../../../src/agent/restore/restore.js';
import type { Moment } from '../../../src/domain/moment/moments.js';
import type { Point } from '../../../src/domain/point/point.js';
import { type JournalRecord, journalRecord } from '../bytes/journal-records.js';
import type { PointReceiverOptions } from '../fakes/point-receiver.js';
import type { Random } from '../seed.js';
import { type RestoreWorld, restoreWorld } from '../worlds/restore.js';
import { MemoryJournals } from './memory-journals.js';
import { CLOCK_ID, journalIdOf, positionAt, stampAt } from './stored-journals.js';

const KEY = { agent: 'local', device: 'disk1' };
/** Small, so that there are several. */
const PAGE_BYTES = 40_000;
const FIRST_ORDINAL = 5;

export interface MomentWorld extends RestoreWorld {
  readonly journals: MemoryJournals;
  readonly journalId: string;
  /** Behind the base: record n is of second n. */
  readonly records: readonly JournalRecord[];
  /** How often records were asked for. */
  readonly asked: number[];
  moment(second: number, overrides?: Partial<Moment>): Moment;
  /** The device after all records up to this second. */
  bytesAt(second: number): Buffer;
  restoreTo(second: number, target: string, options?: Partial<RestoreOptions>): Promise<RestoreResult>;
}

export interface MomentWorldOptions extends Partial<PointReceiverOptions> {
  readonly count?: number;
  readonly auditedOrdinal?: number;
  /** Is called before each answer of records; may throw. */
  readonly onRecords?: (request: number) => void;
  readonly spoilRecords?: (records: Buffer) => Buffer;
}

export async function momentWorld(
  t: ExecutionContext,
  random: Random,
  options: MomentWorldOptions = {},
): Promise<MomentWorld> {
  const { count = 60, auditedOrdinal = 0, onRecords, spoilRecords, ...of } = options;
  const point: Partial<Point> = { journal: positionAt(1, FIRST_ORDINAL, 0), ...of.point };
  const world = await restoreWorld(t, { ...of, point });
  const { sizeBytes } = world.point.geometry;
  const records = Array.from({ length: count }, (_each, n) =>
    randomRecord(FIRST_ORDINAL + 1 + n, sizeBytes, random),
  );
  const journalId = journalIdOf(1);
  const journals = new MemoryJournals();
  await journals.begin(KEY, journalId, CLOCK_ID);
  const before = Array.from({ length: FIRST_ORDINAL }, (_each, n) =>
    journalRecord({ kind: 'stamp', ordinal: n + 1, stamp: stampAt((n + 1 - FIRST_ORDINAL) / 100) }),
  );
  await journals.append(KEY.agent, journalId, Buffer.concat([...before, ...records.map(journalRecord)]));
  const asked: number[] = [];
  const receiver: RestoreOptions['receiver'] = Object.assign(Object.create(world.receiver), {
    journalRecords: async (id: string, afterOrdinal: number, throughStamp: string) => {
      onRecords?.(asked.push(afterOrdinal));
      const found = await journals.records(null, id, { afterOrdinal, throughStamp, bytesMax: PAGE_BYTES });
      return spoilRecords?.(found) ?? found;
    },
  });
  const moment = (second: number, overrides: Partial<Moment> = {}): Moment => ({
    ...{ base: world.point, journalId, afterOrdinal: FIRST_ORDINAL, auditedOrdinal },
    ...{ throughStamp: stampAt(second + 0.5), reachStamp: stampAt(second), sizeBytes: 1_000_000 },
    ...{ lastOrdinal: second >= count ? FIRST_ORDINAL + count : null, endReason: null, ...overrides },
  });
  return {
    ...{ ...world, receiver, journals, journalId, records, asked, moment },
    bytesAt: (second) => {
      const bytes = Buffer.from(world.bytes);
      for (const record of records.slice(0, Math.max(0, second))) applyTo(bytes, record);
      return bytes;
    },
    restoreTo: (second, target, overrides = {}) => {
      const { stateDirectory, told } = world;
      return runRestore({
        ...{ receiver, point: world.point, moment: moment(second), target, stateDirectory, overwrite: true },
        onEvent: (event) => {
          if (event.type === 'notice') told.notices.push(event.text);
          if (event.type === 'warning') told.warnings.push(event.text);
        },
        ...overrides,
      });
    },
  };
}

/** Anywhere; often in the head, in whole sectors or not, and over each other. */
function randomRecord(ordinal: number, sizeBytes: number, random: Random): JournalRecord {
  const mark = { ordinal, stamp: stampAt(ordinal - FIRST_ORDINAL) };
  const kind = random.below(12);
  if (kind === 0) return { ...mark, kind: 'stamp' };
  if (kind === 1) return { ...mark, kind: 'instant', sessionId: 'ab'.repeat(16) };
  const reach = Math.min(sizeBytes, random.below(2) === 0 ? 140_000 : sizeBytes);
  // Some are where the mark of a half restored target is.
  const byteOffset = ordinal % 7 === 0 ? 0 : random.below(reach);
  const byteLength = 1 + random.below(Math.min(9000, sizeBytes - byteOffset));
  if (kind < 5) return { ...mark, kind: 'zero', byteOffset, byteLength };
  return { ...mark, kind: 'write', byteOffset, payload: Buffer.alloc(byteLength, `${ordinal}.`) };
}

function applyTo(bytes: Buffer, record: JournalRecord): void {
  if (record.kind === 'write') bytes.set(record.payload, record.byteOffset);
  if (record.kind === 'zero') bytes.fill(0, record.byteOffset, record.byteOffset + record.byteLength);
}
