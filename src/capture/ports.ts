/**
 * The ports of capture (docs/design.md sections 4 and 8): where the static view of an instant comes from, and
 * which blocks differ in it.
 *
 * A session asks a `SnapshotProvider` for a readable instant, and knows nothing else. Below, a `Provider` is
 * an entry of the list (choice/list.ts) that is asked whether it can take a device, and prepares a `Member`:
 * its part in one instant. instant.ts leads the instant, for one member or many: prepare all, bring to rest,
 * close all, cut all, let go. A member does as it is told:
 *
 * | state    | close                 | open         | cut                | view           | release      |
 * |----------|-----------------------|--------------|--------------------|----------------|--------------|
 * | prepared | writes in flight have | nothing      | refused            | refused        | → released   |
 * |          | ended, no new one     |              |                    |                |              |
 * |          | gets in → closed; not |              |                    |                |              |
 * |          | in time: refused      |              |                    |                |              |
 * | closed   | → closed, with the    | writes go on | the instant, then  | refused        | writes go on |
 * |          | new limits            | → prepared   | writes go on → cut |                | → released   |
 * | … at its | writes go on → prepared, by itself: the closer may be dead, stopped or far away           |
 * | limit |                                                                                              |
 * | cut      | refused               | nothing      | refused            | the snapshot,  | → released   |
 * |          |                       |              |                    | which releases |              |
 * | released | refused               | nothing      | refused            | refused        | nothing      |
 *
 * "Refused" is an error and leaves the state as it was. All slow work is done in `prepare` (locks, probing,
 * room for originals) or in `view`.
 *
 * Members give one instant if none is cut before all are closed: each is cut in the same closed time or not
 * at all, so it holds what it held at the moment when the last one had closed. Therefore a member may let
 * writes go on right after its own cut: the members that are not cut yet are still closed, and a program that
 * waits for them wrote after that moment. This also holds over several hosts, without clocks.
 *
 * A member without a gate of its own (`barrier: 'freeze'`) closes at once; the freeze around it keeps writes
 * out. Its `cut` may take as long as the freeze: copying the rest (live), a clone (reflink).
 *
 * A member that freezes in its cut (`barrier: 'cut'`: lvm) is one that must not be frozen around, and it
 * can't be closed before: its instant is a moment T of its own. With exactly one of them T is the instant of
 * all: the others close before its cut begins, and are cut when it has ended, in the same closed time. What
 * was answered of the others was answered before they had closed, so before T, or after their cuts; what they
 * hold at T they hold at their cuts. If a write to it was answered and another one was issued then, to one of
 * the others, and that cut holds it, then it was there before T, and so was the first. If a write to another
 * one was answered first, then either before that had closed, and its cut holds it; or after that cut, which
 * is after T, and then the snapshot does not hold the write that came later. One that takes longer than the
 * others may be closed fails the instant. Two of them have two moments, and are refused.
 */

import { StillpointError } from '../domain/base/errors.js';
import type { BlockRange } from '../domain/blocks/block-ranges.js';
import type { JournalPosition } from '../domain/journal/journal.js';
import type { ConsistencyKind, DeviceIdentity, ProviderFacts } from '../domain/point/point.js';
import type { Device } from '../native/index.js';
import type { Cutting } from './quiesce/rest.js';

export interface HoldOptions {
  /** 32 hex digits: the session, and the id of the point that it may become. */
  readonly sessionId: string;
  /**
   * The last point, where changes since then would do: of the same block size. Null: the
   * session reads everything.
   */
  readonly basePointId: string | null;
  /** Read everything, whatever is known of changes. */
  readonly full: boolean;
  /**
   * Why what is known of changes is not to be believed before the next commit, a clause; null:
   * nothing speaks against it.
   */
  readonly doubt: string | null;
  /** Of the session, in bytes. */
  readonly blockSize: number;
  /** Asked for by name: go on without a single instant, and label the point `fuzzy`. */
  readonly fuzzy: boolean;
  /** False: no point is made of it, whatever becomes of the session. */
  readonly commits?: boolean | undefined;
  /** What a freeze may take, where the user says so. */
  readonly freezeDeadlineMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Conclusion {
  readonly kind: ConsistencyKind;
  readonly warnings: readonly string[];
  /** How it came to the instant. They go into the point. */
  readonly facts?: ProviderFacts | undefined;
  /** Of a late snapshot. */
  readonly instant?: Date | undefined;
  /** Of a tap with a journal: where the instant is in it. */
  readonly journal?: JournalPosition | undefined;
  /**
   * A clause: why nothing proves that it was one instant. A second reading must find the same
   * then, or it has changed.
   */
  readonly unproven?: string | undefined;
}

/** @param change what follows "it" */
export function changedError(path: string, change: string): StillpointError {
  return new StillpointError('device-changed', {
    thing: path,
    reason: `it ${change}; there is no single instant that could become a point`,
    remedy: 'Stop what changes it and back it up again.',
    permanent: false,
  });
}

/** A readable instant of a device. */
export interface Snapshot {
  /** Static until `release`, as far as `conclude` confirms it. Of a late one: it changes. */
  readonly device: Device;
  readonly identity: DeviceIdentity;
  /** Of a late one: when it was prepared. `conclude` has the instant then. */
  readonly instant: Date;
  /**
   * The snapshot is late: what differs is read and shipped in passes while the device changes, and then the
   * instant is taken. Nothing that is read before that proves anything by itself.
   */
  readonly passes?: LatePasses | undefined;
  /** The best that the point can become. */
  readonly kind: ConsistencyKind;
  readonly warnings: readonly string[];
  /**
   * Of a view that outlives its process: facts of the instant, taken before the first read. A later view with
   * the same text is the same one, without a change at any time between, and what was read of either belongs
   * to both. Such a provider ties nothing to the session id. Undefined: nobody can tell.
   */
  readonly continuity?: string | undefined;
  /** Of a provider that knows what changes. */
  readonly tracking?: Tracking | undefined;
  /**
   * After a read has failed: why the view is gone, if it is; else null, and the device itself is at fault.
   */
  lost?(): Promise<StillpointError | null>;
  /**
   * After the last read, before the commit: what the view was really worth.
   * @throws StillpointError `device-changed` where it was no single instant, unless fuzzy was asked for.
   */
  conclude(): Promise<Conclusion>;
  /**
   * Before a second reading: what is read from now on is answered by the device, not by pages cached on this
   * host. Undefined: it always is.
   */
  freshen?(): Promise<void>;
  /** Frees all that was acquired, in reverse order. Harmless a second time. */
  release(): Promise<void>;
}

/** Where snapshots of a device come from. */
export interface SnapshotProvider {
  /** Stored with the point: `offline`, `tap`, ... */
  readonly name: string;
  /**
   * Quiesces the device and holds an instant of it.
   * @throws StillpointError `device-not-found`, `device-in-use`, `device-io`, `device-changed`
   */
  hold(path: string, options: HoldOptions): Promise<Snapshot>;
}

export interface ProbeRequest {
  readonly path: string;
  /** Null: there is none yet. */
  readonly stateDirectory: string | null;
  /** As in `HoldOptions`. */
  readonly fuzzy: boolean;
  /** The user asks for this provider, and accepts what it costs. */
  readonly isNamed?: boolean | undefined;
  /** For people who look: it may take a second, and its cost is that of the present load. Default false. */
  readonly isForPeople?: boolean | undefined;
}

/** What a provider gives, or would give: for people who choose. */
export interface ProviderGain {
  /** What an instant of it can be worth, best first. */
  readonly kinds: readonly ConsistencyKind[];
  /** Where what changed since the last point comes from, a clause. */
  readonly changes: string;
  /** A clause. */
  readonly cost: string;
}

/**
 * A provider's answer to the question whether it can take a device now. Nothing is held, and
 * nothing changed, by asking.
 */
export type Probe = ProviderGain & {
  /** Other paths that show the same content, as /dev/nbd0 that a tap is attached as. */
  readonly seenAs: readonly string[];
} & (
    | {
        readonly possible: true;
        /** A clause. */
        readonly reason: string;
        /**
         * All that takes time.
         * @throws StillpointError `device-in-use`, `device-io`, `device-changed`, `session-busy`, `cancelled`
         */
        prepare(options: HoldOptions): Promise<Member>;
      }
    | {
        readonly possible: false;
        /** What is thrown at who asked for this provider by name: the reason, and the remedy. */
        readonly refusal: StillpointError;
        /**
         * It was made ready for this device by the user, who hears of it when another one takes its place.
         */
        readonly isSetUp: boolean;
      }
  );

/** An entry of the list of providers (src/capture/choice/list.ts). */
export interface Provider {
  readonly name: string;
  /**
   * It takes instants of a device that others write to: hooks, freezing and waiting for
   * quiet make sense with it.
   */
  readonly takesDevicesInUse: boolean;
  /** Its cut freezes what can be frozen: nothing is to be named for that. */
  readonly freezesItself?: boolean;
  /** @throws StillpointError `device-not-found`, `device-io`, `config`: nobody could take it */
  probe(request: ProbeRequest): Promise<Probe>;
}

/** How long a member may keep writes out, from when it begins to. Each of its own hosts keeps the limit. */
export interface GateLimits {
  readonly closedMs: number;
}

/**
 * A provider's part in one instant. Calls come one after the other; a signal of `prepare` that is
 * aborted ends those that wait. `release` comes also while another one is still at work, which its caller
 * does not wait for any longer: what that one gets afterwards is released again.
 */
export interface Member {
  /** As its user names it. */
  readonly path: string;
  /**
   * Where it and its content are found, for freezing what lies on it. Empty: nobody writes
   * to it, nothing is frozen.
   */
  readonly shownAt: readonly string[];
  /**
   * What keeps writes out from `close` to the instant: a gate of its own, the freeze, nothing, because nobody
   * writes; or nothing before `cut`, which freezes by itself and says in its kind what that was worth.
   */
  readonly barrier: 'gate' | 'freeze' | 'unused' | 'cut';
  /** Its `cut` writes there: the file system must not be frozen. Undefined: it writes to none. */
  readonly writesBeside?: string | undefined;
  /** Of a provider that copies in passes: what can be read before the instant. It changes meanwhile. */
  readonly passes?: Passes | undefined;
  /** Of a member that reads the rest while everybody waits. Its `cut` has it done. */
  readonly cutting?: Cutting | undefined;
  /** How long `cut` may take, if that keeps nobody from writing for as long. Default: as a freeze. */
  readonly cutMs?: number | undefined;
  /**
   * How long, in ms, nothing has certainly been written. Undefined: it does not know; the
   * kernel's counters are asked.
   */
  quietMs?(): Promise<number>;
  /**
   * @returns as `quietMs`, of the moment in which it had closed; null: it does not know.
   * @throws StillpointError `device-changed`
   */
  close(limits: GateLimits): Promise<number | null>;
  open(): Promise<void>;
  /** @throws StillpointError `device-changed`: it was not closed any more */
  cut(standstill?: Standstill): Promise<Cut>;
  /**
   * What was prepared is given back; nothing is closed after it. Not after `view`, whose snapshot has
   * it. Harmless a second time.
   */
  release(): Promise<void>;
}

/**
 * Of a member that copies in passes: what can be read before the instant, while the member is `prepared`.
 * What a pass ships is overtaken by what a later one ships, and by what is left at the instant.
 */
export interface Passes {
  /** The device as it is: it changes while it is read. */
  readonly device: Device;
  readonly identity: DeviceIdentity;
  readonly warnings: readonly string[];
  /** What is known before the instant. `changes` null: everything may differ from the base point. */
  readonly tracking: Tracking;
  /**
   * What is to be shipped next, ascending, apart; of the first call all that may differ from the base point
   * (unless it is little enough to be held in memory). What is written after a call is told by a later one,
   * or is left at the instant: so a block may come again, and what is sent last counts.
   * Null: what is left can be held in memory and read while everybody waits; the instant can be taken. It
   * stays left, also if the instant is never taken, or if this is called again.
   */
  next(): Promise<readonly BlockRange[] | null>;
  /**
   * An instant was not reached. True: another try after more passes may reach it, and the member is
   * `prepared` again. It is not asked after a cancellation, nor once the member is released.
   */
  again(error: unknown): Promise<boolean>;
}

/**
 * Of a *late* snapshot, whose instant comes when most of the device was read already. Its other calls are for
 * what was taken; `conclude`, and to count changes from it on, is refused before.
 *
 * | state    | next                 | take                           | release                   |
 * |----------|----------------------|--------------------------------|---------------------------|
 * | passing  | what to read of      | what is left → taken;          | that of the member        |
 * |          | `Snapshot.device`    | not reached: null, or an error | → released                |
 * | taken    | refused              | refused                        | that of the view → released |
 * | released | refused              | refused                        | nothing                   |
 */
export interface LatePasses {
  /** As that of `Passes`. */
  next(): Promise<readonly BlockRange[] | null>;
  /**
   * Leads the instant.
   * @returns null: it was not reached; go on with `next`. Otherwise the static view of what is left to read:
   * its `tracking.changes` names these blocks (never null), and the sample: blocks that must be as they were
   * shipped last, or else as in the base point. Nothing else of it can be read, and nothing a second time,
   * so its `conclude` never calls it unproven. That of the late snapshot has its instant, and its warnings.
   */
  take(): Promise<Snapshot | null>;
}

/** Everybody waits: what can be done now. */
export interface Standstill {
  /**
   * Of the members with `cutting`: all at once, on the first call. What has become of each it finds out
   * itself.
   */
  takeCuts(): Promise<void>;
}

/** The instant of a member. */
export interface Cut {
  readonly instant: Date;
  /** What the member itself vouches for; null: for what it was brought to. */
  readonly kind: ConsistencyKind | null;
  /** How long nobody could write; null: it closes nothing. */
  readonly closedMs: number | null;
  /**
   * Once, after everybody may write again. If it fails, the member is released. @param kind of the instant
   */
  view(kind: ConsistencyKind): Promise<Snapshot>;
}

export interface Tracking {
  /** Null: what differs from the base point is not known, and the session reads everything. */
  readonly changes: TrackedChanges | null;
  /** A clause: why it is known, or not. */
  readonly reason: string;
  /** It knows of all changes since that point. */
  knows(pointId: string): boolean;
  /** The session was committed: changes count from its instant on. The view is gone then. */
  committed(): Promise<void>;
  /**
   * The view was compared with a committed point, and these blocks differ: changes count from that point
   * on. The view is gone then.
   * @param complete all of the device was compared; else the tracker must know the point already
   */
  adopt(pointId: string, ranges: readonly BlockRange[], complete: boolean): Promise<void>;
}

/**
 * What a tracker knows of the difference between the base point and the snapshot. Only these blocks
 * and the sample can be read.
 */
export interface TrackedChanges {
  /** Every block that may differ: too many, never too few. Ascending, apart. */
  readonly ranges: readonly BlockRange[];
  /** Blocks that should not differ, outside of the ranges: read to check the tracker. */
  readonly sample: readonly number[];
}
