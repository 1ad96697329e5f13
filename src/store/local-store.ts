/**
 * The store: packs and manifests, which are the truth; an index, which is a cache; captures of open sessions.
 *
 * Who blocks whom:
 *
 * |                     | append          | have     | commit            | abort           | nodes, blocks, diff | verify, check | close |
 * |---------------------|-----------------|----------|-------------------|-----------------|---------------|--------|-------|
 * | of the same capture | decodes beside, written in order | beside | after each other | after each other | -  | its log check waits | waits |
 * | of other captures   | beside          | beside   | beside            | beside          | -             | beside | waits |
 * | readers of points   | beside          | beside   | beside            | beside          | beside        | beside | waits |
 *
 * A collection (collector.ts) goes on beside all of them; while a verification runs it removes nothing, and a verification waits for
 * one that removes.
 *
 * Immutable packs and manifests need no locks: readers see a point from the moment its manifest is durable. A device has at most
 * one capture, so commits of one device can't meet. A process has the store to itself (flock).
 */
import { join } from 'node:path';
import type { BlockRange } from '../domain/block-ranges.js';
import { StillpointError } from '../domain/errors.js';
import { AGENT_MANIFEST_BYTES_MAX, MiB } from '../domain/limits.js';
import type { CheckEvent, DiffEvent, NodeRequest, PartialSet, VerifyEvent } from '../domain/messages.js';
import { checkName, isHexId } from '../domain/names.js';
import type { Point } from '../domain/point.js';
import { StoreCapture } from './capture.js';
import { CaptureStaging } from './capture-staging.js';
import { checkPoint } from './check.js';
import { Collector } from './collector.js';
import { type CommitContext, firstLostPart } from './commit.js';
import { treeOf } from './index-heal.js';
import { pointLabel, STORE_FILE } from './layout.js';
import { expiryOf } from './partial-sets.js';
import { pointDiff } from './point-diff.js';
import { asStoreStep } from './store-error.js';
import { readStoreFile } from './store-file.js';
import type { StoreLock } from './store-lock.js';
import type { Capture, CaptureDescription, DeviceKey, Store } from './store-port.js';
import { Verification } from './verify.js';

export class LocalStore implements Store {
  readonly storeId: string;
  readonly #context: CommitContext;
  readonly #lock: StoreLock;
  readonly #captures = new Map<string, StoreCapture>();
  /** Devices whose capture is being made. */
  readonly #creating = new Set<string>();
  readonly #inFlight = new Set<Promise<unknown>>();
  readonly #collector: Collector;
  #verifyCount = 0;
  #closing: Promise<void> | null = null;

  constructor(storeId: string, context: CommitContext, lock: StoreLock) {
    this.storeId = storeId;
    this.#context = context;
    this.#lock = lock;
    this.#collector = new Collector({
      context,
      captures: () => [...this.#captures.values()],
      isHindered: () => this.#verifyCount > 0,
      isStopped: () => this.#closing !== null,
    });
  }

  /** @param staging null: it can't be recovered now, and is tried again when it is used */
  addCapture(description: CaptureDescription, staging: CaptureStaging | null): StoreCapture {
    const { sessionId } = description;
    const capture = new StoreCapture(this.#context, description, staging, (cleaning) => {
      this.#captures.delete(sessionId);
      this.#inFlight.add(cleaning);
      void cleaning.then(() => this.#inFlight.delete(cleaning));
    });
    this.#captures.set(sessionId, capture);
    return capture;
  }

  async points(key: { readonly agent: string; readonly device?: string }): Promise<Point[]> {
    const { catalog } = this.#context;
    const { agent, device } = key;
    return device === undefined ? catalog.all(agent) : [...catalog.ofDevice({ agent, device })];
  }

  async point(agent: string, pointId: string): Promise<Point | null> {
    const point = this.#context.catalog.byId(pointId);
    return point?.agent === agent ? point : null;
  }

  async baseFor(key: DeviceKey): Promise<Point | null> {
    const { catalog, index } = this.#context;
    const last = catalog.ofDevice(key).at(-1) ?? null;
    if (last === null || !index.hasUnhealed()) return last;
    const lost = await this.#run(`device ${key.device}`, () => firstLostPart(this.#context, treeOf(last)));
    return lost === null ? last : null;
  }

  captures(): readonly Capture[] {
    return [...this.#captures.values()];
  }

  async partialSets({ agent, device }: { agent: string; device?: string }): Promise<PartialSet[]> {
    const { partials } = this.#context;
    const open = [...this.#captures.values()].filter((capture) => capture.description.agent === agent);
    const ended = partials.ofAgent(agent).filter(({ sessionId }) => !this.#captures.has(sessionId));
    return [...open.map((capture) => this.#openSet(capture)), ...ended]
      .filter((set) => device === undefined || set.device === device)
      .sort((a, b) => compareText(a.device, b.device) || compareText(a.lastActivityAt, b.lastActivityAt));
  }

  #openSet({ description, durableBytes, lastActivityAt }: StoreCapture): PartialSet {
    const { device, sessionId, instant } = description;
    const lastActivity = lastActivityAt.toISOString();
    return {
      ...{ device, sessionId, instant, state: 'open', durableBytes },
      lastActivityAt: lastActivity,
      expiresAt: expiryOf(lastActivity, this.#context.partials.keepMs),
    };
  }

  expiredCaptures(): readonly Capture[] {
    const { partials, now } = this.#context;
    const before = now().getTime() - partials.keepMs;
    return [...this.#captures.values()].filter(({ lastActivityAt }) => lastActivityAt.getTime() <= before);
  }

  collect(): Promise<void> {
    return this.#run(`store ${this.#context.dir}`, () => this.#collector.collect());
  }

  createCapture(description: CaptureDescription): Promise<Capture> {
    return this.#run(`session ${description.sessionId} of ${description.device}`, async () => {
      const device = this.#checkNewCapture(description);
      this.#creating.add(device);
      try {
        const begun = { ...description, begunAt: this.#context.now().toISOString() };
        return this.addCapture(begun, await CaptureStaging.create(this.#context, begun));
      } finally {
        this.#creating.delete(device);
      }
    });
  }

  #checkNewCapture(description: CaptureDescription): string {
    const { agent, sessionId, basePointId, geometry } = description;
    const device = `${checkName('agent', agent)}/${checkName('device', description.device)}`;
    this.#checkManifestRoom(agent);
    const refuse = (
      code: 'bad-message' | 'session-busy' | 'session-closed' | 'base-mismatch',
      reason: string,
    ) => new StillpointError(code, { thing: `session ${sessionId} of ${description.device}`, reason });
    if (!isHexId(sessionId)) throw refuse('bad-message', 'a session id has 32 hex digits');
    if (this.#context.catalog.byId(sessionId) !== undefined)
      throw refuse('session-closed', 'it is committed');
    const open = [...this.#captures.values()].find(
      (capture) =>
        capture.description.sessionId === sessionId ||
        `${capture.description.agent}/${capture.description.device}` === device,
    );
    if (open !== undefined || this.#creating.has(device)) {
      throw refuse('session-busy', 'a session of the device, or one with this id, is open');
    }
    if (basePointId === null) return device;
    const base = this.#context.catalog.byId(basePointId);
    if (base?.agent !== agent || base.device !== description.device) {
      throw refuse('base-mismatch', `point ${basePointId} is not one of the device`);
    }
    if (base.geometry.blockSize !== geometry.blockSize) {
      throw refuse(
        'base-mismatch',
        `the block size is ${geometry.blockSize}, and ${base.geometry.blockSize} in its base`,
      );
    }
    return device;
  }

  #checkManifestRoom(agent: string): void {
    if (this.#context.catalog.manifestBytes(agent) < AGENT_MANIFEST_BYTES_MAX) return;
    throw new StillpointError('too-large', {
      thing: `agent ${agent}`,
      reason: `the manifests of its points have more than ${AGENT_MANIFEST_BYTES_MAX / MiB} MiB together, which is the limit`,
      remedy: 'Enroll the machine under another name; its points stay restorable under the present one.',
    });
  }

  nodes(point: Point, requests: readonly NodeRequest[]): Promise<Uint8Array> {
    return this.#run(`point ${point.device}@${point.sequence}`, () =>
      this.#context.reader.nodes(point, requests),
    );
  }

  blocks(point: Point, blockIndexes: readonly number[]): Promise<Uint8Array> {
    return this.#run(`point ${point.device}@${point.sequence}`, () =>
      this.#context.reader.blocks(point, blockIndexes),
    );
  }

  async *verify(scope: { readonly agent?: string; readonly pointId?: string }): AsyncGenerator<VerifyEvent> {
    this.#verifyCount += 1;
    try {
      await this.#collector.settled();
      yield* this.#stepwise(`store ${this.#context.dir}`, this.#verification(scope));
    } finally {
      this.#verifyCount -= 1;
    }
  }

  async *check(point: Point, ranges: readonly BlockRange[]): AsyncGenerator<CheckEvent> {
    const { records } = this.#context;
    records.forgetLost();
    const events = checkPoint({ records, point, ranges, nowMs: () => performance.now() });
    yield* this.#stepwise(`point ${pointLabel(point)}`, events);
  }

  diff(from: Point, to: Point): AsyncGenerator<DiffEvent> {
    const events = pointDiff(this.#context.reader, from, to);
    return this.#stepwise(`points ${pointLabel(from)} and ${pointLabel(to)}`, events);
  }

  /** Step by step, so that close waits for the step that runs, and not for who takes the events. */
  async *#stepwise<T>(thing: string, events: AsyncGenerator<T, void>): AsyncGenerator<T, void> {
    for (;;) {
      const step = await this.#run(thing, () => events.next());
      if (step.done === true) return;
      yield step.value;
    }
  }

  #verification(scope: {
    readonly agent?: string;
    readonly pointId?: string;
  }): AsyncGenerator<VerifyEvent, void> {
    const { catalog, objects, index, records } = this.#context;
    records.forgetLost();
    const verification = new Verification({
      objects,
      index,
      records,
      checkOthers: () => this.#checkOtherFiles(),
    });
    if (scope.pointId === undefined) {
      const points = catalog.all(scope.agent);
      return scope.agent === undefined
        ? verification.everything(points)
        : verification.ofAgent(scope.agent, points);
    }
    const point = catalog.byId(scope.pointId);
    if (point === undefined || (scope.agent !== undefined && point.agent !== scope.agent)) {
      throw new StillpointError('point-unknown', {
        thing: `point ${scope.pointId}`,
        reason: 'there is none with this id',
      });
    }
    return verification.ofPoint(point);
  }

  async #checkOtherFiles(): Promise<{ what: string; reason: string }[]> {
    const { disk, dir } = this.#context;
    const findings: { what: string; reason: string }[] = [];
    try {
      await readStoreFile(disk, dir);
    } catch (error) {
      findings.push({ what: STORE_FILE, reason: error instanceof Error ? error.message : String(error) });
    }
    for (const capture of [...this.#captures.values()]) {
      const what = join('capture', capture.description.sessionId);
      for (const reason of await capture.check()) findings.push({ what, reason });
    }
    findings.push(...(await this.#context.partials.check()));
    return findings;
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { objects, index } = this.#context;
    try {
      await Promise.allSettled([...this.#captures.values()].map((capture) => capture.close()));
      await Promise.allSettled([...this.#inFlight]);
      await objects.close();
      await index.close();
    } finally {
      this.#lock.release();
    }
  }

  async #run<T>(thing: string, step: () => Promise<T>): Promise<T> {
    this.#checkOpen();
    const result = asStoreStep(thing, step);
    this.#inFlight.add(result);
    try {
      return await result;
    } finally {
      this.#inFlight.delete(result);
    }
  }

  #checkOpen(): void {
    if (this.#closing === null) return;
    throw new StillpointError('cancelled', {
      thing: `store ${this.#context.dir}`,
      reason: 'it is closed',
      permanent: false,
    });
  }
}

function compareText(a: string, b: string): number {
  return a < b ? -1 : a > b ? 1 : 0;
}
