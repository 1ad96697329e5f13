/**
 * The files of an audit log, under DIR/receiver/audit/:
 *
 *   <first sequence, 12 digits>.log   entries from that one on; its first line says which chain it continues
 *   lock                              taken by a process while it writes
 *
 * A file that has reached its size is followed by another one, and the oldest are removed. Files are only
 * appended to, but for bytes at the end that a crash or a full disk left of a write that was never answered.
 */
import { createHash } from 'node:crypto';
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { receiverDirectory } from '../access/identity.js';
import {
  AUDIT_LINE_BYTES_MAX,
  AUDIT_VERSION,
  CHAIN_START,
  type ChainEnd,
  decodeHead,
  decodeLine,
  newerVersion,
  type ReadEntry,
} from './entry.js';

export const auditPath = (dir: string) => join(receiverDirectory(dir), 'audit');
export const auditLockPath = (dir: string) => join(auditPath(dir), 'lock');

const FILE_NAME = /^(\d{12})\.log$/;

export function auditFileName({ sequence }: ChainEnd): string {
  return `${String(sequence + 1).padStart(12, '0')}.log`;
}

/** Oldest first. */
export async function auditFiles(dir: string): Promise<string[]> {
  const names = await readdir(auditPath(dir)).catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return [];
    throw error;
  });
  return names.filter((name) => FILE_NAME.test(name)).sort();
}

export interface LogFile {
  readonly entries: readonly ReadEntry[];
  /** Of the entries, by their sequence. */
  readonly chains: ReadonlyMap<number, string>;
  /** The chain that its head names; null: it has no valid head. */
  readonly start: ChainEnd | null;
  /** After its last readable entry. */
  readonly end: ChainEnd;
  /** Where in the chain something is wrong, as clauses. */
  readonly faults: readonly string[];
  /** Up to here it is whole lines of the log. */
  readonly wholeBytes: number;
  /** What follows that: a write that broke off. */
  readonly torn: { readonly bytes: number; readonly sha256: string } | null;
}

/**
 * Reads one file. Only its end can be torn: lines that can't be read and have readable ones after them are
 * faults.
 * @throws StillpointError `version` if a newer program wrote it: what is in it is not for this one to judge
 */
export async function readAuditFile(path: string): Promise<LogFile> {
  const bytes = await readFile(path);
  const faults: string[] = [];
  const entries: ReadEntry[] = [];
  const chains = new Map<number, string>();
  const headEnd = bytes.indexOf(0x0a) + 1;
  const head = bytes.toString('utf8', 0, Math.max(0, headEnd - 1));
  const newer = newerVersion(head);
  if (newer !== null) throw ofNewerProgram(path, newer);
  const start = decodeHead(head);
  let end: ChainEnd = start ?? { sequence: 0, chain: CHAIN_START };
  let wholeBytes = start === null ? 0 : headEnd;
  let unread = 0;
  for (let at = wholeBytes; at < bytes.length; ) {
    const next = bytes.indexOf(0x0a, at);
    if (next < 0) break;
    const decoded =
      next - at > AUDIT_LINE_BYTES_MAX ? null : decodeLine(bytes.toString('utf8', at, next), end);
    at = next + 1;
    if (decoded === null) {
      unread += 1;
      continue;
    }
    if (unread > 0) faults.push(`${unread} lines before entry ${decoded.entry.n} can't be read`);
    unread = 0;
    if (decoded.fault !== null) faults.push(decoded.fault);
    entries.push(decoded.entry);
    ({ end } = decoded);
    chains.set(end.sequence, end.chain);
    wholeBytes = at;
  }
  const rest = bytes.subarray(wholeBytes);
  const torn =
    rest.length === 0
      ? null
      : { bytes: rest.length, sha256: createHash('sha256').update(rest).digest('hex') };
  return { entries, chains, start, end, faults, wholeBytes, torn };
}

function ofNewerProgram(path: string, version: number): StillpointError {
  return new StillpointError('version', {
    thing: path,
    reason: `it has version ${version} of the format stillpoint-audit, and this program knows ${AUDIT_VERSION}`,
    remedy:
      'A newer program wrote it: install that version again, or a newer one. This program leaves the file as it is.',
  });
}
