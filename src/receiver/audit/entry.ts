/**
 * One line of the audit log (docs/format.md section 10): JSON whose last field, `chain`, is the SHA-256 of
 * the chain before it and of the line's other fields. So a line that was changed, removed or put in shows at
 * the next one. Pure.
 */
import { createHash } from 'node:crypto';
import { z } from 'zod';

export const AUDIT_VERSION = 1;

/** The chain before the first entry of a log. */
export const CHAIN_START = createHash('sha256').update('stillpoint 2026 audit log v1').digest('hex');

/** On whose initiative it was. `receiver`: its own; `stranger`: not known to be an agent. */
export type AuditActor = 'agent' | 'operator' | 'schedule' | 'retention' | 'receiver' | 'stranger';

/** `begun`: it is about to be done; another entry names this one and says how it ended. */
export type AuditResult = 'done' | 'begun' | 'failed' | 'refused';

/** Everything that is recorded, by kind. What an operator changes is durable before it is carried out. */
export type AuditAct =
  // sessions and reading
  | 'session-begin'
  | 'session-resume'
  | 'session-commit'
  | 'session-abort'
  | 'session-superseded'
  | 'session-expired'
  | 'session-cut'
  | 'restore-begin'
  | 'restore-end'
  | 'verify'
  | 'check'
  // journals
  | 'journal-begin'
  | 'journal-end'
  // points
  | 'forget'
  | 'prune'
  | 'pin'
  | 'unpin'
  | 'point-removed'
  | 'journal-removed'
  | 'collect'
  | 'repair'
  // agents
  | 'invite'
  | 'enroll'
  | 'renew'
  | 'revoke'
  | 'rename'
  | 'remove'
  | 'order'
  | 'round'
  | 'group'
  | 'group-left-out'
  | 'group-cancel'
  | 'setting'
  // defence
  | 'refused'
  // of the log itself
  | 'log-recovered'
  | 'log-damaged'
  | 'log-missed'
  | 'log-suppressed';

export interface AuditEvent {
  readonly who: AuditActor;
  readonly what: AuditAct;
  readonly result: AuditResult;
  readonly agent?: string | undefined;
  readonly device?: string | undefined;
  /** Label or id. */
  readonly point?: string | undefined;
  readonly session?: string | undefined;
  readonly bytes?: number | undefined;
  /** How many things or entries it is about. */
  readonly count?: number | undefined;
  /** Of the other side's network, or `control` for a command on this machine. */
  readonly address?: string | undefined;
  /** What exactly, or why not: one clause. */
  readonly detail?: string | undefined;
  /** The entry with the result `begun` that this one ends. */
  readonly of?: number | undefined;
}

export interface AuditEntry extends AuditEvent {
  /** From 1, one more with each entry. */
  readonly n: number;
  /** By the receiver's clock, ISO 8601. */
  readonly at: string;
}

/** Where a chain is. */
export interface ChainEnd {
  /** Of the last entry; 0: there is none. */
  readonly sequence: number;
  readonly chain: string;
}

const TEXT_CHARS_MAX = 300;
/** More than any entry can have: each text of at most TEXT_CHARS_MAX, escaped. */
export const AUDIT_LINE_BYTES_MAX = 16 * 1024;

const text = z.string();
const count = z.int().min(0);
/** A log of a newer program may have acts and fields that this one does not know. */
const entrySchema = z.looseObject({
  n: count.min(1),
  at: text,
  who: text,
  what: text,
  result: text,
  agent: text.optional(),
  device: text.optional(),
  point: text.optional(),
  session: text.optional(),
  bytes: count.optional(),
  count: count.optional(),
  address: text.optional(),
  detail: text.optional(),
  of: count.optional(),
});
/** As read: what a newer program wrote is shown as it is. */
export type ReadEntry = z.infer<typeof entrySchema>;

const headSchema = z.strictObject({
  format: z.literal('stillpoint-audit'),
  version: z.literal(AUDIT_VERSION),
  first: count.min(1),
  previous: z.string().regex(/^[0-9a-f]{64}$/),
});

const newerSchema = z.looseObject({
  format: z.literal('stillpoint-audit'),
  version: z.int().min(AUDIT_VERSION + 1),
});

/** The first line of a file: where in the chain it continues. */
export function encodeHead({ sequence, chain }: ChainEnd): string {
  return `${JSON.stringify({ format: 'stillpoint-audit', version: AUDIT_VERSION, first: sequence + 1, previous: chain })}\n`;
}

/** Of a head that a newer program wrote; null: it is none. */
export function newerVersion(line: string): number | null {
  const head = newerSchema.safeParse(parseJson(line));
  return head.success ? head.data.version : null;
}

/** Null if it is not the head of a log of this version. */
export function decodeHead(line: string): ChainEnd | null {
  const head = headSchema.safeParse(parseJson(line));
  return head.success ? { sequence: head.data.first - 1, chain: head.data.previous } : null;
}

export function encodeEntry(event: AuditEvent, at: Date, end: ChainEnd): { line: string; end: ChainEnd } {
  const n = end.sequence + 1;
  const fields = Object.entries(event).flatMap(([name, value]) =>
    value === undefined ? [] : [[name, typeof value === 'string' ? value.slice(0, TEXT_CHARS_MAX) : value]],
  );
  const body = JSON.stringify({ n, at: at.toISOString(), ...Object.fromEntries(fields) });
  const chain = chainOf(end.chain, body);
  return { line: `${body.slice(0, -1)},"chain":"${chain}"}\n`, end: { sequence: n, chain } };
}

const CHAIN_FIELD = /,"chain":"([0-9a-f]{64})"\}$/;

export interface DecodedLine {
  readonly entry: ReadEntry;
  readonly end: ChainEnd;
  /** What is wrong with its place in the chain, as a clause; null: nothing. */
  readonly fault: string | null;
}

/** Null if it is not a line of an audit log at all. */
export function decodeLine(line: string, before: ChainEnd): DecodedLine | null {
  const field = CHAIN_FIELD.exec(line);
  if (field === null) return null;
  const body = `${line.slice(0, field.index)}}`;
  const entry = entrySchema.safeParse(parseJson(body));
  if (!entry.success) return null;
  const { n } = entry.data;
  const chain = field[1] ?? '';
  const fault =
    n !== before.sequence + 1
      ? `entry ${n} follows entry ${before.sequence}`
      : chain === chainOf(before.chain, body)
        ? null
        : `entry ${n} was changed, or the one before it`;
  return { entry: entry.data, end: { sequence: n, chain }, fault };
}

function chainOf(previous: string, body: string): string {
  return createHash('sha256').update(previous).update('\n').update(body).digest('hex');
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch {
    return undefined;
  }
}
