/**
 * Audits journals in the background, one at a time, beside sessions. What is due is found in points and
 * journals each time, so nothing is remembered over a restart.
 *
 * | state   | time to look                                | close                    |
 * |---------|---------------------------------------------|--------------------------|
 * | idle    | -> running, until nothing is due any more   | ends                     |
 * | running | nothing                                     | the audit is given up    |
 *
 * An audit that can't be made, as something of a point is damaged, is tried again later.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { COLLECT_BYTES_PER_S, MiB } from '../../domain/base/limits.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import { type DueAudit, dueAudits } from '../../domain/journal/audits.js';
import type { JournalAudit, StoredJournal } from '../../domain/journal/journal.js';
import type { Point } from '../../domain/point/point.js';
import { pointName } from '../../domain/point/point-ref.js';
import { native } from '../../native/index.js';
import type { Store } from '../../store/port/store.js';
import { type AuditTools, auditFault } from './audit.js';

export interface AuditingOptions {
  readonly store: Store;
  readonly noteAudit: (agent: string, journalId: string, audit: JournalAudit) => Promise<void>;
  readonly hasSessions: () => boolean;
  readonly log: Logger;
  readonly onAudit?: (journal: StoredJournal, audit: JournalAudit) => void;
  readonly tools?: AuditTools | undefined;
  readonly windowBytes?: number | undefined;
  /** Default: LOOK_INTERVAL_MS. */
  readonly intervalMs?: number | undefined;
  readonly nowMs?: () => number;
}

/** Records arrive within seconds of their point. */
const LOOK_INTERVAL_MS = 20_000;
const AGAIN_AFTER_MS = 60 * 60_000;
const PUT_OFF_MAX = 4096;
/** Between two rests. */
const STRIDE_BYTES = 4 * MiB;

export class Auditing {
  readonly #options: AuditingOptions;
  readonly #nowMs: () => number;
  readonly #timer: NodeJS.Timeout;
  readonly #closing = new AbortController();
  #running: Promise<void> | null = null;
  /** By the point's id: not before. */
  readonly #putOff = new Map<string, number>();
  #owedBytes = 0;

  constructor(options: AuditingOptions) {
    this.#options = options;
    this.#nowMs = options.nowMs ?? (() => performance.now());
    this.#timer = setInterval(() => void this.look(), options.intervalMs ?? LOOK_INTERVAL_MS).unref();
  }

  /** Makes all that are due. Does not reject. */
  look(): Promise<void> {
    this.#running ??= this.#all()
      .catch((error: Error) => this.#failed(error, {}))
      .finally(() => {
        this.#running = null;
      });
    return this.#running;
  }

  /** What runs is given up. */
  async close(): Promise<void> {
    clearInterval(this.#timer);
    this.#closing.abort();
    await this.#running;
  }

  async #all(): Promise<void> {
    const { store } = this.#options;
    while (!this.#closing.signal.aborted) {
      const journals = await store.journals.list({});
      if (journals.length === 0) return;
      const due = dueAudits(journals, await store.points({})).find(({ point }) => !this.#isPutOff(point.id));
      if (due === undefined) return;
      await this.#one(due);
    }
  }

  #isPutOff(pointId: string): boolean {
    return (this.#putOff.get(pointId) ?? Number.NEGATIVE_INFINITY) > this.#nowMs();
  }

  async #one(due: DueAudit<Point>): Promise<void> {
    const { store, tools = native, windowBytes, noteAudit, log, onAudit } = this.#options;
    const { journal, point } = due;
    const about = {
      ...{ agent: journal.agent, device: journal.device, journal: journal.journalId },
      point: pointName(point, null),
    };
    try {
      const pace = (bytes: number) => this.#pace(bytes);
      const fault = await auditFault(due, { store, tools, pace, windowBytes });
      const audit = { pointId: point.id, ordinal: point.journal.ordinal, fault };
      await noteAudit(journal.agent, journal.journalId, audit);
      onAudit?.(journal, audit);
      if (fault === null) log.debug(about, 'journal audited');
      else
        log.error(
          { event: 'journal-fault' satisfies LogEvent, ...about, reason: fault },
          'the journal is wrong: it has ended',
        );
    } catch (error) {
      if (this.#closing.signal.aborted) return;
      if (this.#putOff.size >= PUT_OFF_MAX) this.#putOff.clear();
      this.#putOff.set(point.id, this.#nowMs() + AGAIN_AFTER_MS);
      this.#failed(error as Error, about);
    }
  }

  #failed(error: Error, about: object): void {
    const isGone = (['journal-unknown', 'journal-gap', 'point-unknown', 'busy'] as const).some((code) =>
      isStillpointError(error, code),
    );
    this.#options.log[isGone ? 'debug' : 'warn'](
      { event: 'journal-audit-failed' satisfies LogEvent, ...about, reason: error.message },
      'a journal can not be audited now',
    );
  }

  async #pace(bytes: number): Promise<void> {
    const { signal } = this.#closing;
    if (signal.aborted) throw new StillpointError('cancelled', { thing: 'audit', reason: 'it was stopped' });
    this.#owedBytes += bytes;
    if (this.#owedBytes < STRIDE_BYTES) return;
    const restMs = (1000 * this.#owedBytes) / COLLECT_BYTES_PER_S;
    this.#owedBytes = 0;
    if (this.#options.hasSessions()) await sleep(restMs, undefined, { signal }).catch(() => undefined);
  }
}
