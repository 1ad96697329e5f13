/** Reads the audit log and looks whether its chain is whole. Needs no lock, and no receiver. */
import { join } from 'node:path';
import { CHAIN_START, type ChainEnd, type ReadEntry } from './entry.js';
import { auditFiles, auditPath, type LogFile, readAuditFile } from './files.js';

export interface AuditFilter {
  readonly sinceMs?: number | undefined;
  readonly agent?: string | undefined;
}

/** Oldest first; a file at a time is in memory. */
export async function* readAudit(dir: string, filter: AuditFilter = {}): AsyncGenerator<ReadEntry> {
  const { sinceMs = Number.NEGATIVE_INFINITY, agent } = filter;
  for await (const { entries } of eachFile(dir)) {
    for (const entry of entries) {
      if (Date.parse(entry.at) < sinceMs || (agent !== undefined && entry.agent !== agent)) continue;
      yield entry;
    }
  }
}

export interface AuditVerdict {
  readonly entries: number;
  /** Of the oldest entry that is kept; 0: there is none. */
  readonly first: number;
  /** The newest entry, and its digest, which vouches for all before it. */
  readonly last: ChainEnd;
  /** What is wrong, as clauses; empty: nothing. */
  readonly faults: readonly string[];
  /** Of a write that has not ended, or that a crash broke off: it was answered to nobody. */
  readonly tornBytes: number;
}

/**
 * Whether every entry is as it was written and none between the oldest and the newest is missing. Somebody
 * who may write to the files could make the chain anew from any entry on, or remove the newest ones: only
 * an entry's digest that was noted elsewhere shows that.
 * @param anchor sequence and beginning of the digest, noted earlier
 */
export async function verifyAudit(dir: string, anchor?: ChainEnd): Promise<AuditVerdict> {
  const faults: string[] = [];
  let entries = 0;
  let first = 0;
  let tornBytes = 0;
  let end: ChainEnd | null = null;
  let isAnchored = anchor === undefined;
  for await (const file of eachFile(dir)) {
    // Only the newest file may end with a write that broke off.
    if (tornBytes > 0) faults.push(`${tornBytes} bytes before ${file.name} can't be read`);
    tornBytes = file.torn?.bytes ?? 0;
    faults.push(...whyNotNext(end, file));
    faults.push(...file.faults);
    entries += file.entries.length;
    if (first === 0) first = file.entries[0]?.n ?? 0;
    ({ end } = file);
    isAnchored ||= anchor !== undefined && isIn(file, anchor);
  }
  if (!isAnchored) faults.push(`entry ${anchor?.sequence} is not the one with the digest ${anchor?.chain}`);
  return { entries, first, last: end ?? { sequence: 0, chain: CHAIN_START }, faults, tornBytes };
}

function whyNotNext(before: ChainEnd | null, { name, start }: LogFile & { readonly name: string }): string[] {
  if (start === null) return [`the first line of ${name} can't be read`];
  if (before === null) return [];
  if (start.sequence !== before.sequence) {
    return [
      `${name} begins after entry ${start.sequence}, and the file before it ends with ${before.sequence}`,
    ];
  }
  return start.chain === before.chain ? [] : [`${name} does not continue the file before it`];
}

function isIn({ chains }: LogFile, { sequence, chain }: ChainEnd): boolean {
  return chains.get(sequence)?.startsWith(chain) === true;
}

async function* eachFile(dir: string): AsyncGenerator<LogFile & { readonly name: string }> {
  for (const name of await auditFiles(dir)) {
    try {
      yield { name, ...(await readAuditFile(join(auditPath(dir), name))) };
    } catch (error) {
      // The oldest is removed when another one begins.
      if ((error as NodeJS.ErrnoException).code !== 'ENOENT') throw error;
    }
  }
}
