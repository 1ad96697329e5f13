/** A store whose calls a test may hold up, let fail, or answer as a damaged or an aged store would. */
import type { Point } from '../../../src/domain/point/point.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import type { Digester } from '../../../src/native/index.js';
import type {
  Capture,
  CaptureDescription,
  DeviceKey,
  PointsKey,
  Store,
} from '../../../src/store/port/store.js';
import { MemoryStore } from '../fakes/memory-store.js';

export type StoreCall = 'createCapture' | 'append' | 'commit' | 'abort' | 'points';

export class FaultyStore implements Store {
  readonly storeId: string;
  readonly digester: Digester;
  readonly upkeep = null;
  readonly retention: Store['retention'];
  readonly journals: Store['journals'];
  /** Awaited before each call; what it throws is the call's error. */
  before: (call: StoreCall, detail: string | number) => Promise<void> = async () => undefined;
  /** Sessions that are said to be. */
  readonly expired = new Set<string>();
  readonly #inner: MemoryStore;
  readonly #captures = new WeakMap<Capture, FaultyCapture>();

  constructor(inner = new MemoryStore()) {
    this.#inner = inner;
    this.storeId = inner.storeId;
    this.digester = inner.digester;
    this.retention = inner.retention;
    this.journals = inner.journals;
  }

  /** The same store as a restarted receiver finds it. */
  async reopen(): Promise<FaultyStore> {
    return new FaultyStore(await this.#inner.reopen());
  }

  async points(key: PointsKey): Promise<Point[]> {
    await this.before('points', key.device ?? '');
    return this.#inner.points(key);
  }

  deviceNames(): string[] {
    return this.#inner.deviceNames();
  }

  captures(): readonly Capture[] {
    return this.#inner.captures().map((capture) => this.#wrapped(capture));
  }

  expiredCaptures(): readonly Capture[] {
    return this.captures().filter(({ description }) => this.expired.has(description.sessionId));
  }

  async createCapture(description: CaptureDescription): Promise<Capture> {
    await this.before('createCapture', description.sessionId);
    return this.#wrapped(await this.#inner.createCapture(description));
  }

  async commitTogether(...[commits, group]: Parameters<Store['commitTogether']>) {
    for (const { capture } of commits) await this.before('commit', capture.description.sessionId);
    const inner = commits.map(({ capture, request }) => ({
      capture: capture instanceof FaultyCapture ? capture.inner : capture,
      request,
    }));
    return this.#inner.commitTogether(inner, group);
  }

  removeTogether: Store['removeTogether'] = (...args) => this.#inner.removeTogether(...args);

  /** One for each, however often it is asked for. */
  #wrapped(capture: Capture): FaultyCapture {
    const wrapped =
      this.#captures.get(capture) ?? new FaultyCapture(capture, (call, detail) => this.before(call, detail));
    this.#captures.set(capture, wrapped);
    return wrapped;
  }

  point: Store['point'] = (...args) => this.#inner.point(...args);
  partialSets: Store['partialSets'] = (...args) => this.#inner.partialSets(...args);
  collect: Store['collect'] = () => this.#inner.collect();
  checkRemoval: Store['checkRemoval'] = (...points) => this.#inner.checkRemoval(...points);
  useOf: Store['useOf'] = (point) => this.#inner.useOf(point);
  removePoint: Store['removePoint'] = (...args) => this.#inner.removePoint(...args);
  checkRename: Store['checkRename'] = () => this.#inner.checkRename();
  renameAgent: Store['renameAgent'] = () => this.#inner.renameAgent();
  removeDevice: Store['removeDevice'] = (...args) => this.#inner.removeDevice(...args);
  removedPoint: Store['removedPoint'] = (...args) => this.#inner.removedPoint(...args);
  nodes: Store['nodes'] = (...args) => this.#inner.nodes(...args);
  blocks: Store['blocks'] = (...args) => this.#inner.blocks(...args);
  verify: Store['verify'] = (...args) => this.#inner.verify(...args);
  check: Store['check'] = (point, ranges) => this.#inner.check(point, ranges);
  pointDamage: Store['pointDamage'] = () => this.#inner.pointDamage();
  diff: Store['diff'] = (...args) => this.#inner.diff(...args);
  close: Store['close'] = () => this.#inner.close();

  async baseFor(key: DeviceKey): Promise<Point | null> {
    return (await this.points(key)).at(-1) ?? null;
  }
}

class FaultyCapture implements Capture {
  readonly inner: Capture;
  readonly #before: FaultyStore['before'];

  constructor(inner: Capture, before: FaultyStore['before']) {
    this.inner = inner;
    this.#before = before;
  }

  get description(): CaptureDescription {
    return this.inner.description;
  }

  get durableSequence(): number {
    return this.inner.durableSequence;
  }

  async append(sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    await this.#before('append', sequence);
    return this.inner.append(sequence, body);
  }

  async commit(request: CommitRequest): Promise<Point> {
    await this.#before('commit', request.root);
    return this.inner.commit(request);
  }

  async abort(): Promise<void> {
    await this.#before('abort', this.description.sessionId);
    await this.inner.abort();
  }

  resume: Capture['resume'] = () => this.inner.resume();
  have: Capture['have'] = (digests) => this.inner.have(digests);
}
