/**
 * The journals of one tap: follows their heads, ships each to every receiver of the device, and tells the tap
 * what it may forget and what it is to break.
 *
 * | a journal       | is                                              | until                            |
 * |-----------------|-------------------------------------------------|----------------------------------|
 * | without a head  | left alone                                      | the tap publishes one            |
 * | followed        | shipped to each target, by a shipper of its own | it is gone from the spool        |
 * | broken, shipped | released as a whole, so that the tap forgets it | the tap has: it may not run now  |
 *
 * One look at a time. What a look finds of the tap and its receivers decides again at the next one, so
 * nothing has to be remembered over a restart of this process.
 */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { isStillpointError } from '../../domain/base/errors.js';
import type { LogEvent } from '../../domain/base/log-events.js';
import { compareStamps, stampMs } from '../../domain/journal/journal.js';
import { releasable } from '../../domain/journal/shipping.js';
import type { TapJournalHead } from '../../native/index.js';
import type { TapControl } from '../../tap/control/client.js';
import { unlessAborted } from '../common/cancel.js';
import { readLeftHead } from './left-head.js';
import { JournalShipper, type JournalTarget, type ShipperOptions } from './shipper.js';
import { type ScanRecords, SpoolReader } from './spool-reader.js';

/** Where a tap has its journals. */
export interface JournaledTap {
  readonly name: string;
  /** The spool's. */
  readonly directory: string;
  readonly headDirectory: string;
  readonly controlPath: string;
}

export interface TapJournalsOptions
  extends Pick<ShipperOptions, 'log' | 'counters' | 'now' | 'wallMs' | 'random'> {
  readonly tap: JournaledTap;
  /** Of a running tap. Null: there is none, or it is from before a restart of the machine. */
  readonly readHead: (path: string) => Promise<TapJournalHead | null>;
  readonly scan: ScanRecords;
  /** @throws StillpointError `unreachable`: the tap does not run */
  readonly connect: (
    controlPath: string,
  ) => Promise<Pick<TapControl, 'releaseJournal' | 'breakJournal' | 'close'>>;
  readonly signal: AbortSignal;
}

interface Following {
  head: TapJournalHead;
  readonly shippers: Map<string, { readonly shipper: JournalShipper; stop(): void }>;
}

/** So often heads are read while there is traffic, and otherwise. */
const BUSY_MS = 100;
const IDLE_MS = 500;
/** So long after the last traffic. */
const TRAFFIC_MS = 5_000;
/** After the tap could not be told something. */
const TELL_AGAIN_MS = 5_000;
const TELL_MS = 10_000;
/** The oldest of them. */
const FOLLOWED_MAX = 64;
const JOURNAL_ID = /^[0-9a-f]{32}$/;

export class TapJournals {
  /** The tap runs, as far as is known. */
  isServed = true;
  /** Whom they are shipped to. */
  targets: readonly JournalTarget[] = [];
  readonly #options: TapJournalsOptions;
  readonly #log: Logger;
  readonly #following = new Map<string, Following>();
  readonly #ends = new Set<Promise<void>>();
  #problem: string | null = null;
  #toldBroken: string | null = null;
  #tellAtMs = Number.NEGATIVE_INFINITY;
  #telling: Promise<void> = Promise.resolve();
  #isTelling = false;
  #trafficMs = Number.NEGATIVE_INFINITY;

  constructor(options: TapJournalsOptions) {
    this.#options = options;
    this.#log = options.log.child({ tap: options.tap.name });
  }

  get tap(): JournaledTap {
    return this.#options.tap;
  }

  /** Why the spool or its heads can't be read, a clause; null: they can. */
  get problem(): string | null {
    return this.#problem;
  }

  /** Of the newest journal, and who ships it, by the key of its target. */
  get newest(): { readonly head: TapJournalHead; shipperOf(key: string): JournalShipper | null } | null {
    const found = [...this.#following.values()].sort((a, b) => byAge(a.head, b.head)).at(-1);
    if (found === undefined) return null;
    return { head: found.head, shipperOf: (key) => found.shippers.get(key)?.shipper ?? null };
  }

  /** Of all journals. */
  lagMs(key: string): number {
    const shippers = [...this.#following.values()].map(({ shippers }) => shippers.get(key)?.shipper);
    return Math.max(
      0,
      ...shippers.map((shipper) => (shipper?.shipping.isDone === false ? shipper.lagMs : 0)),
    );
  }

  /** Until the signal; then what is under way has ended. */
  async run(): Promise<void> {
    const { signal, now } = this.#options;
    while (!signal.aborted) {
      await this.look();
      const isBusy = now() - this.#trafficMs < TRAFFIC_MS;
      await sleep(isBusy ? BUSY_MS : IDLE_MS, undefined, { signal }).catch(() => undefined);
    }
    for (const { shippers } of this.#following.values()) for (const { stop } of shippers.values()) stop();
    await Promise.all([...this.#ends, this.#telling]);
  }

  async look(): Promise<void> {
    try {
      this.#follow(await this.#heads());
      this.#problem = null;
    } catch (error) {
      const { message } = error as Error;
      if (message !== this.#problem) this.#log.warn({ reason: message }, 'the spool can not be read');
      this.#problem = message;
    }
    this.#tellTap();
  }

  /** Oldest first. */
  async #heads(): Promise<TapJournalHead[]> {
    const { tap } = this.#options;
    const names = await readdir(tap.directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code === 'ENOENT') return [];
      throw error;
    });
    const heads: TapJournalHead[] = [];
    for (const id of names.filter((name) => JOURNAL_ID.test(name))) {
      const head = await this.#headOf(id);
      if (head !== null && head.journalId === id && head.ordinal > 0) heads.push(head);
    }
    return heads.sort(byAge).slice(0, FOLLOWED_MAX);
  }

  async #headOf(journalId: string): Promise<TapJournalHead | null> {
    const { tap, readHead } = this.#options;
    const published = await readHead(join(tap.headDirectory, `${journalId}.head`));
    return published ?? (await readLeftHead(join(tap.directory, journalId)));
  }

  #follow(heads: readonly TapJournalHead[]): void {
    const ids = new Set(heads.map(({ journalId }) => journalId));
    for (const [id, { shippers }] of this.#following) {
      if (ids.has(id)) continue;
      for (const { stop } of shippers.values()) stop();
      this.#following.delete(id);
    }
    for (const head of heads) {
      const known = this.#following.get(head.journalId);
      const following = known ?? { head, shippers: new Map() };
      if (known === undefined) this.#following.set(head.journalId, following);
      if (known === undefined || known.head.ordinal !== head.ordinal) this.#trafficMs = this.#options.now();
      following.head = head;
      this.#aim(following);
      for (const { shipper } of following.shippers.values()) shipper.head = head;
    }
    this.#tellBroken(heads.at(-1));
  }

  /** A shipper for each target, and none for what is no target any more. */
  #aim({ head, shippers }: Following): void {
    const keys = new Set(this.targets.map(({ key }) => key));
    for (const [key, { stop }] of shippers) {
      if (keys.has(key)) continue;
      stop();
      shippers.delete(key);
    }
    for (const target of this.targets)
      if (!shippers.has(target.key)) shippers.set(target.key, this.#ship(head, target));
  }

  #ship(head: TapJournalHead, target: JournalTarget): { shipper: JournalShipper; stop(): void } {
    const { tap, scan, signal, counters, now, wallMs, random } = this.#options;
    const { journalId, clockId } = head;
    const log = this.#log.child({ device: target.device, receiver: target.receiver, journal: journalId });
    const shipper = new JournalShipper({
      ...{ journalId, clockId, target, head, log, counters, now, wallMs, random },
      reader: new SpoolReader(join(tap.directory, journalId), scan),
      readHead: () => this.#headOf(journalId),
      isServed: () => this.isServed,
    });
    const stopped = new AbortController();
    const end = shipper
      .run(AbortSignal.any([signal, stopped.signal]))
      .catch((error: Error) => log.error({ err: error }, 'shipping a journal failed'))
      .finally(() => this.#ends.delete(end));
    this.#ends.add(end);
    return { shipper, stop: () => stopped.abort() };
  }

  #tellBroken(newest: TapJournalHead | undefined): void {
    if (newest === undefined || newest.state !== 'broken' || this.#toldBroken === newest.journalId) return;
    this.#toldBroken = newest.journalId;
    const { journalId: journal, reason, brokenStamp } = newest;
    this.#log.warn(
      {
        ...{ event: 'journal-broken' satisfies LogEvent, journal, reason },
        at: new Date(stampMs(brokenStamp)).toISOString(),
      },
      'the journal is broken; the next point begins a new one',
    );
    for (const { device } of this.targets)
      this.#options.counters.add('stillpoint_agent_journal_broken_total', { device }, 1);
  }

  #tellTap(): void {
    const { now, tap, connect, signal } = this.#options;
    if (this.#isTelling || now() < this.#tellAtMs) return;
    const [first] = this.#orders();
    if (first === undefined) return;
    this.#isTelling = true;
    const tell = async () => {
      const control = await connect(tap.controlPath);
      try {
        const limit = AbortSignal.any([signal, AbortSignal.timeout(TELL_MS)]);
        await unlessAborted(limit, first(control));
      } finally {
        control.close();
      }
    };
    this.#telling = tell()
      .catch((error: Error) => {
        this.#tellAtMs = now() + TELL_AGAIN_MS;
        // It is told when it runs again.
        if (isStillpointError(error, 'unreachable') || signal.aborted) return;
        this.#log.warn({ reason: error.message }, 'the tap could not be told what becomes of its journal');
      })
      .finally(() => {
        this.#isTelling = false;
      });
  }

  /** What the tap is to be told now. */
  *#orders(): Generator<(control: Pick<TapControl, 'releaseJournal' | 'breakJournal'>) => Promise<void>> {
    for (const { head, shippers } of this.#following.values()) {
      const all = [...shippers.values()].map(({ shipper }) => shipper);
      const reason = all.map(({ shipping }) => shipping.breakReason).find((each) => each !== null);
      if (head.state === 'open' && reason != null)
        yield (control) => control.breakJournal(head.journalId, reason);
      const ordinal = releasable(
        all.map(({ shipping }) => shipping),
        head,
      );
      if (ordinal === null || !isWorthTelling(head, ordinal, all)) continue;
      yield (control) => control.releaseJournal(head.journalId, ordinal);
    }
  }
}

/** Only whole segments go, and a broken journal when nothing of it is needed. */
function isWorthTelling(head: TapJournalHead, ordinal: number, shippers: readonly JournalShipper[]): boolean {
  if (head.state === 'broken' && ordinal === head.lastOrdinal) return true;
  const segments = shippers
    .filter(({ shipping }) => !shipping.isGivenUp)
    .map(({ durableSegment }) => durableSegment);
  return segments.every((segment) => segment !== null && segment > head.oldestSegment);
}

/** The one that is open is the newest, whatever became of the clock. */
function byAge(a: TapJournalHead, b: TapJournalHead): number {
  if ((a.state === 'open') !== (b.state === 'open')) return a.state === 'open' ? 1 : -1;
  return compareStamps(a.stamp, b.stamp);
}
