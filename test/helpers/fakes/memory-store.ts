/**
 * A store in memory, for what is above it: it holds what it was sent and believes none of it, as the suite of
 * every store asks (test/conformance/store/sessions.ts). What it lacks is what disks are for: packs, an
 * index, damage, and room that ends. Faults are put over it (test/helpers/faults/store.ts).
 */
import { StillpointError } from '../../../src/domain/base/errors.js';
import {
  BLOCKS_ANSWER_STORED_BYTES,
  BLOCKS_REQUEST_MAX,
  NODES_REQUEST_MAX,
  PARTIAL_KEEP_MS,
} from '../../../src/domain/base/limits.js';
import { checkName, isHexId } from '../../../src/domain/base/names.js';
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import { levelCount, treeHeight } from '../../../src/domain/blocks/geometry.js';
import { type GroupCommit, groupPoints } from '../../../src/domain/point/group.js';
import type { Point } from '../../../src/domain/point/point.js';
import type {
  CheckEvent,
  DiffEvent,
  NodeRequest,
  PartialSet,
  VerifyEvent,
} from '../../../src/domain/session/messages.js';
import { native } from '../../../src/native/index.js';
import {
  type Capture,
  type CaptureDescription,
  type CollectReport,
  type DeviceKey,
  NOTHING_COLLECTED,
  type PointsKey,
  type RemovedPoint,
  type Store,
  type StoredBlocks,
  type TogetherCommit,
  type VerifyScope,
} from '../../../src/store/port/store.js';
import { PLAIN } from '../bytes/digests.js';
import type { LevelTree } from '../bytes/level-tree.js';
import { MemoryJournals } from '../journals/memory-journals.js';
import { type Leaves, MemoryCapture } from './memory-capture.js';
import { diffOf } from './memory-diff.js';
import { commitTogether } from './memory-groups.js';
import { MemoryRetention } from './memory-retention.js';

interface HeldPoint {
  readonly point: Point;
  readonly leaves: Leaves;
  readonly tree: LevelTree;
}

interface EndedSet {
  readonly set: PartialSet;
  readonly agent: string;
  readonly digests: ReadonlySet<string>;
}

export interface MemoryStoreOptions {
  readonly now?: () => Date;
  readonly keepPartialMs?: number;
}

const deviceOf = ({ agent, device }: DeviceKey): string => `${agent}/${device}`;

export class MemoryStore implements Store {
  readonly digester = PLAIN;
  readonly upkeep = null;
  readonly storeId = 'a'.repeat(32);
  retention: MemoryRetention;
  journals = new MemoryJournals();
  readonly #now: () => Date;
  readonly #keepPartialMs: number;
  #held: HeldPoint[] = [];
  #captures = new Map<string, MemoryCapture>();
  #ended: EndedSet[] = [];
  #removed: RemovedPoint[] = [];
  /** Records by device, then by digest. */
  #records = new Map<string, Map<string, Buffer>>();
  #isClosed = false;

  constructor({ now = () => new Date(), keepPartialMs = PARTIAL_KEEP_MS }: MemoryStoreOptions = {}) {
    this.#now = now;
    this.retention = new MemoryRetention(now);
    this.#keepPartialMs = keepPartialMs;
  }

  /** The same store as a restarted receiver finds it: what is durable, and nothing else. */
  async reopen(): Promise<MemoryStore> {
    await this.close();
    const store = new MemoryStore({ now: this.#now, keepPartialMs: this.#keepPartialMs });
    store.#held = this.#held;
    store.#ended = this.#ended;
    store.#removed = this.#removed;
    store.retention = this.retention;
    store.journals = this.journals;
    store.#records = this.#records;
    for (const capture of this.#captures.values()) store.#addCapture(capture.description, capture);
    return store;
  }

  async points({ agent, device }: PointsKey): Promise<Point[]> {
    return this.#held
      .map(({ point }) => point)
      .filter((point) => (agent ?? point.agent) === point.agent && (device ?? point.device) === point.device)
      .sort((a, b) =>
        deviceOf(a) < deviceOf(b) ? -1 : deviceOf(a) > deviceOf(b) ? 1 : a.sequence - b.sequence,
      );
  }

  async point(agent: string | null, pointId: string): Promise<Point | null> {
    const point = this.#held.find(({ point: { id } }) => id === pointId)?.point ?? null;
    return agent === null || point?.agent === agent ? point : null;
  }

  async baseFor(key: DeviceKey): Promise<Point | null> {
    return (await this.points(key)).at(-1) ?? null;
  }

  captures = (): readonly Capture[] => [...this.#captures.values()];

  async partialSets({ agent, device }: PointsKey): Promise<PartialSet[]> {
    const open = [...this.#captures.values()].map((capture) => ({
      agent: capture.description.agent,
      set: this.#setOf(capture, 'open'),
    }));
    return [...open, ...this.#ended]
      .filter((one) => (agent ?? one.agent) === one.agent && (device ?? one.set.device) === one.set.device)
      .map((one) => (agent === undefined ? { agent: one.agent, ...one.set } : one.set))
      .sort((a, b) => a.device.localeCompare(b.device) || a.lastActivityAt.localeCompare(b.lastActivityAt));
  }

  #setOf(capture: MemoryCapture, state: PartialSet['state']): PartialSet {
    const { device, sessionId, begunAt } = capture.description;
    return {
      ...{ device, sessionId, state, begunAt: begunAt ?? '' },
      durableBytes: capture.durableBytes,
      lastActivityAt: capture.lastActivityAt.toISOString(),
      expiresAt: new Date(capture.lastActivityAt.getTime() + this.#keepPartialMs).toISOString(),
    };
  }

  expiredCaptures(): readonly Capture[] {
    const before = this.#now().getTime() - this.#keepPartialMs;
    return [...this.#captures.values()].filter(({ lastActivityAt }) => lastActivityAt.getTime() <= before);
  }

  async collect(): Promise<CollectReport> {
    const now = this.#now().toISOString();
    this.#ended = this.#ended.filter(({ set }) => set.expiresAt > now);
    for (const [device, records] of this.#records) {
      const needed = new Set([
        ...this.#held
          .filter(({ point }) => deviceOf(point) === device)
          .flatMap(({ leaves }) => [...leaves.values()].map((digest) => digest.toString('hex'))),
        ...this.#ended
          .filter(({ agent, set }) => deviceOf({ ...set, agent }) === device)
          .flatMap(({ digests }) => [...digests]),
        ...[...this.#captures.values()]
          .filter(({ description }) => deviceOf(description) === device)
          .flatMap(({ digests }) => [...digests]),
      ]);
      for (const digest of records.keys()) if (!needed.has(digest)) records.delete(digest);
    }
    return NOTHING_COLLECTED;
  }

  useOf({ id }: Point): string | null {
    const isBase = [...this.#captures.values()].some(({ description }) => description.basePointId === id);
    return isBase ? 'a session builds on it' : null;
  }

  deviceNames = (): string[] => [];
  checkRename = (): Promise<void> => Promise.reject(new Error('it has one agent only'));
  renameAgent = (): Promise<void> => Promise.reject(new Error('it has one agent only'));

  checkRemoval(...points: readonly Point[]): void {
    const isOf = ({ id }: Point) => points.some((point) => point.id === id);
    const groups = groupPoints(this.#held.map(({ point }) => point));
    if (groups.some((group) => group.points.some(isOf) && !group.points.every(isOf)))
      throw new StillpointError('point-protected', { thing: 'point', reason: 'it belongs to a group point' });
    for (const point of points) this.#checkIsFree(this.#heldPoint(point.id).point);
  }

  #checkIsFree(point: Point): void {
    const isLast = !this.#held.some(
      ({ point: other }) => deviceOf(other) === deviceOf(point) && other.sequence > point.sequence,
    );
    if (isLast)
      throw new StillpointError('point-protected', { thing: 'point', reason: 'it is the last one' });
    const use = this.useOf(point);
    if (use !== null) throw new StillpointError('session-busy', { thing: 'point', reason: use });
  }

  async removePoint(point: Point, why: string): Promise<void> {
    this.checkRemoval(point);
    this.#remove([point], why);
  }

  async removeTogether(points: readonly Point[], why: string): Promise<void> {
    this.checkRemoval(...points);
    this.#remove(points, why);
  }

  commitTogether(
    commits: readonly TogetherCommit[],
    group: GroupCommit,
  ): Promise<PromiseSettledResult<Point>[]> {
    return commitTogether(commits, group, () => this.#held.map(({ point }) => point));
  }

  async removeDevice(key: DeviceKey, why: string): Promise<Point[]> {
    const points = await this.points({ agent: key.agent, device: key.device });
    this.#remove(points, why);
    this.journals.removeDevice(key);
    return points;
  }

  #remove(points: readonly Point[], why: string): void {
    for (const point of points) {
      const use = this.useOf(point);
      if (use !== null) throw new StillpointError('session-busy', { thing: 'point', reason: use });
    }
    const removedAt = this.#now().toISOString();
    this.#removed.push(
      ...points.map(({ id, agent, device, sequence }) => ({ id, agent, device, sequence, removedAt, why })),
    );
    this.#held = this.#held.filter(({ point }) => !points.some(({ id }) => id === point.id));
  }

  async removedPoint(key: DeviceKey, sequence: number): Promise<RemovedPoint | null> {
    const isIt = (removed: RemovedPoint) =>
      deviceOf(removed) === deviceOf(key) && removed.sequence === sequence;
    return this.#removed.find(isIt) ?? null;
  }

  async createCapture(description: CaptureDescription): Promise<Capture> {
    this.#guard();
    const { agent, device, sessionId, basePointId, geometry } = description;
    checkName('agent', agent);
    checkName('device', device);
    const refuse = (code: StillpointError['code'], reason: string) =>
      new StillpointError(code, { thing: `session ${sessionId} of ${device}`, reason });
    if (!isHexId(sessionId)) throw refuse('bad-message', 'a session id has 32 hex digits');
    if ((await this.point(null, sessionId)) !== null) throw refuse('session-closed', 'it is committed');
    const isBusy = [...this.#captures.values()].some(
      (open) =>
        open.description.sessionId === sessionId || deviceOf(open.description) === deviceOf(description),
    );
    if (isBusy) throw refuse('session-busy', 'another one is open');
    const base = basePointId === null ? null : await this.point(agent, basePointId);
    if (basePointId !== null && (base?.device !== device || base.geometry.blockSize !== geometry.blockSize))
      throw refuse('base-mismatch', 'its base is not one of the device, or has another block size');
    return this.#addCapture({ ...description, begunAt: this.#now().toISOString() }, null);
  }

  #addCapture(description: CaptureDescription, former: MemoryCapture | null): MemoryCapture {
    const key = deviceOf(description);
    const records = this.#records.get(key) ?? new Map<string, Buffer>();
    this.#records.set(key, records);
    const capture = new MemoryCapture(description, former, {
      records,
      now: this.#now,
      base: () => {
        const last = this.#held.findLast(({ point }) => deviceOf(point) === key);
        const used = [...this.#removed.filter((removed) => deviceOf(removed) === key), last?.point];
        const nextSequence = Math.max(...used.map((point) => point?.sequence ?? 0)) + 1;
        return { point: last?.point ?? null, leaves: last?.leaves ?? new Map(), nextSequence };
      },
      onCommit: (point, leaves, tree) => {
        this.#captures.delete(point.id);
        this.#held.push({ point, leaves, tree });
      },
      onAbort: () => {
        const { agent, sessionId } = description;
        this.#captures.delete(sessionId);
        if (capture.durableSequence === 0) return;
        this.#ended.push({ agent, set: this.#setOf(capture, 'ended'), digests: capture.digests });
      },
    });
    this.#captures.set(description.sessionId, capture);
    return capture;
  }

  #guard(): void {
    if (!this.#isClosed) return;
    throw new StillpointError('cancelled', { thing: 'store', reason: 'it is closed', permanent: false });
  }

  #heldPoint(id: string): HeldPoint {
    this.#guard();
    const found = this.#held.find(({ point }) => point.id === id);
    if (found !== undefined) return found;
    const reason = 'there is none with this id';
    throw new StillpointError('point-unknown', { thing: `point ${id}`, reason });
  }

  async nodes({ id }: Point, requests: readonly NodeRequest[]): Promise<Buffer[]> {
    const { point, tree } = this.#heldPoint(id);
    const { geometry } = point;
    requireThat(requests.length >= 1 && requests.length <= NODES_REQUEST_MAX, 'their number');
    return requests.map(({ level, index }) => {
      requireThat(Number.isInteger(level) && level >= 1 && level <= treeHeight(geometry), `level ${level}`);
      const count = Math.max(1, levelCount(geometry, level));
      requireThat(Number.isInteger(index) && index >= 0 && index < count, `node ${index}`);
      return tree.nodes.get(level)?.get(index) ?? Buffer.alloc(0);
    });
  }

  async blocks<T>(
    { id }: Point,
    blockIndexes: readonly number[],
    take: (blocks: StoredBlocks) => Promise<T>,
  ): Promise<T> {
    const { point, leaves } = this.#heldPoint(id);
    requireThat(blockIndexes.length >= 1 && blockIndexes.length <= BLOCKS_REQUEST_MAX, 'their number');
    for (const [i, blockIndex] of blockIndexes.entries()) {
      const isAscending = i === 0 || blockIndex > (blockIndexes[i - 1] ?? -1);
      const isThere = Number.isInteger(blockIndex) && isAscending && leaves.has(blockIndex);
      requireThat(isThere, `block ${blockIndex}`);
    }
    const digests = blockIndexes.map((blockIndex) => leaves.get(blockIndex) as Buffer);
    const distinct = [...new Set(digests.map((digest) => digest.toString('hex')))];
    const records = distinct.map((digest) => this.#record(point, digest));
    let storedBytes = 0;
    let fitting = 0;
    const counted = new Set<string>();
    for (const digest of digests) {
      const hex = digest.toString('hex');
      if (!counted.has(hex)) storedBytes += this.#record(point, hex).length;
      counted.add(hex);
      if (storedBytes > BLOCKS_ANSWER_STORED_BYTES && fitting > 0) break;
      fitting += 1;
    }
    const ordinals = digests.slice(0, fitting).map((digest) => distinct.indexOf(digest.toString('hex')));
    const recordCount = Math.max(...ordinals) + 1;
    return take({
      blockIndexes: Float64Array.from(blockIndexes.slice(0, fitting)),
      recordOrdinals: Uint32Array.from(ordinals),
      runs: records.slice(0, recordCount).map((record) => Buffer.from(record)),
      recordRuns: Uint32Array.from({ length: recordCount }, (_, i) => i),
      recordOffsets: new Uint32Array(recordCount),
      recordDigests: Buffer.from(distinct.slice(0, recordCount).join(''), 'hex'),
    });
  }

  #record(point: Point, digest: string): Buffer {
    const record = this.#records.get(deviceOf(point))?.get(digest);
    if (record === undefined) throw new Error(`the memory store has lost block ${digest}`);
    return record;
  }

  async *verify({ agent, pointId }: VerifyScope): AsyncGenerator<VerifyEvent> {
    this.#guard();
    const held = this.#held.filter(
      ({ point }) => (agent ?? point.agent) === point.agent && (pointId ?? point.id) === point.id,
    );
    if (pointId !== undefined && held.length === 0) this.#heldPoint('');
    yield { type: 'progress', doneBytes: 0, totalBytes: 1 };
    const seen = new Set<string>();
    let checkedBytes = 0;
    for (const { point, leaves } of held) {
      for (const digest of leaves.values()) {
        const hex = digest.toString('hex');
        if (seen.has(hex)) continue;
        seen.add(hex);
        checkedBytes += (await native.decodeRecord(this.#record(point, hex), digest, this.digester)).length;
      }
    }
    const counts = { pointCount: held.length, blockCount: seen.size, checkedBytes, findingCount: 0 };
    yield { type: 'summary', ...counts };
  }

  pointDamage = async (): Promise<[]> => [];

  async *check({ id }: Point, ranges: readonly BlockRange[]): AsyncGenerator<CheckEvent> {
    const { point, leaves } = this.#heldPoint(id);
    yield { type: 'progress', doneBytes: 0, totalBytes: 1 };
    let count = 0;
    for (const [blockIndex, digest] of leaves) {
      if (!ranges.some(([start, end]) => blockIndex >= start && blockIndex < end)) continue;
      await native.decodeRecord(this.#record(point, digest.toString('hex')), digest, this.digester);
      count += 1;
    }
    yield { type: 'summary', blockCount: count, damagedBlocks: 0 };
  }

  async *diff(from: Point, to: Point): AsyncGenerator<DiffEvent> {
    yield* diffOf(this.#heldPoint(from.id), this.#heldPoint(to.id));
  }

  async close(): Promise<void> {
    this.#isClosed = true;
    for (const capture of this.#captures.values()) capture.close();
  }
}

function requireThat(isRight: boolean, what: string): void {
  if (!isRight) throw new StillpointError('bad-message', { thing: 'request', reason: `${what} is wrong` });
}
