/**
 * Retention at the receiver: what commands ask for, and what the receiver does by itself. It plans
 * (planning.ts), and has the store remove what goes; the store refuses what is locked, pinned or used.
 *
 * State: none but the run that is going on; settings and clock are the store's.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { ClockJudgement } from '../../domain/retention/clock.js';
import { lockAt } from '../../domain/retention/lock.js';
import type { PlannedPoint } from '../../domain/retention/plan.js';
import {
  addPin,
  applyManaged,
  type ManagedRetention,
  type Pin,
  type RetentionSettings,
  removePin,
  setJournalKeep,
  setMinAge,
  setPolicy,
  setTimeZone,
} from '../../domain/retention/settings.js';
import type { DeviceKey, Store } from '../../store/port/store.js';
import { type NamedWish, namedWish, type RetentionEvent } from './events.js';
import { freeJournals, type JournalKeeping, needlessJournals } from './journals.js';
import type { PlannedPointView, RemovalSummary, RetentionView, RetentionWish } from './messages.js';
import {
  devicesInScope,
  groupsWith,
  inParts,
  type Plan,
  type PlanScope,
  planDevices,
  splitGroups,
} from './planning.js';
import { brokenView, forgottenView, retentionView, viewOf } from './views.js';

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
  readonly journals?: Omit<JournalKeeping, 'onRemoved'>;
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

  async #set({ scope, policy, journalKeepMs, timeZone, minAgeMs }: WishTo<'set'>): Promise<RetentionView> {
    await this.#change((settings, clock) => {
      if (settings.managedBy !== null) throw isManaged(settings.managedBy);
      let made = settings;
      // Named once and for all: another program may run in another zone.
      const zone = timeZone ?? settings.timeZone ?? this.#ownTimeZone();
      if (zone !== made.timeZone) made = setTimeZone(made, zone);
      if (policy !== undefined) made = setPolicy(made, scope, policy);
      if (journalKeepMs !== undefined) made = setJournalKeep(made, scope, journalKeepMs);
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

  async #plan(scope: PlanScope, tell: Tell): Promise<RemovalSummary> {
    const { store } = this.#options;
    const clock = store.retention.clock();
    const summary = emptySummary(clock);
    for (const devices of await devicesInScope(store, scope)) {
      const plan = await planDevices(store, devices, scope, clock);
      count(summary, plan);
      for (const entry of plan.points) {
        summary[entry.stays ? 'staying' : 'going'] += 1;
        tell(viewOf(entry));
      }
    }
    const journals = await needlessJournals(store, scope, clock, this.#options.journals ?? {});
    return journals.journalCount === 0 ? summary : { ...summary, journals };
  }

  /** Removes what goes; what is in use by now stays. */
  prune(scope: PlanScope, signal: AbortSignal, tell: Tell = NOBODY): Promise<RemovalSummary> {
    const run = this.#pruning.then(() => this.#prune(scope, signal, tell));
    this.#pruning = run.catch(() => undefined);
    return run;
  }

  async #prune(scope: PlanScope, signal: AbortSignal, tell: Tell): Promise<RemovalSummary> {
    const { store } = this.#options;
    const clock = await store.retention.noteClock();
    const summary = emptySummary(clock);
    const failures: unknown[] = [];
    for (const devices of await devicesInScope(store, scope)) {
      if (signal.aborted) throw cancelled();
      await planDevices(store, devices, scope, clock)
        .then((plan) => this.#removeWhatGoes(plan, signal, summary, tell))
        .catch((error) => failures.push(error));
    }
    // Points first: what goes of journals depends on those that stay.
    const journals = await freeJournals(store, scope, clock, signal, {
      ...this.#options.journals,
      onRemoved: ({ agent, device, journalId }, bytes) =>
        this.#report({ type: 'journal-removed', agent, device, journalId, bytes }),
    }).catch((error) => {
      failures.push(error);
      return null;
    });
    if (signal.aborted && failures.length > 0) throw cancelled();
    // One device that can't be pruned keeps no other from it.
    if (failures.length > 0) throw failures[0];
    return journals === null || journals.journalCount === 0 ? summary : { ...summary, journals };
  }

  async #removeWhatGoes(plan: Plan, signal: AbortSignal, summary: Counts, tell: Tell): Promise<void> {
    count(summary, plan);
    for (const part of inParts(plan)) {
      if (signal.aborted) throw cancelled();
      const isGone = part.every(({ stays }) => !stays) && (await this.#removeIfStillFree(part));
      summary[isGone ? 'going' : 'staying'] += part.length;
      if (isGone) for (const entry of part) tell(viewOf(entry));
    }
  }

  /** @param part one point, or all of a group point */
  async #removeIfStillFree(part: readonly PlannedPoint<Point>[]): Promise<boolean> {
    const { store } = this.#options;
    const points = part.map(({ point }) => point);
    const texts = part.map(({ reasons }) => reasons.map(({ text }) => text));
    const why = `no rule keeps it: ${(texts[0] ?? []).join('; ')}`;
    try {
      const [point, ...others] = points;
      if (point !== undefined && others.length === 0) await store.removePoint(point, why);
      else await store.removeTogether(points, 'no rule keeps a point of its group point');
    } catch (error) {
      const isKept = (['session-busy', 'point-protected', 'point-unknown'] as const).some((code) =>
        isStillpointError(error, code),
      );
      if (isKept) return false;
      throw error;
    }
    for (const [i, point] of points.entries()) this.#reportRemoval(point, 'prune', texts[i] ?? []);
    return true;
  }

  async #forget(pointIds: readonly string[], tell: Tell): Promise<RemovalSummary> {
    const { store } = this.#options;
    const clock = await store.retention.noteClock();
    const points: Point[] = [];
    for (const pointId of new Set(pointIds)) points.push(await this.#point(pointId));
    const { groups, alone } = await splitGroups(store, points);
    // All or none, as far as that can be known before.
    for (const group of groups) store.checkRemoval(...group.points);
    for (const point of alone) store.checkRemoval(point);
    const why = 'the operator forgot it';
    const report = (point: Point) => {
      this.#reportRemoval(point, 'forget', [why]);
      tell(forgottenView(point));
    };
    for (const group of groups) {
      await store.removeTogether(group.points, why);
      for (const point of group.points) report(point);
    }
    for (const point of alone) {
      await store.removePoint(point, why);
      report(point);
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
    const broken = (await groupsWith(store, key)).map((group) => brokenView(group, key));
    const removed = await store.removeDevice(key, why);
    for (const point of removed) {
      this.#reportRemoval(point, 'forget', [why]);
      tell(forgottenView(point));
    }
    const summary = { ...emptySummary(clock), deviceCount: 1, going: removed.length };
    return broken.length === 0 ? summary : { ...summary, notWholeAnyMore: broken };
  }

  #reportRemoval(
    { id, agent, device, sequence, committedAt }: Point,
    by: 'prune' | 'forget',
    reasons: readonly string[],
  ): void {
    const point = { agent, device, sequence, pointId: id, committedAt };
    this.#report({ type: 'point-removed', by, ...point, reasons });
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

function count(summary: Counts, { hasPolicy }: Plan): void {
  summary.deviceCount += hasPolicy.length;
  summary.withoutPolicy += hasPolicy.filter((has) => !has).length;
}
