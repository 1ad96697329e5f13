/**
 * A store in memory for tests of what stands above it. Batches are not looked into, and nothing outlives it but what
 * `reopen` hands on; every call can be held up or made to fail.
 */
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import type { Point } from '../../../src/domain/point/point.js';
import type {
  CheckEvent,
  CommitRequest,
  DiffEvent,
  NodeRequest,
  PartialSet,
  VerifyEvent,
} from '../../../src/domain/session/messages.js';
import type { Capture, CaptureDescription, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../bytes/digests.js';

export type StoreCall = 'createCapture' | 'append' | 'commit' | 'abort' | 'points';

export class MemoryStore implements Store {
  readonly digester = PLAIN;
  readonly storeId = 'a'.repeat(32);
  readonly committed: Point[] = [];
  readonly open = new Map<string, MemoryCapture>();
  /** Awaited before each call; what it throws is the call's error. */
  before: (call: StoreCall, detail: string | number) => Promise<void> = async () => undefined;

  /** The same store as a restarted receiver finds it. */
  reopen(): MemoryStore {
    const store = new MemoryStore();
    store.committed.push(...this.committed);
    for (const [id, capture] of this.open) {
      store.open.set(id, new MemoryCapture(store, capture.description, capture.durableSequence));
    }
    return store;
  }

  async points(key: { agent: string; device?: string }): Promise<Point[]> {
    await this.before('points', key.device ?? '');
    return this.committed.filter(
      (point) => point.agent === key.agent && (key.device === undefined || point.device === key.device),
    );
  }

  async point(agent: string, pointId: string): Promise<Point | null> {
    return this.committed.find((point) => point.agent === agent && point.id === pointId) ?? null;
  }

  /** Null stands for damage that the store knows of; undefined: none. */
  damagedBase: null | undefined;

  async baseFor(key: { agent: string; device: string }): Promise<Point | null> {
    return this.damagedBase === null ? null : ((await this.points(key)).at(-1) ?? null);
  }

  captures(): readonly Capture[] {
    return [...this.open.values()];
  }

  /** Of open sessions only. */
  async partialSets(key: { agent: string; device?: string }): Promise<PartialSet[]> {
    return [...this.open.values()]
      .map(({ description }) => description)
      .filter(({ agent, device }) => agent === key.agent && (key.device ?? device) === device)
      .map(({ device, sessionId, instant }) => ({
        ...{ device, sessionId, instant, state: 'open', durableBytes: 0 },
        lastActivityAt: '2026-01-01T00:00:00.000Z',
        expiresAt: '2026-01-08T00:00:00.000Z',
      }));
  }

  /** Sessions that a test says are. */
  readonly expired = new Set<string>();

  expiredCaptures(): readonly Capture[] {
    return this.captures().filter(({ description }) => this.expired.has(description.sessionId));
  }

  async collect(): Promise<void> {}

  async createCapture(description: CaptureDescription): Promise<Capture> {
    await this.before('createCapture', description.sessionId);
    if (this.open.has(description.sessionId)) throw new Error('a capture of this id exists');
    const capture = new MemoryCapture(this, description, 0);
    this.open.set(description.sessionId, capture);
    return capture;
  }

  async nodes(_point: Point, requests: readonly NodeRequest[]): Promise<Uint8Array> {
    return Buffer.alloc(4 * requests.length);
  }

  async blocks(_point: Point, blockIndexes: readonly number[]): Promise<Uint8Array> {
    return Buffer.from(blockIndexes.join());
  }

  async *verify(scope: { agent?: string; pointId?: string }): AsyncGenerator<VerifyEvent> {
    const pointCount = this.committed.filter(
      ({ agent, id }) => agent === scope.agent && (scope.pointId === undefined || id === scope.pointId),
    ).length;
    yield { type: 'progress', doneBytes: 0, totalBytes: 1 };
    yield { type: 'summary', pointCount, blockCount: 0, checkedBytes: 0, findingCount: 0 };
  }

  async *check(_point: Point, ranges: readonly BlockRange[]): AsyncGenerator<CheckEvent> {
    yield { type: 'progress', doneBytes: 0, totalBytes: 1 };
    yield { type: 'summary', blockCount: ranges.length, damagedBlocks: 0 };
  }

  async *diff(from: Point, to: Point): AsyncGenerator<DiffEvent> {
    const blockCount = from.root === to.root ? 0 : 1;
    yield { type: 'progress', doneBytes: 0, totalBytes: 1 };
    yield { type: 'summary', rangeCount: blockCount, blockCount, changedBytes: 0, zeroBlockCount: 0 };
  }

  async close(): Promise<void> {}
}

class MemoryCapture implements Capture {
  readonly description: CaptureDescription;
  durableSequence: number;
  readonly #store: MemoryStore;

  constructor(store: MemoryStore, description: CaptureDescription, durableSequence: number) {
    this.#store = store;
    this.description = description;
    this.durableSequence = durableSequence;
  }

  async resume(): Promise<{ durableSequence: number; durableBlockEnd: number }> {
    return { durableSequence: this.durableSequence, durableBlockEnd: 0 };
  }

  async append(sequence: number, _body: Uint8Array): Promise<{ durableSequence: number }> {
    await this.#store.before('append', sequence);
    this.durableSequence = Math.max(this.durableSequence, sequence);
    return { durableSequence: this.durableSequence };
  }

  async have(digests: Uint8Array): Promise<Uint8Array> {
    return new Uint8Array(Math.ceil(digests.length / 256));
  }

  async commit(request: CommitRequest): Promise<Point> {
    await this.#store.before('commit', request.root);
    const { agent, device, geometry, identity, instant, provider, sessionId } = this.description;
    const earlier = await this.#store.points({ agent, device });
    const point: Point = {
      id: sessionId,
      agent,
      device,
      sequence: earlier.length + 1,
      baseSequence: earlier.find(({ id }) => id === this.description.basePointId)?.sequence ?? null,
      geometry,
      identity,
      root: request.root,
      top: '0'.repeat(64),
      kind: request.kind,
      provider,
      instant,
      committedAt: '2026-01-01T00:00:00.000Z',
      statistics: request.statistics,
      storedBytes: 0,
      badRanges: request.badRanges,
      warnings: request.warnings,
    };
    this.#store.committed.push(point);
    this.#store.open.delete(sessionId);
    return point;
  }

  async abort(): Promise<void> {
    await this.#store.before('abort', this.description.sessionId);
    this.#store.open.delete(this.description.sessionId);
  }
}
