/**
 * What the receiver needs from the store: values, which src/protocol turns into messages.
 * test/conformance/store/sessions.ts says what each implementation must do. Faults are injected below it, in
 * Disk and ObjectStore.
 */
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { Geometry } from '../../domain/blocks/geometry.js';
import type { GroupCommit } from '../../domain/point/group.js';
import type { DeviceIdentity, Point, RemovedPoint } from '../../domain/point/point.js';
import type { ClockJudgement } from '../../domain/retention/clock.js';
import type { RetentionSettings } from '../../domain/retention/settings.js';
import type {
  CheckEvent,
  CheckOptions,
  CommitRequest,
  DiffEvent,
  NodeRequest,
  PartialSet,
  VerifyEvent,
} from '../../domain/session/messages.js';
import type { Digester, StoredBlocks } from '../../native/index.js';
import type { Journals } from './journals.js';
import type { DeviceKey, PointsKey } from './keys.js';
import type { Upkeep } from './upkeep.js';

export type { RemovedPoint } from '../../domain/point/point.js';
export type { StoredBlocks } from '../../native/index.js';
export type { DeviceKey, PointsKey } from './keys.js';

/**
 * All that a session needs to be resumed after a restart; written once, when the capture is made. Its
 * instant comes with its commit.
 */
export interface CaptureDescription extends DeviceKey {
  readonly sessionId: string;
  readonly geometry: Geometry;
  readonly identity: DeviceIdentity;
  /** The point that the session's blocks are a difference to; null: the empty tree. */
  readonly basePointId: string | null;
  /** By the receiver's clock; the store enters it. */
  readonly begunAt?: string;
}

/**
 * The capture buffer of one open session: durable, invisible until commit. Calls on one capture are
 * serialized by its own queue.
 */
export interface Capture {
  readonly description: CaptureDescription;
  /** All batches up to this number are durable. */
  readonly durableSequence: number;
  /**
   * Another process of the agent takes over: batches of the former one that are whole become durable,
   * what waits for one that did not come is refused. `durableBlockEnd` is one more than the highest block
   * index of a durable batch.
   */
  resume(): Promise<{ readonly durableSequence: number; readonly durableBlockEnd: number }>;
  /**
   * Verifies natively, spools, resolves when durable (group commit). A number <= durable again is answered,
   * not stored twice. A block may come in several batches: the highest number has it.
   */
  append(sequence: number, body: Uint8Array): Promise<{ durableSequence: number }>;
  /**
   * Which of the digests (by position) are in this session, or held for the device.
   * @param digests n * 32 bytes
   */
  have(digests: Uint8Array): Promise<ReadonlySet<number>>;
  /**
   * docs/format.md, ordering invariants. Idempotent: after a crash in the middle it may be called again. If
   * an earlier call made the point after all, that point is the answer, whatever is asked for now.
   */
  commit(request: CommitRequest): Promise<Point>;
  abort(): Promise<void>;
}

/** One of several captures that are committed at once. */
export interface TogetherCommit {
  readonly capture: Capture;
  readonly request: CommitRequest;
}

/** What is set about the retention of points, and the clock that it goes by. It is kept in the store. */
export interface StoreRetention {
  /** @throws StillpointError `store-damaged` while they are lost */
  readonly settings: RetentionSettings;
  /** Why the settings are lost, a clause; null: they are not. */
  readonly fault: string | null;
  /** At this moment. */
  clock(): ClockJudgement;
  /** The same, and remembers it if it is believed. */
  noteClock(): Promise<ClockJudgement>;
  /**
   * One change after the other; durable when it resolves. @returns the new settings
   * @throws what `make` throws, and as `settings`
   */
  change(
    make: (settings: RetentionSettings, clock: ClockJudgement) => RetentionSettings,
  ): Promise<RetentionSettings>;
  /** Begins anew with no settings, if they are lost. @throws StillpointError `usage` if they are not */
  reset(): Promise<void>;
  /** The operator says that the clock is right now. */
  confirmClock(): Promise<void>;
}

export interface VerifyScope {
  readonly agent?: string;
  readonly device?: string;
  readonly pointId?: string;
}

/** As far as is known. */
export interface DamagedPoint {
  readonly point: Point;
  readonly blockCount: number;
  readonly byteCount: number;
}

export interface CollectOptions {
  /** Also if nothing is known to have become free. */
  readonly force?: boolean;
  /** Only say what would be freed. */
  readonly dryRun?: boolean;
  /** Called with the bytes that were read or written; the collection goes on when it resolves. */
  readonly pace?: (bytes: number) => Promise<void>;
}

export interface CollectReport {
  /** `put-off`: it ended early, for `reason`. */
  readonly state: 'not-needed' | 'done' | 'put-off';
  readonly reason: string | null;
  /** Before. */
  readonly packCount: number;
  readonly storedBytes: number;
  /** Of them, needed by nobody. */
  readonly deadBytes: number;
  /** What goes when packs are removed, and rewritten where that is worth it. */
  readonly freeableBytes: number;
  readonly removedPacks: number;
  /** Of the removed ones, those of which something was needed and is in other packs now. */
  readonly rewrittenPacks: number;
  /** Less what was written. */
  readonly freedBytes: number;
  /**
   * Packs that stay for now, although they have what nobody needs: a session relies on them, or there was no
   * room to write anew what is needed. Those that may have remains of a lost record are not among them.
   */
  readonly keptPacks: number;
  readonly durationMs: number;
}

export const NOTHING_COLLECTED: CollectReport = {
  ...{ state: 'not-needed', reason: null, packCount: 0, storedBytes: 0, deadBytes: 0, freeableBytes: 0 },
  ...{ removedPacks: 0, rewrittenPacks: 0, freedBytes: 0, keptPacks: 0, durationMs: 0 },
};

export interface Store {
  readonly storeId: string;
  /** With which the digests of its points are made. */
  readonly digester: Digester;
  readonly retention: StoreRetention;
  readonly journals: Journals;
  points(key: PointsKey): Promise<Point[]>;
  /** Null if there is none, or it is not the agent's. @param agent null: any */
  point(agent: string | null, pointId: string): Promise<Point | null>;
  /**
   * The point that the device's next session is a difference to: its last one. Null if there is none, or if
   * the store knows that it lost a part of that one: a session from the empty tree then sends only what is
   * not held (`have`), and so heals it.
   */
  baseFor(key: DeviceKey): Promise<Point | null>;
  /** Names that an agent's devices had here, for as long as the store remembers them: they are bounded. */
  deviceNames(agent: string): string[];
  /** Open sessions, found again after a restart. */
  captures(): readonly Capture[];
  /**
   * Sessions without a point, open and ended, whose blocks are kept: by device, then by their last activity.
   */
  partialSets(key: PointsKey): Promise<PartialSet[]>;
  /** Of open sessions, those that nobody went on with for as long as partial sets are kept. */
  expiredCaptures(): readonly Capture[];
  /**
   * Frees what nobody needs: what removed points and ended sessions left, as far as no other point, open
   * session or partial set needs it. Does nothing if none of those went since the last time. Does not reject:
   * what can't be done now is done later, and the report says why.
   */
  collect(options?: CollectOptions): Promise<CollectReport>;
  /** Why the point can't be removed at this moment, a clause; null: nothing uses it. */
  useOf(point: Point): string | null;
  /**
   * @param points one point; or all of a group point
   * @throws StillpointError as `removePoint`, or `removeTogether`, would at this moment
   */
  checkRemoval(...points: readonly Point[]): void;
  /**
   * Removes a point for good. Nobody sees it any more when this resolves, also after a crash; its sequence is
   * not used again. What only it needs is freed by a collection.
   * @param why a clause, which its mark keeps
   * @throws StillpointError `session-busy` while something uses it; `point-protected` for the last point of a
   * device, which the next backup builds on, and for one that is pinned or younger than the minimum age;
   * `store-damaged` while nobody knows whether it is; `point-unknown`
   */
  removePoint(point: Point, why: string): Promise<void>;
  /**
   * Removes all points of a device, the last one last. @returns those that it removed
   * @throws StillpointError as `removePoint`; then none is removed, unless the disk failed in between
   */
  removeDevice(key: DeviceKey, why: string): Promise<Point[]>;
  /**
   * Removes all points of a group point, all at once: nobody ever sees a part of it. Otherwise as
   * `removePoint`, which refuses a point of a group.
   */
  removeTogether(points: readonly Point[], why: string): Promise<void>;
  /** What is known of a point that was removed under this sequence; null: nothing says so. */
  removedPoint(key: DeviceKey, sequence: number): Promise<RemovedPoint | null>;
  /**
   * `session-busy` while the device has an open capture; `session-closed` if the id is a
   * point's; `base-mismatch`.
   */
  createCapture(description: CaptureDescription): Promise<Capture>;
  /**
   * Makes points of all captures, all at once, or of none: nobody ever sees a part of them.
   * @param group what each point says of it; the store numbers it
   * @returns by place: all fulfilled, or all rejected: one at least with its own error, others with
   * `group-failed`. What happens then is said at `Capture.commit`
   * @throws StillpointError `session-unknown`; `group-failed`: some are points already, of an earlier try
   */
  commitTogether(
    commits: readonly TogetherCommit[],
    group: GroupCommit,
  ): Promise<readonly PromiseSettledResult<Point>[]>;
  /**
   * Contents of nodes of the point's tree, proven; without their last NULL digests, and
   * so empty for a NULL node.
   */
  nodes(point: Point, requests: readonly NodeRequest[]): Promise<Buffer[]>;
  /**
   * Lends blocks as they are stored: of an ascending request the longest prefix that one answer may hold, at
   * least one block. Who takes them must prove them. If `take` rejects for damage in them it is called again,
   * with other copies; where there are none `store-damaged` says which block is lost. The bytes are the
   * store's again when the promise of `take` is settled.
   */
  blocks<T>(
    point: Point,
    blockIndexes: readonly number[],
    take: (blocks: StoredBlocks) => Promise<T>,
  ): Promise<T>;
  verify(scope: VerifyScope): AsyncIterable<VerifyEvent>;
  /** Null: it was not opened to be written to. */
  readonly upkeep: Upkeep | null;
  /**
   * Points that need something that is known to be damaged, and has no other copy. By device, then sequence.
   * Nothing is read back for it.
   */
  pointDamage(key: PointsKey): Promise<DamagedPoint[]>;
  /**
   * Re-reads and re-digests the point's tree and blocks in these ranges: which of them the store can't give.
   * With `known` blocks are not read: only what is known to be damaged is told.
   * @param ranges ascending, apart, inside the point
   */
  check(point: Point, ranges: readonly BlockRange[], options?: CheckOptions): AsyncIterable<CheckEvent>;
  /** What differs between two points of one block size. */
  diff(from: Point, to: Point): AsyncIterable<DiffEvent>;
  /**
   * @throws StillpointError `session-busy` while one of the two has an open session; `bad-name` if a sequence
   * of one of its points was used under the other name
   */
  checkRename(from: string, to: string): Promise<void>;
  /**
   * Everything of an agent is of another name from now on. May be done again after it died or failed
   * anywhere.
   * Meanwhile no point of the two is removed.
   * @throws StillpointError as `checkRename`
   */
  renameAgent(from: string, to: string): Promise<void>;
  /** Waits for work in flight, closes the index, releases the lock. */
  close(): Promise<void>;
}
