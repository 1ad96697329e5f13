/**
 * Retention at the receiver: what commands ask for, and what the receiver does by itself. It plans with
 * src/domain/retention, and has the store remove what goes; the store refuses what is locked, pinned or used.
 *
 * State: none but the run that is going on; settings and clock are the store's.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { zoneCalendar } from '../../domain/retention/calendar.js';
import type { ClockJudgement } from '../../domain/retention/clock.js';
import { lockAt } from '../../domain/retention/lock.js';
import { type PlannedPoint, planRetention } from '../../domain/retention/plan.js';
import { policyFor } from '../../domain/retention/policy.js';
import {
  addPin,
  applyManaged,
  type ManagedRetention,
  type Pin,
  pinOf,
  type RetentionSettings,
  removePin,
  setMinAge,
  setPolicy,
  setTimeZone,
} from '../../domain/retention/settings.js';
import type { DeviceKey, Store } from '../../store/port/store.js';
import { type NamedWish, namedWish, type RetentionEvent } from './events.js';
import type { PlannedPointView, RemovalSummary, RetentionView, RetentionWish } from './messages.js';
import { forgottenView, retentionView, viewOf } from './views.js';

export interface RetentionServiceOptions {
  readonly store: Store;
  readonly onEvent?: (event: RetentionEvent) => void;
  /**
   * Ends the open sessions of a device that is to be forgotten. @throws StillpointError `session-busy` for
   * one that is going on
   */
  readonly endSessions: (key: DeviceKey) => Promise<void>;
  /** Carries out what a command asked for, with its entries in the audit log. */
  readonly record?: <T>(wish: NamedWish, work: () => Promise<T>) => Promise<T>;
  /** Of the calendar, if none is set. Default: that of this machine. */
  readonly timeZone?: string;
}

type Tell = (event: PlannedPointView) => void;
type WishTo<To extends RetentionWish['to']> = Extract<RetentionWish, { to: To }>;

const NOBODY: Tell = () => undefined;

export class RetentionService {
  readonly #options: RetentionServiceOptions;
  /** One prune after the other. */
  #pruning: Promise<unknown> = Promise.resolve();

  constructor(options: RetentionServiceOptions) {
    this.#options = options;
  }

  /** @returns what the schemas of messages.ts say of each wish; null where they say nothing */
  async perform(
    wish: RetentionWish,
    signal: AbortSignal,
    tell: Tell,
  ): Promise<RetentionView | RemovalSummary | null> {
    const work = () => this.#perform(wish, signal, tell);
    const { record } = this.#options;
    return record === undefined ? work() : record(await namedWish(wish, (id) => this.#point(id)), work);
  }

  async #perform(
    wish: RetentionWish,
    signal: AbortSignal,
    tell: Tell,
  ): Promise<RetentionView | RemovalSummary | null> {
    switch (wish.to) {
      case 'show':
        return this.show();
      case 'set':
        return this.#set(wish);
      case 'plan':
        return this.#plan(wish, tell);
      case 'prune':
        return this.prune(wish, signal, tell);
      case 'forget':
        return this.#forget(wish.pointIds, tell);
      case 'forget-device':
        return this.forgetDevice(wish, tell);
      case 'pin':
        return this.#pin(wish);
      case 'unpin':
        return this.#unpin(wish.pointId);
      case 'confirm-clock':
        await this.#options.store.retention.confirmClock();
        this.#report({ type: 'clock-confirmed' });
        return this.show();
      case 'reset':
        await this.#options.store.retention.reset();
        this.#report({ type: 'retention-reset' });
        return this.show();
    }
  }

  #report(event: RetentionEvent): void {
    this.#options.onEvent?.(event);
  }

  // ---- settings ---------------------------------------------------------------------------------------

  show(): RetentionView {
    return retentionView(this.#options.store.retention);
  }

  async #set({ scope, policy, timeZone, minAgeMs }: WishTo<'set'>): Promise<RetentionView> {
    await this.#change((settings, clock) => {
      if (settings.managedBy !== null) throw isManaged(settings.managedBy);
      let made = settings;
      // Named once and for all: another program may run in another zone.
      const zone = timeZone ?? settings.timeZone ?? this.#ownTimeZone();
      if (zone !== made.timeZone) made = setTimeZone(made, zone);
      if (policy !== undefined) made = setPolicy(made, scope, policy);
      if (minAgeMs !== undefined) made = withMinAge(made, minAgeMs, clock);
      return made;
    });
    return this.show();
  }

  #ownTimeZone(): string {
    return this.#options.timeZone ?? new Intl.DateTimeFormat().resolvedOptions().timeZone ?? 'UTC';
  }

  /**
   * What a configuration file says, in place of what commands had set. Nothing is written if nothing
   * changes.
   */
  async applyManaged(managed: ManagedRetention, managedBy: string): Promise<void> {
    await this.#change((settings, clock) => {
      const whole = { ...managed, timeZone: managed.timeZone ?? settings.timeZone ?? this.#ownTimeZone() };
      const made = applyManaged(settings, whole, managedBy, clock.nowMs);
      // A clock that is not believed lowers nothing: that is done the next time.
      return clock.isBelieved || lockAt(settings.lock, clock.nowMs) <= (managed.minAgeMs ?? 0)
        ? made
        : { ...made, lock: settings.lock };
    });
  }

  /** The file says nothing any more: what it had set stays, and commands may change it. */
  async releaseManaged(): Promise<void> {
    await this.#change((settings) =>
      settings.managedBy === null ? settings : { ...settings, managedBy: null },
    );
  }

  async #change(
    make: (settings: RetentionSettings, clock: ClockJudgement) => RetentionSettings,
  ): Promise<void> {
    let isChanged = false;
    const { pins: _, ...made } = await this.#options.store.retention.change((settings, clock) => {
      const next = make(settings, clock);
      isChanged = JSON.stringify(next) !== JSON.stringify(settings);
      return isChanged ? next : settings;
    });
    if (isChanged) this.#report({ type: 'retention-set', settings: made });
  }

  // ---- pins -------------------------------------------------------------------------------------------

  async #pin({ pointId, reason, untilMs }: WishTo<'pin'>): Promise<null> {
    const { id, agent, device, sequence } = await this.#point(pointId);
    let pin: Pin | null = null;
    await this.#options.store.retention.change((settings, { nowMs }) => {
      pin = { pointId: id, agent, device, sequence, reason, pinnedAtMs: nowMs, untilMs };
      return addPin(settings, pin);
    });
    if (pin !== null) this.#report({ type: 'point-pinned', ...(pin as Pin) });
    return null;
  }

  async #unpin(pointId: string): Promise<null> {
    const { id, device, sequence } = await this.#point(pointId);
    await this.#options.store.retention.change((settings) => {
      if (settings.pins.some((pin) => pin.pointId === id)) return removePin(settings, id);
      throw new StillpointError('usage', {
        thing: `point ${pointLabel({ device, sequence })}`,
        reason: 'it is not pinned',
        remedy: '"stillpoint retention show" lists the pins.',
      });
    });
    this.#report({ type: 'point-unpinned', pointId: id });
    return null;
  }

  async #point(pointId: string): Promise<Point> {
    const point = await this.#options.store.point(null, pointId);
    if (point !== null) return point;
    throw new StillpointError('point-unknown', {
      thing: `point ${pointId}`,
      reason: 'the store has no such point',
      remedy: 'List them with "stillpoint points".',
    });
  }

  // ---- removals ---------------------------------------------------------------------------------------

  async #plan(scope: Pick<WishTo<'plan'>, 'agent' | 'device'>, tell: Tell): Promise<RemovalSummary> {
    const clock = this.#options.store.retention.clock();
    const summary = emptySummary(clock);
    for (const key of await this.#devices(scope)) {
      const { planned, hasPolicy } = await this.#planDevice(key, clock);
      count(summary, hasPolicy);
      for (const entry of planned) {
        summary[entry.stays ? 'staying' : 'going'] += 1;
        tell(viewOf(entry));
      }
    }
    return summary;
  }

  /** Removes what goes; what is in use by now stays. */
  prune(
    scope: Pick<WishTo<'plan'>, 'agent' | 'device'>,
    signal: AbortSignal,
    tell: Tell = NOBODY,
  ): Promise<RemovalSummary> {
    const run = this.#pruning.then(() => this.#prune(scope, signal, tell));
    this.#pruning = run.catch(() => undefined);
    return run;
  }

  async #prune(
    scope: Pick<WishTo<'plan'>, 'agent' | 'device'>,
    signal: AbortSignal,
    tell: Tell,
  ): Promise<RemovalSummary> {
    const { store } = this.#options;
    const clock = await store.retention.noteClock();
    const summary = emptySummary(clock);
    const failures: unknown[] = [];
    for (const key of await this.#devices(scope)) {
      if (signal.aborted) throw cancelled();
      await this.#pruneDevice(key, clock, signal, summary, tell).catch((error) => failures.push(error));
    }
    if (signal.aborted && failures.length > 0) throw cancelled();
    // One device that can't be pruned keeps no other from it.
    if (failures.length > 0) throw failures[0];
    return summary;
  }

  async #pruneDevice(
    key: DeviceKey,
    clock: ClockJudgement,
    signal: AbortSignal,
    summary: Counts,
    tell: Tell,
  ): Promise<void> {
    const { planned, hasPolicy } = await this.#planDevice(key, clock);
    count(summary, hasPolicy);
    for (const entry of planned) {
      if (signal.aborted) throw cancelled();
      const isGone = !entry.stays && (await this.#removeIfStillFree(entry));
      summary[isGone ? 'going' : 'staying'] += 1;
      if (isGone) tell(viewOf(entry));
    }
  }

  async #removeIfStillFree({ point, reasons }: PlannedPoint<Point>): Promise<boolean> {
    const texts = reasons.map(({ text }) => text);
    try {
      await this.#options.store.removePoint(point, `no rule keeps it: ${texts.join('; ')}`);
    } catch (error) {
      const isKept = (['session-busy', 'point-protected', 'point-unknown'] as const).some((code) =>
        isStillpointError(error, code),
      );
      if (isKept) return false;
      throw error;
    }
    this.#reportRemoval(point, 'prune', texts);
    return true;
  }

  async #forget(pointIds: readonly string[], tell: Tell): Promise<RemovalSummary> {
    const { store } = this.#options;
    const clock = await store.retention.noteClock();
    const points: Point[] = [];
    for (const pointId of new Set(pointIds)) points.push(await this.#point(pointId));
    // All or none, as far as that can be known before.
    for (const point of points) store.checkRemoval(point);
    for (const point of points) {
      await store.removePoint(point, 'the operator forgot it');
      this.#reportRemoval(point, 'forget', ['the operator forgot it']);
      tell(forgottenView(point));
    }
    return { ...emptySummary(clock), going: points.length };
  }

  /** All points of a device. */
  async forgetDevice({ agent, device }: DeviceKey, tell: Tell = NOBODY): Promise<RemovalSummary> {
    const { store, endSessions } = this.#options;
    const clock = await store.retention.noteClock();
    const key = { agent, device };
    if ((await store.points(key)).length === 0) {
      throw new StillpointError('device-unknown', {
        thing: `device ${agent}/${device}`,
        reason: 'the store has no point of it',
        remedy: 'List them with "stillpoint points".',
      });
    }
    await endSessions(key);
    const why = 'the operator forgot its device';
    const removed = await store.removeDevice(key, why);
    for (const point of removed) {
      this.#reportRemoval(point, 'forget', [why]);
      tell(forgottenView(point));
    }
    return { ...emptySummary(clock), deviceCount: 1, going: removed.length };
  }

  #reportRemoval(
    { id, agent, device, sequence, committedAt }: Point,
    by: 'prune' | 'forget',
    reasons: readonly string[],
  ): void {
    const point = { agent, device, sequence, pointId: id, committedAt };
    this.#report({ type: 'point-removed', by, ...point, reasons });
  }

  async #devices({ agent, device }: Pick<WishTo<'plan'>, 'agent' | 'device'>): Promise<DeviceKey[]> {
    const points = await this.#options.store.points({
      ...(agent === null ? {} : { agent }),
      ...(device === null ? {} : { device }),
    });
    const keys = new Map(points.map((point) => [`${point.agent}/${point.device}`, point]));
    return [...keys.values()].map((point) => ({ agent: point.agent, device: point.device }));
  }

  async #planDevice(
    key: DeviceKey,
    clock: ClockJudgement,
  ): Promise<{ planned: PlannedPoint<Point>[]; hasPolicy: boolean }> {
    const { store } = this.#options;
    const { settings } = store.retention;
    const points = await store.points(key);
    const scoped = policyFor(settings.policies, key);
    // Where everything is kept, nothing takes the place of anything.
    const isPruned = scoped !== null && scoped.policy.keepAll !== true;
    const damaged = new Set((isPruned ? await store.pointDamage(key) : []).map(({ point }) => point.id));
    const byId = new Map(points.map((point) => [point.id, point]));
    const pinTimeMs = clock.isBelieved ? clock.nowMs : Number.NEGATIVE_INFINITY;
    const planned = planRetention(points, {
      policy: scoped?.policy ?? null,
      calendar: zoneCalendar(settings.timeZone ?? 'UTC'),
      nowMs: clock.nowMs,
      clockDoubt: clock.isBelieved ? null : clock.reason,
      lockMs: lockAt(settings.lock, clock.nowMs),
      pinOf: (id) => pinOf(settings, id, pinTimeMs),
      useOf: (id) => {
        const point = byId.get(id);
        return point === undefined ? null : store.useOf(point);
      },
      isDamaged: (id) => damaged.has(id),
    });
    return { planned, hasPolicy: scoped !== null };
  }
}

/** @throws StillpointError `config` */
function withMinAge(settings: RetentionSettings, minAgeMs: number, clock: ClockJudgement): RetentionSettings {
  if (!clock.isBelieved && minAgeMs < lockAt(settings.lock, clock.nowMs)) {
    throw new StillpointError('config', {
      thing: 'minimum age',
      reason: `it can't be lowered while the receiver's clock is not believed: ${clock.reason}`,
      remedy: 'Set the clock right, or confirm it with "stillpoint retention confirm-clock".',
    });
  }
  return setMinAge(settings, minAgeMs, clock.nowMs);
}

function isManaged(managedBy: string): StillpointError {
  return new StillpointError('config', {
    thing: 'retention',
    reason: `its policies come from ${managedBy}`,
    remedy: 'Change that file, and reload the receiver.',
  });
}

function cancelled(): StillpointError {
  return new StillpointError('cancelled', { thing: 'prune', reason: 'it was cancelled' });
}

type Counts = { -readonly [Key in keyof RemovalSummary]: RemovalSummary[Key] };

function emptySummary(clock: ClockJudgement): Counts {
  const clockDoubt = clock.isBelieved ? null : clock.reason;
  return { deviceCount: 0, withoutPolicy: 0, staying: 0, going: 0, clockDoubt };
}

function count(summary: { deviceCount: number; withoutPolicy: number }, hasPolicy: boolean): void {
  summary.deviceCount += 1;
  if (!hasPolicy) summary.withoutPolicy += 1;
}
