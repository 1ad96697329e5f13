/**
 * Retention of one store: its settings and its clock, and what they forbid. The store asks before each
 * removal, so nobody gets past the minimum age and the pins, whichever command or service it is.
 *
 * | state of the settings          | removals                                | a change          |
 * |--------------------------------|-----------------------------------------|-------------------|
 * | never set                      | allowed, if nothing uses the point      | sets them         |
 * | read                           | as the minimum age and the pins say     | replaces them     |
 * | lost: neither file is whole    | refused, until they are set again       | only by `reset`   |
 *
 * The clock is remembered whenever it is looked at on behalf of a removal or a change (`noteClock`). While it
 * is not believed, the lock goes by the last time that was, and nothing is lowered.
 */
import { readFileSync } from 'node:fs';
import { uptime } from 'node:os';
import { StillpointError } from '../../domain/base/errors.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import {
  type ClockJudgement,
  type ClockReading,
  type ClockRecord,
  confirmClock,
  judgeClock,
  rememberClock,
} from '../../domain/retention/clock.js';
import { commitTimes } from '../../domain/retention/commit-times.js';
import { lockAt } from '../../domain/retention/lock.js';
import { formatLongPeriod } from '../../domain/retention/policy.js';
import { NO_SETTINGS, pinOf, type RetentionSettings, removePin } from '../../domain/retention/settings.js';
import type { Disk } from '../disk/disk.js';
import { Mutex } from '../disk/mutex.js';
import type { StoreRetention } from '../port/store.js';
import { readClock, readSettings, SETTINGS_COPY, SETTINGS_FILE, writeClock, writeSettings } from './files.js';

/** The clock is written down again when it has gone on by so much. */
const CLOCK_GRAIN_MS = 60_000;
/** How long it counts what was found out of the ages of points. */
const YOUNGEST_KEEP_MS = 60_000;

export type MachineClock = () => Omit<ClockReading, 'wallMs'>;

export interface RetentionOptions {
  readonly disk: Disk;
  /** Root of the store. */
  readonly dir: string;
  readonly now: () => Date;
  readonly machine: MachineClock;
  readonly log: (message: string) => void;
  /** Before a sealed text is written; null: the store is only read. */
  readonly upgrade: (() => Promise<void>) | null;
}

interface Lost {
  /** A clause. */
  readonly reason: string;
}

export class Retention implements StoreRetention {
  readonly #options: RetentionOptions;
  readonly #changes = new Mutex();
  #settings: RetentionSettings | Lost = NO_SETTINGS;
  #clock: ClockRecord | null | Lost = null;
  /** By id of point, of one device; and when that was found out. */
  #youngest: { readonly atMs: number; readonly byId: ReadonlyMap<string, number | null> } = {
    atMs: Number.NEGATIVE_INFINITY,
    byId: new Map(),
  };

  private constructor(options: RetentionOptions) {
    this.#options = options;
  }

  static async load(options: RetentionOptions): Promise<Retention> {
    const retention = new Retention(options);
    const { disk, dir, machine, log } = options;
    if (machine().bootId === UNKNOWN_BOOT)
      log(
        `${BOOT_ID_FILE}: it can't be read, so a restart of the machine may not be noticed, and then the clock is not believed`,
      );
    retention.#clock = await readClock(disk, dir).catch(lostBy);
    retention.#settings = await retention.#readSettings();
    return retention;
  }

  async #readSettings(): Promise<RetentionSettings | Lost> {
    const { disk, dir, log } = this.#options;
    const settings = await readSettings(disk, dir, SETTINGS_FILE).catch(lostBy);
    if (settings !== null && !isLost(settings)) return settings;
    const copy = await readSettings(disk, dir, SETTINGS_COPY).catch(lostBy);
    if (copy !== null && !isLost(copy)) {
      log(`${SETTINGS_FILE}: ${settings?.reason ?? 'it is gone'}; its copy is used`);
      return copy;
    }
    return settings ?? copy ?? NO_SETTINGS;
  }

  get settings(): RetentionSettings {
    if (isLost(this.#settings)) throw this.#settingsLost(this.#settings);
    return this.#settings;
  }

  get fault(): string | null {
    return isLost(this.#settings) ? this.#settings.reason : null;
  }

  #settingsLost({ reason }: Lost): StillpointError {
    return new StillpointError('store-damaged', {
      thing: `retention of store ${this.#options.dir}`,
      reason: `${reason}; policies, pins and the minimum age are not known, so nothing is removed`,
      remedy:
        'Set them again: "stillpoint retention reset" forgets those that were, then "retention set" and "pin".',
    });
  }

  clock(): ClockJudgement {
    const record = this.#clock;
    const wishes = isLost(this.#settings) ? [] : this.#settings.lock;
    // Of a clock that was never looked at, the wishes know that much.
    const leastMs = Math.max(0, ...wishes.map(({ askedAtMs }) => askedAtMs));
    if (isLost(record)) return { isBelieved: false, nowMs: leastMs, reason: record.reason };
    if (record === null && wishes.length > 0)
      return { isBelieved: false, nowMs: leastMs, reason: 'what was remembered of it is gone' };
    return judgeClock(record, this.#reading(), record === null ? 0 : lockAt(wishes, record.latestMs));
  }

  #reading(): ClockReading {
    return { wallMs: this.#options.now().getTime(), ...this.#options.machine() };
  }

  noteClock(): Promise<ClockJudgement> {
    return this.#changes.run(() => this.#noteClock());
  }

  async #noteClock(): Promise<ClockJudgement> {
    const judgement = this.clock();
    const known = isLost(this.#clock) ? null : this.#clock;
    if (!judgement.isBelieved) return judgement;
    const record = rememberClock(known, this.#reading());
    const isNew = known?.anchor !== record.anchor || record.latestMs - known.latestMs >= CLOCK_GRAIN_MS;
    if (isNew) await this.#writeClock(record);
    return judgement;
  }

  async #writeClock(record: ClockRecord): Promise<void> {
    const { disk, dir } = this.#options;
    await this.#beforeWriting();
    await writeClock(disk, dir, record);
    this.#clock = record;
  }

  async #beforeWriting(): Promise<void> {
    const { upgrade, dir } = this.#options;
    if (upgrade !== null) return upgrade();
    throw new StillpointError('internal', {
      thing: `store ${dir}`,
      reason: 'it was opened for reading only, and its retention was to be changed',
    });
  }

  change(
    make: (settings: RetentionSettings, clock: ClockJudgement) => RetentionSettings,
  ): Promise<RetentionSettings> {
    return this.#changes.run(async () => {
      const { disk, dir } = this.#options;
      const before = this.settings;
      const made = make(before, this.clock());
      if (made === before) return made;
      await this.#beforeWriting();
      // First: without what is remembered of the clock, a minimum age can't be reckoned.
      await this.#noteClock();
      await writeSettings(disk, dir, made);
      this.#settings = made;
      return made;
    });
  }

  reset(): Promise<void> {
    return this.#changes.run(async () => {
      const { disk, dir } = this.#options;
      if (!isLost(this.#settings)) {
        throw new StillpointError('usage', {
          thing: `retention of store ${dir}`,
          reason: 'its settings are whole',
          remedy: 'Change them with "stillpoint retention set".',
        });
      }
      await this.#beforeWriting();
      await writeSettings(disk, dir, NO_SETTINGS);
      this.#settings = NO_SETTINGS;
    });
  }

  confirmClock(): Promise<void> {
    return this.#changes.run(() => this.#writeClock(confirmClock(this.#reading())));
  }

  /**
   * @param ofDevice all points of the device, by sequence
   * @throws StillpointError `point-protected`, `store-damaged`
   */
  check(point: Point, ofDevice: readonly Point[]): void {
    const { settings } = this;
    const { nowMs, isBelieved } = this.clock();
    const refuse = (reason: string, remedy: string) =>
      new StillpointError('point-protected', { thing: `point ${pointLabel(point)}`, reason, remedy });
    // While the clock is not believed, an end of a pin is not believed either.
    const pin = pinOf(settings, point.id, isBelieved ? nowMs : Number.NEGATIVE_INFINITY);
    if (pin !== null)
      throw refuse(`it is pinned: ${pin.reason}`, 'Take the pin away first ("stillpoint unpin").');
    const lockMs = lockAt(settings.lock, nowMs);
    if (lockMs === 0) return;
    if (this.#ageOf(point, ofDevice, nowMs) < lockMs) throw tooYoung(point, lockMs);
  }

  /**
   * As `check`, of a point of which nothing can be read: it is older than the next one.
   * @param ofDevice all others of the device
   */
  checkLost(place: Pick<Point, 'agent' | 'device' | 'sequence'>, ofDevice: readonly Point[]): void {
    const { pins, lock } = this.settings;
    const { nowMs } = this.clock();
    const { agent, device, sequence } = place;
    const isPinned = pins.some(
      (pin) => pin.agent === agent && pin.device === device && pin.sequence === sequence,
    );
    if (isPinned) {
      throw new StillpointError('point-protected', {
        thing: `point ${pointLabel(place)}`,
        reason: 'it is pinned, and nobody can take that pin away while its manifest is lost',
        remedy: 'Put the manifest back from a copy of the store.',
      });
    }
    const lockMs = lockAt(lock, nowMs);
    if (lockMs === 0) return;
    const next = ofDevice.find((point) => point.sequence > sequence);
    if (next === undefined || this.#ageOf(next, ofDevice, nowMs) < lockMs) throw tooYoung(place, lockMs);
  }

  #ageOf(point: Point, ofDevice: readonly Point[], nowMs: number): number {
    const youngestMs = this.#youngestOf(point, ofDevice, nowMs);
    return youngestMs === null ? Number.NEGATIVE_INFINITY : nowMs - youngestMs;
  }

  /**
   * Remembered for one device, as a prune removes many of its points one after the other. What it knew a
   * moment ago of points that are gone by now makes it no less true.
   */
  #youngestOf(point: Point, ofDevice: readonly Point[], nowMs: number): number | null {
    const known = this.#youngest;
    const isKnown = nowMs - known.atMs < YOUNGEST_KEEP_MS && nowMs >= known.atMs && known.byId.has(point.id);
    if (!isKnown) {
      const times = commitTimes(
        ofDevice.map(({ committedAt }) => committedAt),
        nowMs,
      );
      const entries = ofDevice.map(({ id }, i) => [id, times[i]?.youngestMs ?? null] as const);
      this.#youngest = { atMs: nowMs, byId: new Map(entries) };
    }
    return this.#youngest.byId.get(point.id) ?? null;
  }

  /** Pins of points that are gone mean nothing. Best effort. */
  async forgetPins(pointIds: readonly string[]): Promise<void> {
    if (isLost(this.#settings)) return;
    if (!this.#settings.pins.some(({ pointId }) => pointIds.includes(pointId))) return;
    await this.change((settings) => pointIds.reduce(removePin, settings)).catch((error) =>
      this.#options.log(`pins of points that were removed stay: ${String(error)}`),
    );
  }
}

function tooYoung(place: Pick<Point, 'device' | 'sequence'>, lockMs: number): StillpointError {
  return new StillpointError('point-protected', {
    thing: `point ${pointLabel(place)}`,
    reason: `it is younger than the minimum age of ${formatLongPeriod(lockMs)}, as far as is known`,
    remedy:
      'Wait until it is older. If the minimum age is lowered, that counts only after the present one has passed.',
  });
}

function lostBy(error: unknown): Lost {
  return { reason: error instanceof StillpointError ? `${error.thing}: ${error.reason}` : String(error) };
}

function isLost(value: object | null): value is Lost {
  return value !== null && 'reason' in value;
}

const BOOT_ID_FILE = '/proc/sys/kernel/random/boot_id';
/** Without its id a start of the machine is known by the time that it has been up, if that is less then. */
export const UNKNOWN_BOOT = 'unknown';
let bootId: string | null = null;

/** Of Linux: the time that it has been up includes the time that it slept. */
export const machineClock: MachineClock = () => {
  bootId ??= readBootId();
  return { upMs: Math.round(uptime() * 1000), bootId };
};

function readBootId(): string {
  try {
    return readFileSync(BOOT_ID_FILE, 'latin1').trim();
  } catch {
    return UNKNOWN_BOOT;
  }
}
