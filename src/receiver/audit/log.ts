/**
 * Writes the audit log. Several processes may: the receiver, and commands beside it. Each takes the lock for
 * the time of a write, and looks first where the log ends if it is not as it left it.
 *
 * | an entry is | by       | answered                          | if it can't be written                     |
 * |-------------|----------|-----------------------------------|--------------------------------------------|
 * | noted       | `note`   | at once                           | it waits in memory, within a bound; what   |
 * |             |          |                                   | is dropped is counted by an entry later    |
 * | recorded    | `record` | when it is durable                | the error is thrown                        |
 * | an act      | `act`    | when its beginning is durable, it | the act is not carried out; its end waits  |
 * |             |          | is carried out, and has an end    | in memory like a note, but is not dropped; |
 * |             |          |                                   | what helps then (DONE_ANYWAY) is done      |
 *
 * So backups never wait for the log, and no administrative act passes unseen. Nothing waits longer than
 * WRITE_TIMEOUT_MS for a disk that hangs.
 */
import { type FileHandle, open, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { makeDirectory } from '../../config/state-file.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { AUDIT_FILE_BYTES_MAX, AUDIT_FILES_MAX, AUDIT_PENDING_MAX } from '../../domain/base/limits.js';
import { lockFile, syncDirectory } from '../../native/files.js';
import { directoryOwner, giveFile } from '../../native/owner.js';
import { receiverDirectory } from '../access/identity.js';
import {
  type AuditAct,
  type AuditEvent,
  CHAIN_START,
  type ChainEnd,
  encodeEntry,
  encodeHead,
} from './entry.js';
import { auditFileName, auditFiles, auditLockPath, auditPath, readAuditFile } from './files.js';

const BATCH_MS = 1_000;
const LOCK_TRY_MS = 20;
const WRITE_TIMEOUT_MS = 30_000;
const CLOSE_TIMEOUT_MS = 5_000;
/** Between tries while the log can't be written, at most. */
const RETRY_MS_MAX = 60_000;

/** They make room, or shut somebody out: a full disk must not be in their way. */
const DONE_ANYWAY: ReadonlySet<AuditAct> = new Set<AuditAct>(['collect', 'revoke']);

export interface AuditOptions {
  /** The receiver's directory. */
  readonly dir: string;
  readonly now?: () => Date;
  /** Why entries can't be written, as it changes; null: they can again. */
  readonly onProblem?: (reason: string | null) => void;
  readonly fileBytesMax?: number;
  readonly filesMax?: number;
}

interface Pending {
  readonly event: AuditEvent;
  readonly at: Date;
  /** It is not dropped. */
  readonly isKept: boolean;
  /** Its sequence, when it is durable. */
  readonly onDurable?: (sequence: number) => void;
}

/** Where this process left the log. */
interface Tail {
  readonly path: string;
  readonly sizeBytes: number;
  readonly end: ChainEnd;
}

export class AuditLog {
  readonly #options: AuditOptions;
  #pending: Pending[] = [];
  #missed = 0;
  #tail: Tail | null = null;
  #writing: Promise<void> = Promise.resolve();
  #timer: NodeJS.Timeout | null = null;
  #problem: string | null = null;
  /** Of writes, one after the other. */
  #failures = 0;

  /** Nothing is read or made before the first entry. */
  constructor(options: AuditOptions) {
    this.#options = options;
  }

  /** For what happens all the time. Never throws, never waits. */
  note(event: AuditEvent): void {
    this.#add({ event, at: this.#now(), isKept: event.who === 'operator' });
    this.#later();
  }

  /** @returns the sequence. @throws StillpointError `store-full`, `store-io` where it can't be durable */
  async record(event: AuditEvent): Promise<number> {
    let sequence = 0;
    const pending: Pending = {
      ...{ event, at: this.#now(), isKept: true },
      onDurable: (n) => {
        sequence = n;
      },
    };
    this.#add(pending);
    try {
      await inTime(this.#flush(), WRITE_TIMEOUT_MS);
    } catch (error) {
      // What was refused is not to be found later as done.
      this.#pending = this.#pending.filter((other) => other !== pending);
      if (sequence === 0) throw failure(this.#options.dir, error);
    }
    return sequence;
  }

  /**
   * Does what an operator asked for: only if its beginning is on disk, and with an entry of its end.
   * @param done what the entry of a good end says besides
   */
  async act<T>(
    event: Omit<AuditEvent, 'result' | 'of'>,
    work: () => Promise<T>,
    done: (result: T) => Partial<AuditEvent> = () => ({}),
  ): Promise<T> {
    const of = await this.#begin({ ...event, result: 'begun' });
    try {
      const result = await work();
      await this.#conclude({ ...event, ...done(result), result: 'done', of });
      return result;
    } catch (error) {
      const detail = error instanceof Error ? error.message : String(error);
      await this.#conclude({ ...event, result: 'failed', detail, of });
      throw error;
    }
  }

  /** @returns undefined: it could not be recorded, and is done anyway */
  async #begin(event: AuditEvent): Promise<number | undefined> {
    try {
      return await this.record(event);
    } catch (error) {
      if (!DONE_ANYWAY.has(event.what)) throw error;
      this.#options.onProblem?.(
        `${event.what} is done although it can't be recorded: ${(error as Error).message}`,
      );
      return undefined;
    }
  }

  /** Writes what waits, if that goes within a short time. */
  async close(): Promise<void> {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#pending.length > 0) await inTime(this.#flush(), CLOSE_TIMEOUT_MS).catch(() => undefined);
  }

  async #conclude(event: AuditEvent): Promise<void> {
    this.#add({ event, at: this.#now(), isKept: true });
    // It has happened, and that it was begun is on disk: an error here would be a false one.
    await inTime(this.#flush(), WRITE_TIMEOUT_MS).catch(() => this.#later());
  }

  #now(): Date {
    return this.#options.now?.() ?? new Date();
  }

  #add(pending: Pending): void {
    this.#pending.push(pending);
    if (this.#pending.length <= AUDIT_PENDING_MAX) return;
    const oldest = this.#pending.findIndex(({ isKept }) => !isKept);
    if (oldest < 0) return;
    this.#pending.splice(oldest, 1);
    this.#missed += 1;
  }

  #later(): void {
    if (this.#timer !== null) return;
    this.#timer = setTimeout(() => {
      this.#timer = null;
      this.#flush().catch(() => this.#later());
    }, retryMs(this.#failures));
    this.#timer.unref();
  }

  /** Everything that waits now is durable when it resolves. Runs one after the other. */
  #flush(): Promise<void> {
    const result = this.#writing.then(() => this.#write());
    this.#writing = result.catch(() => undefined);
    return result;
  }

  async #write(): Promise<void> {
    if (this.#pending.length === 0) return;
    try {
      const lock = await this.#lock();
      try {
        await this.#writePending();
      } finally {
        await lock.close();
      }
      this.#tell(null);
      this.#failures = 0;
    } catch (error) {
      // If the end of the file is as it was, it need not be looked for again.
      if (!isFull(error)) this.#tail = null;
      this.#failures += 1;
      this.#tell((error as Error).message);
      throw error;
    }
  }

  #tell(problem: string | null): void {
    if (this.#problem === problem) return;
    this.#problem = problem;
    this.#options.onProblem?.(problem);
  }

  async #lock(): Promise<FileHandle> {
    const { dir } = this.#options;
    if (this.#tail === null) {
      await makeDirectory(auditPath(dir));
      await giveToOwner(dir, auditPath(dir));
    }
    const endMs = performance.now() + WRITE_TIMEOUT_MS;
    for (;;) {
      const lock = await lockFile(auditLockPath(dir));
      if (lock !== null) {
        if (this.#tail === null) await giveToOwner(dir, auditLockPath(dir));
        return lock;
      }
      if (performance.now() > endMs) throw new Error('another process has held its lock for too long');
      await sleep(LOCK_TRY_MS);
    }
  }

  async #writePending(): Promise<void> {
    const { tail, notes } = await this.#findTail();
    const pending = [...this.#pending];
    const missed = this.#missed;
    if (missed > 0) {
      const event: AuditEvent = { who: 'receiver', what: 'log-missed', result: 'failed', count: missed };
      notes.push({ ...event, detail: 'entries that could not be written in time were dropped' });
    }
    let { end } = tail;
    const lines: string[] = [];
    const sequences: number[] = [];
    const encode = (event: AuditEvent, at: Date): void => {
      const encoded = encodeEntry(event, at, end);
      lines.push(encoded.line);
      ({ end } = encoded);
    };
    for (const note of notes) encode(note, this.#now());
    for (const { event, at } of pending) {
      encode(event, at);
      sequences.push(end.sequence);
    }
    const written = await append(tail, Buffer.from(lines.join('')));
    // Since they were taken, others may have been added behind them, or the oldest dropped.
    const settled = new Set(pending);
    this.#pending = this.#pending.filter((other) => !settled.has(other));
    this.#missed -= missed;
    this.#tail = { ...written, end };
    for (const [at, { onDurable }] of pending.entries()) onDurable?.(sequences[at] ?? 0);
  }

  /** The file to append to, whole, and what is to be said of how it was found. */
  async #findTail(): Promise<{ tail: Tail; notes: AuditEvent[] }> {
    const { dir, fileBytesMax = AUDIT_FILE_BYTES_MAX } = this.#options;
    const known = this.#tail;
    const files = await auditFiles(dir);
    const last = files.at(-1);
    const path = last === undefined ? null : join(auditPath(dir), last);
    if (path === null) return { tail: await this.#startFile({ sequence: 0, chain: CHAIN_START }), notes: [] };
    const { size } = await stat(path);
    let tail = known;
    const notes: AuditEvent[] = [];
    if (known?.path !== path || known.sizeBytes !== size) {
      const file = await readAuditFile(path);
      if (file.torn !== null) {
        await cut(path, file.wholeBytes);
        const detail = `${file.torn.bytes} bytes of a write that broke off were cut, SHA-256 ${file.torn.sha256}`;
        notes.push({ who: 'receiver', what: 'log-recovered', result: 'done', detail });
      }
      // A file whose head was never written, or is damaged, takes no entries.
      if (file.start === null) {
        const detail = `the first line of ${last} can't be read`;
        if (file.entries.length > 0) {
          notes.push({ who: 'receiver', what: 'log-damaged', result: 'failed', detail });
          return { tail: await this.#startFile(file.end), notes };
        }
        return { tail: await this.#restart(files, path), notes };
      }
      tail = { path, sizeBytes: file.wholeBytes, end: file.end };
    }
    if (tail === null) throw new Error('the end of the log was not found');
    if (tail.sizeBytes < fileBytesMax) return { tail, notes };
    return { tail: await this.#startFile(tail.end), notes };
  }

  /** After a last file without a head: the one before it says where the chain is. */
  async #restart(files: readonly string[], headless: string): Promise<Tail> {
    const before = files.at(-2);
    const { dir } = this.#options;
    const file = before === undefined ? null : await readAuditFile(join(auditPath(dir), before));
    await rm(headless);
    return this.#startFile(file?.end ?? { sequence: 0, chain: CHAIN_START });
  }

  async #startFile(end: ChainEnd): Promise<Tail> {
    const { dir, filesMax = AUDIT_FILES_MAX } = this.#options;
    const path = join(auditPath(dir), auditFileName(end));
    const created = await append({ path, sizeBytes: 0, end }, Buffer.from(encodeHead(end)));
    await giveToOwner(dir, path);
    await syncDirectory(auditPath(dir));
    const files = await auditFiles(dir);
    for (const name of files.slice(0, -filesMax)) await rm(join(auditPath(dir), name), { force: true });
    return { ...created, end };
  }
}

/** Durable when it resolves. If it fails, the file is as it was, as far as that can be done. */
async function append(tail: Tail, bytes: Buffer): Promise<Tail> {
  const file = await open(tail.path, 'a', 0o600);
  try {
    try {
      await file.appendFile(bytes);
      await file.datasync();
    } catch (error) {
      await file.truncate(tail.sizeBytes).catch(() => undefined);
      throw error;
    }
  } finally {
    await file.close();
  }
  return { ...tail, sizeBytes: tail.sizeBytes + bytes.length };
}

/** A command of root must not make files that the receiver, of another user, can't write to. */
async function giveToOwner(dir: string, path: string): Promise<void> {
  if (process.getuid?.() !== 0) return;
  const owner = await directoryOwner(receiverDirectory(dir));
  if (owner !== null) await giveFile(path, owner);
}

async function cut(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await file.truncate(sizeBytes);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function inTime(work: Promise<void>, timeoutMs: number): Promise<void> {
  const over = new AbortController();
  const late = sleep(timeoutMs, undefined, { signal: over.signal, ref: false }).then(() => {
    throw new Error('the disk did not take it in time');
  });
  late.catch(() => undefined);
  try {
    await Promise.race([work, late]);
  } finally {
    over.abort();
  }
}

function retryMs(failures: number): number {
  return Math.min(RETRY_MS_MAX, BATCH_MS * 2 ** failures);
}

function isFull(error: unknown): boolean {
  return ['ENOSPC', 'EDQUOT'].includes((error as NodeJS.ErrnoException).code ?? '');
}

function failure(dir: string, cause: unknown): StillpointError {
  if (isStillpointError(cause)) return cause;
  return new StillpointError(isFull(cause) ? 'store-full' : 'store-io', {
    thing: `audit log in ${auditPath(dir)}`,
    reason: `an entry can't be written (${(cause as Error).message})`,
    remedy: 'Nothing was done, since it could not be recorded. Mend the disk or make room, and repeat it.',
    permanent: false,
    cause,
  });
}
