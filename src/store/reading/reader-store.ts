/**
 * A store that is read without being owned, beside the process that owns it or alone. It removes nothing,
 * continues no session, and writes nothing below the store (but LMDB notes in index/lock.mdb which pages are
 * being read).
 *
 * State: the points as they were when it was opened. Their packs stay: the owner removes none while the
 * reader has its shared lock (disk/readers.ts).
 */

import { StillpointError } from '../../domain/base/errors.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type {
  CheckEvent,
  CheckOptions,
  DiffEvent,
  NodeRequest,
  PartialSet,
  VerifyEvent,
} from '../../domain/session/messages.js';
import type { Digester } from '../../native/index.js';
import type { PartialSets } from '../capture/partial-sets.js';
import type { Disk } from '../disk/disk.js';
import type { Paced } from '../disk/paced.js';
import type { ReadersLock } from '../disk/readers.js';
import type { ReaderJournals } from '../journals/reader.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { PointCatalog } from '../points/catalog.js';
import { PointReader } from '../points/reader.js';
import { readMark } from '../points/removal.js';
import {
  type Capture,
  type CollectReport,
  type DamagedPoint,
  type DeviceKey,
  NOTHING_COLLECTED,
  type PointsKey,
  type RemovedPoint,
  type Store,
  type StoredBlocks,
  type StoreRetention,
  type VerifyScope,
} from '../port/store.js';
import { RecordReader } from '../records/record-reader.js';
import { DamageFinder, enterDamage } from '../upkeep/damaged-points.js';
import { ScrubBook } from '../upkeep/scrub-book.js';
import { type NeededEvent, neededBytes } from '../usage/needed.js';
import { type StoreSizes, storeSizes } from '../usage/sizes.js';
import { checkCaptures, openCaptures } from './open-captures.js';
import { PointAccess } from './point-access.js';
import type { ReadingIndex } from './reading-index.js';
import { checkStoreFiles } from './store-file.js';

export interface ReaderStoreOptions {
  readonly storeId: string;
  readonly disk: Disk;
  /** Root of the store. */
  readonly dir: string;
  readonly lock: ReadersLock;
  readonly objects: ObjectStore;
  readonly index: ReadingIndex;
  readonly catalog: PointCatalog;
  readonly partials: PartialSets;
  readonly journals: ReaderJournals;
  readonly digester: Digester;
  readonly log: (message: string) => void;
  readonly now: () => Date;
  readonly retention: StoreRetention;
  /** Has the store's owner-to-be remember what was found out about records; not called if nothing was. */
  readonly remember: (findings: ReturnType<ReadingIndex['findings']>) => Promise<void>;
}

/** What a command that only reads sees of a store. */
export type StoreToRead = Store & Pick<ReaderStore, 'sizes' | 'needed'>;

export class ReaderStore implements Store {
  readonly storeId: string;
  readonly digester: Digester;
  readonly upkeep = null;
  readonly retention: StoreRetention;
  readonly journals: ReaderJournals;
  readonly #options: ReaderStoreOptions;
  readonly #access: PointAccess;
  readonly #records: RecordReader;
  #opening: Promise<void> | null = null;
  #closing: Promise<void> | null = null;

  constructor(options: ReaderStoreOptions) {
    const { dir, objects, catalog, index, digester, log } = options;
    this.storeId = options.storeId;
    this.digester = digester;
    this.retention = options.retention;
    this.journals = options.journals;
    this.#options = options;
    const records = new RecordReader(objects, index, digester, log);
    const reader = new PointReader(records);
    this.#records = records;
    const book = new ScrubBook(options);
    const damaged = new DamageFinder({ index, records });
    this.#access = new PointAccess({
      ...{ dir, objects, catalog, index, records, reader },
      checkOthers: (paced) => this.#checkOthers(paced),
      damagedPoints: async () => {
        await book.load();
        if (book.openCount === 0) return [];
        await this.#ready(book);
        return damaged.find(catalog.all());
      },
      prepare: () => this.#ready(book),
    });
  }

  #ready(book: ScrubBook): Promise<void> {
    this.#opening ??= this.#open(book);
    return this.#opening;
  }

  /** Damage that an index of this process's own does not know is in the book. */
  async #open(book: ScrubBook): Promise<void> {
    const { index } = this.#options;
    await index.ready();
    await book.load();
    await enterDamage(book, index);
  }

  points(key: PointsKey): Promise<Point[]> {
    return this.#access.points(key);
  }

  point(agent: string | null, pointId: string): Promise<Point | null> {
    return this.#access.point(agent, pointId);
  }

  async baseFor(): Promise<Point | null> {
    throw this.#readsOnly();
  }

  /** Those that it could go on with: none. */
  deviceNames(): string[] {
    return [];
  }

  captures(): readonly Capture[] {
    return [];
  }

  partialSets(key: PointsKey): Promise<PartialSet[]> {
    const { dir, catalog, partials } = this.#options;
    return this.#access.run(`store ${dir}`, async () => {
      const open = await openCaptures(this.#options, (id) => catalog.byId(id) !== undefined);
      return partials.list(key, open);
    });
  }

  expiredCaptures(): readonly Capture[] {
    return [];
  }

  /** That is for its owner. */
  async collect(): Promise<CollectReport> {
    return NOTHING_COLLECTED;
  }

  async createCapture(_: DeviceKey): Promise<Capture> {
    throw this.#readsOnly();
  }

  useOf(): string | null {
    return null;
  }

  checkRemoval(): void {
    throw this.#readsOnly();
  }

  async removePoint(): Promise<void> {
    throw this.#readsOnly();
  }

  async removeTogether(): Promise<void> {
    throw this.#readsOnly();
  }

  async commitTogether(): Promise<never> {
    throw this.#readsOnly();
  }

  async checkRename(): Promise<void> {
    throw this.#readsOnly();
  }

  async renameAgent(): Promise<void> {
    throw this.#readsOnly();
  }

  async removeDevice(): Promise<Point[]> {
    throw this.#readsOnly();
  }

  removedPoint(key: DeviceKey, sequence: number): Promise<RemovedPoint | null> {
    const { objects } = this.#options;
    return this.#access.run(`device ${key.device}`, () => readMark(objects, { ...key, sequence }));
  }

  nodes(point: Point, requests: readonly NodeRequest[]): Promise<Buffer[]> {
    return this.#unlessRemoved([point], () => this.#access.nodes(point, requests));
  }

  blocks<T>(
    point: Point,
    blockIndexes: readonly number[],
    take: (blocks: StoredBlocks) => Promise<T>,
  ): Promise<T> {
    return this.#unlessRemoved([point], () => this.#access.blocks(point, blockIndexes, take));
  }

  verify(scope: VerifyScope): AsyncGenerator<VerifyEvent> {
    return this.#access.verify(scope);
  }

  check(point: Point, ranges: readonly BlockRange[], options?: CheckOptions): AsyncGenerator<CheckEvent> {
    return this.#allUnlessRemoved([point], this.#access.check(point, ranges, options));
  }

  pointDamage(key: PointsKey): Promise<DamagedPoint[]> {
    return this.#access.damagedPoints(key);
  }

  diff(from: Point, to: Point): AsyncGenerator<DiffEvent> {
    return this.#allUnlessRemoved([from, to], this.#access.diff(from, to));
  }

  sizes(): Promise<StoreSizes> {
    const { disk, dir, objects } = this.#options;
    return this.#access.run(`store ${dir}`, () => storeSizes(disk, dir, objects));
  }

  /** What the points need, by a walk of all trees. */
  async *needed(): AsyncGenerator<NeededEvent, void> {
    const { dir, catalog, index } = this.#options;
    await this.#access.run(`store ${dir}`, () => index.ready());
    const points = catalog.all();
    const { recordCount } = index;
    const events = neededBytes({ points, index, recordCount, records: this.#records });
    for (;;) {
      const step = await this.#access.run(`store ${dir}`, () => events.next());
      if (step.done === true) return;
      yield step.value;
    }
  }

  /** The owner may remove a point, and free its blocks, while it is read here: then that is the reason. */
  async #unlessRemoved<T>(points: readonly Point[], read: () => Promise<T>): Promise<T> {
    try {
      return await read();
    } catch (error) {
      for (const point of points) {
        const { removedAt = null } = (await this.removedPoint(point, point.sequence).catch(() => null)) ?? {};
        if (removedAt === null) continue;
        throw new StillpointError('point-unknown', {
          thing: `point ${pointLabel(point)}`,
          reason: `it was removed from the store at ${removedAt}, while it was being read`,
          remedy: 'Choose another point; "stillpoint points" lists them.',
          cause: error,
        });
      }
      throw error;
    }
  }

  async *#allUnlessRemoved<T>(
    points: readonly Point[],
    events: AsyncGenerator<T, void>,
  ): AsyncGenerator<T, void> {
    for (;;) {
      const step = await this.#unlessRemoved(points, () => events.next());
      if (step.done === true) return;
      yield step.value;
    }
  }

  async #checkOthers(paced: Paced): Promise<{ what: string; reason: string }[]> {
    const { disk, dir, partials } = this.#options;
    return [
      ...(await checkStoreFiles(disk, dir)),
      ...(await checkCaptures(this.#options)),
      ...(await partials.check()),
      ...(await this.journals.check(paced)),
    ];
  }

  close(): Promise<void> {
    this.#closing ??= this.#close();
    return this.#closing;
  }

  async #close(): Promise<void> {
    const { objects, index, lock, remember } = this.#options;
    this.#access.close();
    await this.#access.settled();
    const findings = index.findings();
    await index.close();
    await objects.close();
    await lock.release();
    if (findings.bad.length > 0) await remember(findings);
  }

  #readsOnly(): StillpointError {
    return new StillpointError('internal', {
      thing: `store ${this.#options.dir}`,
      reason: 'it was opened for reading only, and something else was asked of it',
    });
  }
}
