/**
 * The messages on a tap's control socket: one JSON object a line, each with the version of the protocol.
 * Parsing is pure; sockets are in server.ts and client.ts.
 *
 *   request  {"v":1, "id":7, "op":"prepare", "options":{...}}        answered in order
 *   answer   {"v":1, "id":7, "result":...} or {"v":1, "id":7, "error":{...}}; id null: the line was no
 *            request, and is the last
 *   event    {"v":1, "event":"invalid", "reason":"..."}           to the one that holds:
 *                                                                 its snapshot was given up
 */
import { z } from 'zod';
import { ERROR_CODES, isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { BLOCK_SIZE_MAX, BLOCK_SIZE_MIN, DEVICE_SIZE_MAX, KiB } from '../../domain/base/limits.js';
import { systemError } from '../../domain/base/system-errors.js';
import type {
  TapGateLimits,
  TapHold,
  TapHoldOptions,
  TapJournalHead,
  TapJournalPosition,
  TapStatus,
} from '../../native/index.js';
import type { SourceReport } from '../source/source-state.js';

export const CONTROL_VERSION = 1;
export const CONTROL_LINE_BYTES_MAX = 1024 * KiB;

const SAMPLE_BLOCKS_MAX = 65_536;
/** Ranges of one mark, so that it fits in a line. */
export const RANGES_MAX = 16_384;
const WAIT_MS_MAX = 600_000;
const TEXT_CHARS_MAX = 8192;

/** What the agent decides of a hold; the rest is in the tap's settings. */
export type ControlHoldOptions = Omit<TapHoldOptions, 'preserveDirectory' | 'preserveMaxBytes' | 'whenFull'>;

export interface ControlHold extends TapHold {
  /** Where the export is: for `openSnapshot`. */
  readonly snapshotAddress: string;
}

/** A running tap, as it describes itself. */
export interface TapReport {
  readonly name: string;
  readonly processId: number;
  /** ISO 8601. */
  readonly startedAt: string;
  /** In use. */
  readonly listen: readonly string[];
  readonly exportName: string;
  readonly attachment: {
    /** `/dev/nbd0`; null: there is none. */
    readonly device: string | null;
    /** Why there is none although it was wished for; else null. */
    readonly problem: string | null;
  };
  readonly status: TapStatus;
  /** Undefined: the tap runs since a release that did not tell. */
  readonly source?: SourceReport;
}

const text = z.string().max(TEXT_CHARS_MAX);
const hexId = z.string().regex(/^[0-9a-f]{32}$/, '32 lower-case hex digits');
const count = z.int().min(0);
const milliseconds = z.number().min(0).max(WAIT_MS_MAX);

const holdOptions: z.ZodType<ControlHoldOptions> = z.strictObject({
  sessionId: hexId,
  basePointId: hexId.nullable(),
  full: z.boolean(),
  readBlockSize: z.int().min(BLOCK_SIZE_MIN).max(BLOCK_SIZE_MAX),
  sampleBlocks: z.array(count).max(SAMPLE_BLOCKS_MAX),
});

const gateLimits: z.ZodType<TapGateLimits> = z.strictObject({
  barrierMs: milliseconds,
  closedMs: milliseconds,
});

const header = { v: z.literal(CONTROL_VERSION), id: count };
const request = z.discriminatedUnion('op', [
  z.strictObject({ ...header, op: z.literal('status') }),
  z.strictObject({ ...header, op: z.literal('prepare'), options: holdOptions }),
  z.strictObject({ ...header, op: z.literal('close'), limits: gateLimits }),
  z.strictObject({ ...header, op: z.literal('open') }),
  z.strictObject({ ...header, op: z.literal('cut') }),
  z.strictObject({ ...header, op: z.literal('abort') }),
  z.strictObject({ ...header, op: z.literal('commit') }),
  z.strictObject({
    ...header,
    op: z.literal('mark'),
    ranges: z.array(z.tuple([count, count])).max(RANGES_MAX),
  }),
  z.strictObject({ ...header, op: z.literal('adopt'), pointId: hexId, complete: z.boolean() }),
  z.strictObject({ ...header, op: z.literal('void-map'), reason: text }),
  z.strictObject({ ...header, op: z.literal('journal-release'), journalId: hexId, ordinal: count }),
  z.strictObject({ ...header, op: z.literal('journal-break'), journalId: hexId, reason: text }),
  z.strictObject({ ...header, op: z.literal('stop') }),
]);

export type ControlRequest = z.infer<typeof request>;
export type ControlCall = ControlRequest extends infer R
  ? R extends ControlRequest
    ? Omit<R, 'v' | 'id'>
    : never
  : never;

const stamp = z.string().regex(/^(0|[1-9][0-9]{0,19})$/, 'a stamp: nanoseconds');
const journalHead: z.ZodType<TapJournalHead> = z.strictObject({
  ...{ journalId: hexId, clockId: hexId, state: z.enum(['open', 'broken', 'closed']) },
  ...{ ordinal: count, stamp, segment: count, recordOffset: count, endOffset: count },
  ...{ oldestSegment: count, lastOrdinal: count, brokenStamp: stamp, reason: text },
});
const journalPosition: z.ZodType<TapJournalPosition> = z.strictObject({
  ...{ journalId: hexId, clockId: hexId, ordinal: count, stamp },
});

const status: z.ZodType<TapStatus> = z.strictObject({
  path: text,
  sizeBytes: count.max(DEVICE_SIZE_MAX),
  blockSize: z.int().min(BLOCK_SIZE_MIN).max(BLOCK_SIZE_MAX),
  readOnly: z.boolean(),
  map: z.strictObject({
    pointIds: z.array(hexId).max(1024).nullable(),
    reason: text,
    changedBlocks: count,
    writtenBlocks: count,
    persistent: z.boolean(),
  }),
  hold: z
    .strictObject({
      sessionId: hexId,
      state: z.enum(['held', 'invalid']),
      reason: text,
      neededBlocks: count,
      preservedBytes: count,
      preserveMaxBytes: count,
    })
    .nullable(),
  counters: z.strictObject({
    connections: count,
    reads: count,
    writes: count,
    readBytes: count,
    writtenBytes: count,
    flushes: count,
    errors: count,
    longestStallMicroseconds: z.number().min(0),
    quietMs: z.number().min(0).nullable(),
  }),
  journal: z
    .strictObject({ heads: z.array(journalHead).max(1024), failure: text, aheadMs: z.number().min(0) })
    .exactOptional(),
});

export const reportSchema: z.ZodType<TapReport> = z.strictObject({
  name: text,
  processId: count,
  startedAt: text,
  listen: z.array(text).max(16),
  exportName: text,
  attachment: z.strictObject({ device: text.nullable(), problem: text.nullable() }),
  status,
  source: z
    .strictObject({ sizeBytes: count, leastBytes: count, place: z.enum(['same', 'other', 'missing']) })
    .exactOptional(),
});

export const holdSchema: z.ZodType<ControlHold> = z.strictObject({
  instantMs: z.number().min(0),
  mapUsed: z.boolean(),
  reason: text,
  changedBlocks: count,
  closedMs: z.number().min(0),
  exportName: text,
  snapshotAddress: text,
  journal: journalPosition.exactOptional(),
});

/** How long nothing had been written, in ms. */
export const quietSchema = z.number().min(0);

const errorBody = z.strictObject({
  code: z.enum(ERROR_CODES),
  thing: text,
  reason: text,
  remedy: text.exactOptional(),
  permanent: z.boolean(),
});

const version = z.looseObject({ v: z.int() });
const reply = z.union([
  z.strictObject({ v: z.literal(CONTROL_VERSION), id: count, result: z.unknown() }),
  z.strictObject({ v: z.literal(CONTROL_VERSION), id: count.nullable(), error: errorBody }),
  z.strictObject({ v: z.literal(CONTROL_VERSION), event: z.literal('invalid'), reason: text }),
]);

export type ControlReply = z.infer<typeof reply>;
export type ControlFailure = z.infer<typeof errorBody>;

/** @throws StillpointError `bad-message`, `version` */
export function parseRequest(line: Buffer): ControlRequest {
  return parse('message to the tap', line, request);
}

/** @throws StillpointError `bad-message`, `version` */
export function parseReply(line: Buffer): ControlReply {
  return parse('answer of the tap', line, reply);
}

export function encodeRequest(id: number, call: ControlCall): string {
  return `${JSON.stringify({ v: CONTROL_VERSION, id, ...call })}\n`;
}

export function encodeResult(id: number, result: unknown): string {
  return `${JSON.stringify({ v: CONTROL_VERSION, id, result: result ?? null })}\n`;
}

export function encodeInvalid(reason: string): string {
  return `${JSON.stringify({ v: CONTROL_VERSION, event: 'invalid', reason: reason.slice(0, TEXT_CHARS_MAX) })}\n`;
}

/** Any other error than a StillpointError is told as a failure of the tap, in its own words. */
export function encodeFailure(id: number | null, error: unknown): string {
  const known = isStillpointError(error)
    ? error
    : (systemError(error, { thing: 'tap', place: 'process' }) ??
      new StillpointError('internal', {
        thing: 'tap',
        reason: error instanceof Error ? error.message : String(error),
        remedy: "Look into the tap's log.",
      }));
  const { code, remedy, permanent } = known;
  const cut = (long: string): string => long.slice(0, TEXT_CHARS_MAX);
  const body = { code, thing: cut(known.thing), reason: cut(known.reason), permanent };
  const error_ = remedy === undefined ? body : { ...body, remedy: cut(remedy) };
  return `${JSON.stringify({ v: CONTROL_VERSION, id, error: error_ })}\n`;
}

export function decodeFailure({ code, ...details }: ControlFailure): StillpointError {
  return new StillpointError(code, details);
}

export function checkResult<T>(what: string, schema: z.ZodType<T>, value: unknown): T {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw badMessage(what, result.error);
}

function parse<T>(what: string, line: Buffer, schema: z.ZodType<T>): T {
  let value: unknown;
  try {
    value = JSON.parse(line.toString('utf8'));
  } catch {
    value = undefined;
  }
  const spoken = version.safeParse(value);
  if (spoken.success && spoken.data.v !== CONTROL_VERSION) {
    throw new StillpointError('version', {
      thing: what,
      reason: `it has version ${spoken.data.v} of the control protocol, and this side knows ${CONTROL_VERSION}`,
      remedy:
        'The tap and the command are of different releases; restart the tap when its users can spare it.',
    });
  }
  return checkResult(what, schema, value);
}

function badMessage(what: string, error: z.ZodError): StillpointError {
  const issue = error.issues[0];
  const where = issue === undefined || issue.path.length === 0 ? '' : `${issue.path.join('.')}: `;
  return new StillpointError('bad-message', {
    thing: what,
    reason: `it is not a valid message (${where}${issue?.message ?? 'unknown shape'})`.slice(0, 500),
  });
}
