/**
 * One instant of several devices that are backed up side by side: a session for each asks for its snapshot,
 * and all wait for each other. The last one that comes leads the instant (instant.ts) for all.
 *
 * | a device is | it is ready     | it leaves, fails | all are waiting                               |
 * |-------------|-----------------|------------------|-----------------------------------------------|
 * | preparing   | → waiting; late | → gone           | -                                             |
 * |             | ones → passing  |                  |                                               |
 * | passing     | → waiting       | → gone           | -                                             |
 * | waiting     | -               | → gone           | the instant → held; see below                 |
 * | held        | -               | nothing          | -                                             |
 * | gone        | refused         | nothing          | -                                             |
 *
 * A late device copies its passes while the others wait, which may take hours. What is written meanwhile to a
 * late one that waits is left to read in the instant. So before it, or after users were told of it
 * (announced.ts), the late ones go back to `passing` until all are ready at about the same time.
 *
 * An instant that is not reached is tried again if all late devices say that more passes may reach it: they
 * go back to `passing`, and the others are prepared anew, because one that was cut can't be closed again.
 * Otherwise, and without late ones, it is the end for all. A device that is gone is the end for the others,
 * too, unless it may be left out: then they go on without it.
 *
 * Where other hosts take part, a leader elsewhere (../leader.ts) is asked for each try once all here are
 * waiting, and the late ones go back to `passing` now and then while others are waited for (led-tries.ts). A
 * try that was missed is made again also without late ones, unless the reason is one for good, or it was
 * missed too often. None of the devices here may be left out then: that is for the leader.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { isTemporary } from '../../domain/base/retry.js';
import { announcementOf, withWarnings } from '../announced.js';
import { Instant } from '../instant.js';
import { lateSnapshot } from '../late.js';
import type { InstantLeader, LedTry } from '../leader.js';
import { checkCanBeOne } from '../one-instant.js';
import type { HoldOptions, Member, Passes, Snapshot, SnapshotProvider } from '../ports.js';
import type { Announcement } from '../quiesce/announce.js';
import { planOf } from '../quiesce/plan.js';
import type { RestOptions } from '../quiesce/rest.js';
import { inTime } from '../waiting.js';
import { type BegunTry, LedTries } from './led-tries.js';
import { leave, newSeat, noting, type Seat, tell } from './seat.js';
import { groupFailed, hasLeft, inGroup } from './words.js';

export interface GroupInstantOptions {
  /** The group's. */
  readonly rest: RestOptions;
  /** What becomes of the others if a device can't take part. */
  readonly missing: 'fail' | 'leave-out';
  /** Other hosts have a part in the instant. Undefined: it is of these devices alone. */
  readonly leader?: InstantLeader | undefined;
}

export interface GroupProvider {
  /** Of the provider. */
  readonly name: string;
  readonly prepare: (options: HoldOptions) => Promise<Member>;
}

interface InstantEnd {
  readonly error: unknown;
  readonly device: string | null;
}

/** Late ones that have waited no longer are as ready as they can be. */
const FRESH_MS = 2_000;
/** Before a try: each is shorter than the one before, unless more is written than can be copied. */
const CATCH_UPS_MAX = 4;

export class GroupInstant {
  readonly #options: GroupInstantOptions;
  readonly #seats: ReadonlyMap<string, Seat>;
  #announcement: Announcement | null | undefined;
  /** Of the instant that is being taken. */
  #leading: AbortController | null = null;
  #catchUps = 0;
  readonly #tries: LedTries | null;
  /** Once there will be none: hooks that were held for other hosts are let go. */
  #triesClosed: Promise<void> | null = null;
  /** Why there will be none. */
  #end: InstantEnd | null = null;

  constructor(devices: readonly string[], options: GroupInstantOptions) {
    this.#options = options;
    const { leader, rest } = options;
    this.#tries = leader === undefined ? null : new LedTries(leader, rest);
    this.#seats = new Map(devices.map((device) => [device, newSeat(device)]));
  }

  /** Why there is none for anybody, and the device whose member failed, if it was one. Null: there may be. */
  get end(): InstantEnd | null {
    return this.#end;
  }

  /** For one session. Its snapshot has the instant and the kind of all. */
  snapshotProviderOf(device: string, { name, prepare }: GroupProvider): SnapshotProvider {
    const seat = this.#seatOf(device);
    return {
      name,
      hold: async (_path, options) => {
        try {
          return await this.#hold(seat, prepare, options);
        } catch (error) {
          this.leave(device, error);
          // It may have been prepared just when all was over.
          await inTime(seat.member?.release().catch(() => undefined) ?? Promise.resolve());
          await this.#triesClosed;
          throw error;
        }
      },
    };
  }

  /** Its session is over, for this reason. Nothing after the instant. */
  leave(device: string, error: unknown): void {
    const seat = this.#seatOf(device);
    if (seat.state === 'held' || seat.state === 'gone' || this.#end !== null) return;
    if (this.#leading !== null) {
      // It is among those that are led: that has to end first.
      seat.leaving ??= { error };
      this.#leading.abort();
      this.#tries?.stop();
      return;
    }
    this.#drop(seat, error);
    this.#leadIfAllWait();
  }

  async #hold(seat: Seat, prepare: GroupProvider['prepare'], options: HoldOptions): Promise<Snapshot> {
    const { signal } = options;
    for (;;) {
      const member = await this.#prepare(seat, prepare, options);
      const { passes } = member;
      if (passes !== undefined) return this.#late(seat, member, passes, signal);
      const snapshot = await this.#wait(seat, signal);
      if (snapshot !== null) return snapshot;
    }
  }

  async #prepare(seat: Seat, prepare: GroupProvider['prepare'], options: HoldOptions): Promise<Member> {
    this.#check(seat);
    const member = await prepare(options);
    try {
      this.#check(seat);
      seat.member = member;
      await this.#checkAll();
      this.#check(seat);
      return member;
    } catch (error) {
      await member.release();
      throw error;
    }
  }

  /** What can be known before hours of passes: once all are prepared. */
  async #checkAll(): Promise<void> {
    const taking = this.#taking();
    const members = taking.flatMap(({ member }) => member ?? []);
    if (members.length < taking.length) return;
    try {
      checkCanBeOne(members, this.#options.leader !== undefined);
      await planOf(this.#options.rest.freeze, members);
    } catch (error) {
      this.#endAll(error);
      throw error;
    }
  }

  /** Its errors are those of all: whether there is another try was decided for all. */
  #late(seat: Seat, member: Member, passes: Passes, signal: AbortSignal | undefined): Snapshot {
    seat.state = 'passing';
    const led = { ...passes, again: async () => false };
    return lateSnapshot(member, led, () => this.#wait(seat, signal));
  }

  #wait(seat: Seat, signal: AbortSignal | undefined): Promise<Snapshot | null> {
    const over = new AbortController();
    const waiting = new Promise<Snapshot | null>((resolve, reject) => {
      this.#check(seat);
      const cancel = (): void => this.leave(seat.device, cancelled(seat.device));
      seat.arrival = { sinceMs: performance.now(), resolve, reject };
      seat.state = 'waiting';
      signal?.addEventListener('abort', cancel, { signal: over.signal });
      if (signal?.aborted === true) cancel();
      else this.#leadIfAllWait();
    });
    return waiting.finally(() => over.abort());
  }

  #leadIfAllWait(): void {
    const taking = this.#taking();
    if (this.#end !== null || this.#leading !== null) return;
    if (taking.length === 0 || taking.some(({ state }) => state !== 'waiting')) return;
    void this.#lead(taking);
  }

  /** Does not reject: all that wait are told. One that leaves meanwhile is dropped at the end. */
  async #lead(seats: readonly Seat[]): Promise<void> {
    if (this.#tries?.isToldToClose !== true && this.#mustCatchUp(seats)) return this.#goOnPassing(seats);
    const leading = new AbortController();
    this.#leading = leading;
    const { signal } = leading;
    let led: LedTry | undefined;
    let snapshots: Snapshot[] | null = null;
    try {
      const isBehind = await this.#announce(seats, signal);
      const begun = isBehind ? 'behind' : await this.#tries?.begun(seats);
      this.#catchUps = 0;
      if (begun === 'behind') {
        this.#settle(seats);
        return this.#goOnPassing(seats);
      }
      led = begun?.led;
      snapshots = await (await this.#rested(seats, begun, signal)).take();
      await this.#announcement?.over();
    } catch (error) {
      await this.#notReached(seats, error, led);
    }
    if (snapshots !== null) await this.#give(seats, snapshots);
    this.#settle(seats);
    this.#leadIfAllWait();
  }

  /** Without other hosts it begins here. @throws why it has failed */
  async #rested(seats: readonly Seat[], begun: BegunTry | undefined, signal: AbortSignal): Promise<Instant> {
    if (begun !== undefined) {
      if (begun.instant === null) throw begun.error;
      return begun.instant;
    }
    const options = { ...this.#options.rest, keepsMembers: true, signal };
    const instant = new Instant(seats.flatMap(noting), options);
    await instant.rest();
    return instant;
  }

  /** Nothing is led any more: those that left meanwhile are gone. */
  #settle(seats: readonly Seat[]): void {
    this.#leading = null;
    for (const seat of seats) {
      const { leaving } = seat;
      seat.leaving = null;
      if (leaving !== null) this.#drop(seat, leaving.error);
    }
  }

  #mustCatchUp(seats: readonly Seat[]): boolean {
    const nowMs = performance.now();
    const isStale = ({ member, arrival }: Seat): boolean =>
      member?.passes !== undefined && nowMs - (arrival?.sinceMs ?? nowMs) > FRESH_MS;
    if (this.#catchUps === CATCH_UPS_MAX || !seats.some(isStale)) return false;
    this.#catchUps += 1;
    return true;
  }

  /** Once. @returns whether late ones have fallen behind by it */
  async #announce(seats: readonly Seat[], signal: AbortSignal): Promise<boolean> {
    const members = seats.flatMap(({ member }) => member ?? []);
    if (this.#announcement === undefined) {
      const paths = members.map(({ path }) => path).join(', ');
      this.#announcement = announcementOf(paths, members, this.#options.rest);
    }
    if (this.#announcement?.isUntold !== true) return false;
    try {
      await this.#announcement.before(signal);
    } catch (error) {
      // Nothing that was not announced is taken, however often it is tried.
      if (!signal.aborted) this.#endAll(error);
      throw error;
    }
    return members.some(({ passes }) => passes !== undefined);
  }

  /** The late ones do; the others stay as they are. */
  #goOnPassing(seats: readonly Seat[]): void {
    for (const seat of seats)
      if (seat.state === 'waiting' && seat.member?.passes !== undefined) tell(seat, 'passing', null);
    // If the late ones are gone, nobody else comes.
    this.#leadIfAllWait();
  }

  async #give(seats: readonly Seat[], snapshots: readonly Snapshot[]): Promise<void> {
    const isOne = snapshots.length === 1 && this.#options.leader === undefined;
    const told = { warnings: this.#announcement?.warnings ?? [] };
    const isFor = (seat: Seat): boolean =>
      seat.leaving === null &&
      (this.#options.missing === 'leave-out' || seats.every(({ leaving }) => leaving === null));
    const given = seats.map(isFor);
    for (const [index, seat] of seats.entries()) {
      const snapshot = snapshots[index];
      if (snapshot === undefined) throw new Error('each member has a snapshot');
      if (given[index] === true)
        tell(seat, 'held', withWarnings(told, inGroup(snapshot, seat.member?.path ?? '', isOne)));
      else await inTime(snapshot.release().catch(() => undefined));
    }
  }

  async #notReached(seats: readonly Seat[], failure: unknown, led?: LedTry): Promise<void> {
    const isLeaveOut = this.#options.missing === 'leave-out';
    const left = seats.find(({ leaving }) => leaving !== null);
    const error = left === undefined ? failure : hasLeft(left.device);
    const isOver = this.#end !== null || (left !== undefined && !isLeaveOut);
    const others = seats.filter(({ leaving }) => leaving === null);
    const mayRepeat = left !== undefined || (led !== undefined && isTemporary(error) && !isOfHook(error));
    const isTooOften = led !== undefined && this.#tries?.missed(error) === true;
    const isAgain = !isOver && !isTooOften && (await this.#again(others, error, mayRepeat));
    led?.missed(error, isAgain);
    if (isOver) return;
    if (isAgain) return this.#tryAgain(others);
    const failed = others.filter((seat) => seat.failure !== null);
    const [first] = failed;
    if (!isLeaveOut || left !== undefined || first === undefined || failed.length > 1)
      return this.#endAll(error);
    // The others go on without it.
    first.leaving = { error };
    return this.#notReached(seats, error);
  }

  async #tryAgain(seats: readonly Seat[]): Promise<void> {
    for (const seat of seats) {
      const { member } = seat;
      if (member === null || seat.leaving !== null) continue;
      if (member.passes !== undefined) {
        tell(seat, 'passing', null);
        continue;
      }
      await inTime(member.release().catch(() => undefined));
      if (seat.leaving !== null) continue;
      seat.member = null;
      tell(seat, 'preparing', null);
    }
  }

  /** Whether all late ones say so. @param mayRepeat another try may do better also without late ones */
  async #again(seats: readonly Seat[], error: unknown, mayRepeat: boolean): Promise<boolean> {
    const late = seats.flatMap(({ member }) => member?.passes ?? []);
    if (seats.length === 0 || (late.length === 0 && !mayRepeat)) return false;
    for (const passes of late) if (!(await passes.again(error))) return false;
    return true;
  }

  /** It is the end for the others, too, unless they go on without it. */
  #drop(seat: Seat, error: unknown): void {
    if (seat.state === 'gone') return;
    leave(seat, error);
    if (this.#options.missing === 'fail' || this.#taking().length === 0)
      this.#endAll(groupFailed(this.#options.rest.name, seat.device, error));
  }

  #endAll(error: unknown): void {
    if (this.#end !== null) return;
    const failed = [...this.#seats.values()].filter((seat) => seat.failure === error);
    this.#end = { error, device: failed.length === 1 ? (failed[0]?.device ?? null) : null };
    for (const seat of this.#seats.values()) if (seat.state === 'waiting') leave(seat, error);
    this.#triesClosed = this.#tries?.close(error) ?? null;
    void this.#announcement?.failed();
  }

  /** @throws what was the end of it */
  #check({ device, state }: Seat): void {
    if (this.#end !== null) throw this.#end.error;
    if (state === 'gone' || state === 'held')
      throw new Error(`${device}: it is ${state}, and asks for a snapshot`);
  }

  #taking(): Seat[] {
    return [...this.#seats.values()].filter(({ state }) => state !== 'gone');
  }

  #seatOf(device: string): Seat {
    const seat = this.#seats.get(device);
    if (seat === undefined) throw new Error(`${device} is not in the group`);
    return seat;
  }
}

/** It would fail again, and so would the hooks of other hosts have to run again. */
function isOfHook(error: unknown): boolean {
  return isStillpointError(error, 'hook');
}

function cancelled(device: string): StillpointError {
  return new StillpointError('cancelled', { thing: device, reason: 'it was cancelled' });
}
