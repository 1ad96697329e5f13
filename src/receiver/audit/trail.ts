/**
 * What a running receiver enters into its audit log by itself: sessions, restores, refusals. All of that is
 * noted (log.ts): nobody waits for it.
 *
 * A restore is many requests for blocks of one point. Its first one is entered as its begin; when none came
 * for RESTORE_QUIET_MS, its end, with the bytes that were sent. Restores have a number of entries of their
 * own: an agent that spends that of its other entries hides none. Those beyond it are told together, with
 * their bytes. What an operator does is always entered.
 */
import { RESTORES_WATCHED_MAX } from '../../domain/base/limits.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { networkOf } from '../access/network.js';
import type { AuditAct, AuditEvent } from './entry.js';
import type { AuditLog } from './log.js';
import { Sparing } from './sparing.js';

const RESTORE_QUIET_MS = 5 * 60_000;
const LOOK_MS = 30_000;
const WINDOW_MS = 10 * 60_000;
/** Of one agent in a window, and of all. */
const AGENT_ENTRIES_MAX = 600;
const ENTRIES_MAX = 20_000;
/** Of restores of one agent, and of all: each has an end, too. */
const AGENT_RESTORES_MAX = 300;
const RESTORES_MAX = 10_000;
/** Of refusals: of one address, and of all. */
const ADDRESS_REFUSALS_MAX = 20;
const REFUSALS_MAX = 500;

interface Restore {
  readonly agent: string;
  readonly device: string;
  readonly point: string;
  readonly address: string | undefined;
  bytes: number;
  lastMs: number;
  /** Its begin was entered. */
  readonly isEntered: boolean;
}

export class Trail {
  readonly log: AuditLog;
  readonly #nowMs: () => number;
  readonly #agents: Sparing;
  readonly #reading: Sparing;
  readonly #refusals: Sparing;
  readonly #restores = new Map<string, Restore>();
  /** By agent: restores that have no entry of their own. */
  readonly #unentered = new Map<string, { count: number; bytes: number }>();
  readonly #looking: NodeJS.Timeout;

  /** @param nowMs monotonic */
  constructor(log: AuditLog, nowMs: () => number = () => performance.now()) {
    this.log = log;
    this.#nowMs = nowMs;
    const window = { windowMs: WINDOW_MS, nowMs };
    this.#agents = new Sparing({ ...window, perKeyMax: AGENT_ENTRIES_MAX, totalMax: ENTRIES_MAX });
    this.#reading = new Sparing({ ...window, perKeyMax: AGENT_RESTORES_MAX, totalMax: RESTORES_MAX });
    this.#refusals = new Sparing({ ...window, perKeyMax: ADDRESS_REFUSALS_MAX, totalMax: REFUSALS_MAX });
    this.#looking = setInterval(() => this.look(), LOOK_MS).unref();
  }

  /** Something that an agent did or caused, or that an operator did with it. */
  note(event: AuditEvent & { readonly agent: string }): void {
    if (event.who === 'operator' || this.#agents.admit(event.agent)) this.log.note(event);
  }

  /** The end of a session. */
  session(
    { agent, device, sessionId: session }: Readonly<Record<'agent' | 'device' | 'sessionId', string>>,
    { what, point }: { readonly what: AuditAct; readonly point?: Point },
  ): void {
    const who = what === 'session-expired' ? 'receiver' : 'agent';
    this.note({
      ...{ who, what, result: 'done', agent, device, session },
      ...(point === undefined ? {} : { point: pointLabel(point), bytes: point.statistics.wireBytes }),
    });
  }

  /** A message that was refused. @param address the other side's; an agent has its own share. */
  refused(event: Omit<AuditEvent, 'what' | 'result'>, address: string): void {
    if (!this.#refusals.admit(event.agent ?? networkOf(address))) return;
    this.log.note({ ...event, address, what: 'refused', result: 'refused' });
  }

  /** Blocks of a point were sent. */
  blocksRead(read: Omit<Restore, 'lastMs' | 'isEntered'>): void {
    const key = `${read.agent}/${read.device}/${read.point}`;
    const known = this.#restores.get(key);
    if (known !== undefined) {
      known.bytes += read.bytes;
      known.lastMs = this.#nowMs();
      return;
    }
    const { agent, device, point, address } = read;
    const isEntered = this.#reading.admit(agent);
    if (isEntered)
      this.log.note({ who: 'agent', what: 'restore-begin', result: 'done', agent, device, point, address });
    this.#restores.set(key, { ...read, lastMs: this.#nowMs(), isEntered });
    const [oldest] = this.#restores.keys();
    if (this.#restores.size > RESTORES_WATCHED_MAX && oldest !== undefined) this.#ended(oldest);
  }

  /** Enters what has ended, and what was not entered. */
  look(): void {
    for (const [key, { lastMs }] of this.#restores) {
      if (this.#nowMs() - lastMs >= RESTORE_QUIET_MS) this.#ended(key);
    }
    for (const [agent, { count, bytes }] of this.#unentered) {
      const detail = 'restores beyond the number of their entries';
      this.log.note({ who: 'agent', what: 'restore-end', result: 'done', agent, count, bytes, detail });
    }
    this.#unentered.clear();
    this.#tellSuppressed(this.#agents.takeSuppressed(), 'entries of agents beyond their number');
    this.#tellSuppressed(this.#refusals.takeSuppressed(), 'refusals beyond their number');
  }

  async close(): Promise<void> {
    clearInterval(this.#looking);
    for (const key of [...this.#restores.keys()]) this.#ended(key);
    this.look();
    await this.log.close();
  }

  #ended(key: string): void {
    const restore = this.#restores.get(key);
    this.#restores.delete(key);
    if (restore === undefined) return;
    const { agent, device, point, address, bytes, isEntered } = restore;
    if (!isEntered) {
      const { count, bytes: before } = this.#unentered.get(agent) ?? { count: 0, bytes: 0 };
      this.#unentered.set(agent, { count: count + 1, bytes: before + bytes });
      return;
    }
    const named = { agent, device, point, address, bytes };
    this.log.note({ who: 'agent', what: 'restore-end', result: 'done', ...named });
  }

  #tellSuppressed(count: number, detail: string): void {
    if (count > 0) this.log.note({ who: 'receiver', what: 'log-suppressed', result: 'done', count, detail });
  }
}
