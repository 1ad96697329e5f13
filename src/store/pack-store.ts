/**
 * The store: packs and manifests, which are the truth; an index, which is a cache; captures of open sessions.
 *
 * Which calls wait for which:
 *
 * |                   | append          | have   | commit | abort  | nodes,       | verify, | close |
 * |                   |                 |        |        |        | blocks, diff | check   |       |
 * |-------------------|-----------------|--------|--------|--------|--------------|---------|-------|
 * | of the same       | decodes beside, | beside | after  | after  | -            | its log | waits |
 * | capture           | written in      |        | each   | each   |              | check   |       |
 * |                   | order           |        | other  | other  |              | waits   |       |
 * | of other captures | beside          | beside | beside | beside | -            | beside  | waits |
 * | readers of points | beside          | beside | beside | beside | beside       | beside  | waits |
 * | a removal of a    | beside          | beside | beside | beside | beside: it   | beside  | waits |
 * | point             |                 |        |        |        | is refused   |         |       |
 *
 * A collection (collector.ts) goes on beside all of them; a step of a verification or scrub, at most one
 * pack, and the removal of packs wait for each other.
 *
 * Immutable packs and manifests need no locks: readers see a point from the moment its manifest is durable. A
 * device has at most one capture, so commits of one device can't meet. Only one process writes to the store
 * (flock).
 */
import { join } from 'node:path';
import { StillpointError } from '../domain/base/errors.js';
import { LOCAL_AGENT } from '../domain/base/names.js';
import type { BlockRange } from '../domain/blocks/block-ranges.js';
import type { GroupCommit } from '../domain/point/group.js';
import { type Point, pointLabel, treeOf } from '../domain/point/point.js';
import { pointName } from '../domain/point/point-ref.js';
import type {
  CheckEvent,
  CheckOptions,
  DiffEvent,
  NodeRequest,
  PartialSet,
  VerifyEvent,
} from '../domain/session/messages.js';
import type { Digester } from '../native/index.js';
import { StoreCapture } from './capture/capture.js';
import { firstLostPart } from './capture/commit.js';
import type { StoreContext } from './capture/context.js';
import { checkNewCapture } from './capture/new-capture.js';
import { CaptureStaging } from './capture/staging.js';
import { commitTogether } from './capture/together.js';
import { Collector } from './collect/collector.js';
import type { StoreLock } from './disk/lock.js';
import type { Paced } from './disk/paced.js';
import type { StoreJournals } from './journals/journals.js';
import { checkNameClash } from './objects/name-clash.js';
import { PointUse } from './points/point-use.js';
import { readMark } from './points/removal.js';
import { PointRemover } from './points/remover.js';
import { checkMarks, renameAgent } from './points/rename.js';
import type {
  Capture,
  CaptureDescription,
  CollectOptions,
  CollectReport,
  DamagedPoint,
  DeviceKey,
  PointsKey,
  RemovedPoint,
  Store,
  StoredBlocks,
  TogetherCommit,
  VerifyScope,
} from './port/store.js';
import { PointAccess } from './reading/point-access.js';
import type { BadPlace, GoodPlace } from './reading/reading-index.js';
import { checkStoreFiles } from './reading/store-file.js';
import type { Retention } from './retention/retention.js';
import { type RepairFinding, repairManifests, type StoreRepair } from './upkeep/repair.js';
import type { ScrubBook } from './upkeep/scrub-book.js';
import { StoreUpkeep } from './upkeep/store-upkeep.js';

/** After the last message of a session or request for blocks, the store is still in use for so long. */
const BUSY_MS = 5_000;

export class LocalStore implements Store {
  readonly storeId: string;
  readonly digester: Digester;
  readonly retention: Retention;
  readonly journals: StoreJournals;
  readonly #context: StoreContext;
  readonly #lock: StoreLock;
  readonly #captures = new Map<string, StoreCapture>();
  /** By device: captures that are being made. */
  readonly #creating = new Map<string, CaptureDescription>();
  readonly #use = new PointUse();
  readonly #remover: PointRemover;
  readonly #access: PointAccess;
  readonly #collector: Collector;
  readonly upkeep: StoreUpkeep;
  readonly #stop = new AbortController();
  #readAtMs = Number.NEGATIVE_INFINITY;
  #closing: Promise<void> | null = null;

  constructor(
    storeId: string,
    context: StoreContext,
    retention: Retention,
    journals: StoreJournals,
    lock: StoreLock,
    book: ScrubBook,
  ) {
    this.storeId = storeId;
    this.journals = journals;
    this.digester = context.digester;
    this.retention = retention;
    this.#context = context;
    this.#lock = lock;
    const checkOthers = (paced: Paced) => this.#checkOtherFiles(paced);
    this.#access = new PointAccess({
      ...{ ...context, checkOthers },
      onChecked: (packId) => book.checked(packId),
      damagedPoints: () => this.upkeep.damagedPoints(),
    });
    this.#remover = new PointRemover({
      ...{ context, use: this.#use },
      guard: (point, ofDevice) => retention.check(point, ofDevice),
      openCaptures: () => this.#openCaptures(),
    });
    this.#collector = new Collector({
      context,
      captures: () => [...this.#captures.values()],
      isStopped: () => this.#closing !== null,
    });
    this.upkeep = new StoreUpkeep({
      ...{ ...context, book, checkOthers, closing: this.#stop.signal },
      withoutRemoval: (work) => this.#collector.withoutRemoval(work),
      isBusy: () => this.#isBusy(),
      run: (step) => this.#access.run(`store ${context.dir}`, step),
    });
  }

  /** A session sends, or points are being read. */
  #isBusy(): boolean {
    if (performance.now() - this.#readAtMs < BUSY_MS) return true;
    const since = this.#context.now().getTime() - BUSY_MS;
    return [...this.#captures.values()].some(({ lastActivityAt }) => lastActivityAt.getTime() > since);
  }

  /** @param staging null: it can't be recovered now, and is tried again when it is used */
  addCapture(description: CaptureDescription, staging: CaptureStaging | null): StoreCapture {
    const { sessionId } = description;
    const capture = new StoreCapture(this.#context, description, staging, (cleaning) => {
      this.#captures.delete(sessionId);
      void this.#access.waitFor(cleaning);
    });
    this.#captures.set(sessionId, capture);
    return capture;
  }

  points(key: PointsKey): Promise<Point[]> {
    return this.#access.points(key);
  }

  point(agent: string | null, pointId: string): Promise<Point | null> {
    return this.#access.point(agent, pointId);
  }

  async baseFor(key: DeviceKey): Promise<Point | null> {
    const { catalog, index } = this.#context;
    const last = catalog.ofDevice(key).at(-1) ?? null;
    if (last === null || !index.hasUnhealed()) return last;
    const lost = await this.#access.run(`device ${key.device}`, () =>
      firstLostPart(this.#context, treeOf(last)),
    );
    return lost === null ? last : null;
  }

  deviceNames(agent: string): string[] {
    return this.#context.index.deviceNames(agent);
  }

  captures(): readonly Capture[] {
    return [...this.#captures.values()];
  }

  async partialSets(key: PointsKey): Promise<PartialSet[]> {
    return this.#context.partials.list(key, [...this.#captures.values()]);
  }

  expiredCaptures(): readonly Capture[] {
    const { partials, now } = this.#context;
    const before = now().getTime() - partials.keepMs;
    return [...this.#captures.values()].filter(({ lastActivityAt }) => lastActivityAt.getTime() <= before);
  }

  collect(options?: CollectOptions): Promise<CollectReport> {
    return this.#access.run(`store ${this.#context.dir}`, () => this.#collector.collect(options));
  }

  createCapture(description: CaptureDescription): Promise<Capture> {
    return this.#access.run(`session ${description.sessionId} of ${description.device}`, async () => {
      const device = checkNewCapture(this.#context.catalog, description, {
        open: [...this.#captures.values()].map((capture) => capture.description),
        creating: this.#creating,
        isRemoving: (pointId) => this.#remover.isRemoving(pointId),
      });
      this.#creating.set(device, description);
      try {
        const { disk, dir } = this.#context;
        const open = [...this.#captures.values()].map((capture) => capture.description);
        await checkNameClash(disk, dir, description, open);
        const begun = { ...description, begunAt: this.#context.now().toISOString() };
        return this.addCapture(begun, await CaptureStaging.create(this.#context, begun));
      } finally {
        this.#creating.delete(device);
      }
    });
  }

  commitTogether(
    commits: readonly TogetherCommit[],
    group: GroupCommit,
  ): Promise<PromiseSettledResult<Point>[]> {
    return this.#access.run(`group ${group.name}`, () => {
      const own = commits.map(({ capture, request }) => ({ capture: this.#own(capture), request }));
      return commitTogether(this.#context, own, group);
    });
  }

  /** @throws StillpointError `session-unknown`: it has ended */
  #own({ description: { sessionId } }: Capture): StoreCapture {
    const capture = this.#captures.get(sessionId);
    if (capture !== undefined) return capture;
    throw new StillpointError('session-unknown', { thing: `session ${sessionId}`, reason: 'it has ended' });
  }

  // ---- removals ------------------------------------------------------------------------------------------

  useOf(point: Point): string | null {
    return this.#remover.useOf(point);
  }

  checkRemoval(...points: readonly Point[]): void {
    this.#remover.check(points);
  }

  removePoint(point: Point, why: string): Promise<void> {
    return this.#access.run(`point ${pointLabel(point)}`, async () => {
      await this.#remover.removePoint(point, why);
      await this.retention.forgetPins([point.id]);
    });
  }

  removeTogether(points: readonly Point[], why: string): Promise<void> {
    return this.#access.run(`points ${points.map(pointLabel).join(', ')}`, async () => {
      await this.#remover.removeTogether(points, why);
      await this.retention.forgetPins(points.map(({ id }) => id));
    });
  }

  removeDevice(key: DeviceKey, why: string): Promise<Point[]> {
    return this.#access.run(`device ${key.device}`, async () => {
      const removed = await this.#remover.removeDevice(key, why);
      await this.retention.forgetPins(removed.map(({ id }) => id));
      await this.journals.removeDevice(key);
      return removed;
    });
  }

  removedPoint(key: DeviceKey, sequence: number): Promise<RemovedPoint | null> {
    const { objects } = this.#context;
    return this.#access.run(`device ${key.device}`, () => readMark(objects, { ...key, sequence }));
  }

  checkRename(from: string, to: string): Promise<void> {
    return this.#access.run(`agent ${from}`, () => {
      this.#checkNoSession(from, to);
      this.journals.checkRename(from, to);
      return checkMarks(this.#context, from, to);
    });
  }

  renameAgent(from: string, to: string): Promise<void> {
    return this.#access.run(`agent ${from}`, async () => {
      this.#checkNoSession(from, to);
      await this.#remover.without([from, to], async () => {
        await this.#context.decisions.settle();
        await checkMarks(this.#context, from, to);
        await this.journals.renameAgent(from, to);
        await this.#collector.withoutRemoval(() => renameAgent(this.#context, from, to));
      });
    });
  }

  #checkNoSession(...agents: readonly string[]): void {
    const busy = this.#openCaptures().find(({ agent }) => agents.includes(agent));
    if (busy === undefined) return;
    const reason = 'a session of it is open';
    throw new StillpointError('session-busy', { thing: `agent ${busy.agent}`, reason });
  }

  /** Also those that are being made. */
  #openCaptures(): CaptureDescription[] {
    const made = [...this.#captures.values()].map(({ description }) => description);
    return [...made, ...this.#creating.values()];
  }

  // ---- reading -------------------------------------------------------------------------------------------

  nodes(point: Point, requests: readonly NodeRequest[]): Promise<Buffer[]> {
    return this.#use.during(point.id, () => this.#access.nodes(point, requests));
  }

  blocks<T>(
    point: Point,
    blockIndexes: readonly number[],
    take: (blocks: StoredBlocks) => Promise<T>,
  ): Promise<T> {
    this.#readAtMs = performance.now();
    return this.#use.during(point.id, () => this.#access.blocks(point, blockIndexes, take));
  }

  async *verify(scope: VerifyScope): AsyncGenerator<VerifyEvent> {
    const events = this.#access.verify(scope);
    for (;;) {
      const step = await this.#collector.withoutRemoval(() => events.next());
      if (step.done === true) return;
      yield step.value;
    }
  }

  check(point: Point, ranges: readonly BlockRange[], options?: CheckOptions): AsyncGenerator<CheckEvent> {
    return this.#use.duringAll([point.id], this.#access.check(point, ranges, options));
  }

  pointDamage(key: PointsKey): Promise<DamagedPoint[]> {
    return this.#access.damagedPoints(key);
  }

  diff(from: Point, to: Point): AsyncGenerator<DiffEvent> {
    return this.#use.duringAll([from.id, to.id], this.#access.diff(from, to));
  }

  async #checkOtherFiles(paced: Paced): Promise<{ what: string; reason: string }[]> {
    const { disk, dir } = this.#context;
    const findings = await checkStoreFiles(disk, dir);
    for (const capture of [...this.#captures.values()]) {
      const what = join('capture', capture.description.sessionId);
      for (const reason of await capture.check()) findings.push({ what, reason });
    }
    findings.push(...(await this.#context.partials.check()), ...(await this.journals.check(paced)));
    return findings;
  }

  /** Manifests and their copies, each from the other; and which points can't be given whole then. */
  repair(): Promise<StoreRepair> {
    const { dir, objects, catalog } = this.#context;
    return this.#access.run(`store ${dir}`, async () => {
      const { mended, lost } = await repairManifests(objects, false);
      const lostPoints: RepairFinding[] = [];
      for (const point of catalog.all()) {
        const part = await firstLostPart(this.#context, treeOf(point));
        const what = `point ${pointName(point, LOCAL_AGENT)}`;
        if (part !== null) lostPoints.push({ what, reason: `${part} is in no pack, or damaged` });
      }
      return { mended, lost: [...lost, ...lostPoints] };
    });
  }

  /** What a reader found out about records, by packs that are still there. */
  async remember(bad: readonly BadPlace[], good: readonly GoodPlace[]): Promise<void> {
    const { index } = this.#context;
    for (const { packId, offset, digest, kind } of bad) {
      const number = index.packs().get(packId)?.number;
      if (number !== undefined) await index.markBad(number, offset, digest, kind);
    }
    for (const { packId, digest, kind, ...place } of good) {
      const number = index.packs().get(packId)?.number;
      if (number !== undefined) await index.relocate(digest, kind, number, place);
    }
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { objects, index } = this.#context;
    this.#access.close();
    this.#stop.abort();
    try {
      await Promise.allSettled([...this.#captures.values()].map((capture) => capture.close()));
      await this.#access.settled();
      await this.journals.close();
      await this.upkeep.close();
      await objects.close();
      await index.close();
    } finally {
      this.#lock.release();
    }
  }
}
