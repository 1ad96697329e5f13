/**
 * What can be asked about a store's points, whether its owner has the store open (pack-store.ts) or a reader
 * (reading/).
 *
 * State: calls in flight, which close() waits for; closed for good.
 */

import { StillpointError } from '../../domain/base/errors.js';
import { LOCAL_AGENT } from '../../domain/base/names.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { pointName } from '../../domain/point/point-ref.js';
import type {
  CheckEvent,
  CheckOptions,
  DiffEvent,
  NodeRequest,
  VerifyEvent,
} from '../../domain/session/messages.js';
import { asStoreStep } from '../disk/errors.js';
import type { PointPlace } from '../disk/layout.js';
import type { Paced } from '../disk/paced.js';
import type { RecordIndex } from '../index/record-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { PointCatalog } from '../points/catalog.js';
import { pointDiff } from '../points/diff.js';
import type { PointReader } from '../points/reader.js';
import type { DamagedPoint, PointsKey, StoredBlocks, VerifyScope } from '../port/store.js';
import type { RecordReader } from '../records/record-reader.js';
import { checkPoint } from '../upkeep/check.js';
import { openDamage } from '../upkeep/damaged-points.js';
import { Verification } from '../upkeep/verify.js';

export interface PointAccessOptions {
  /** Root of the store. */
  readonly dir: string;
  readonly objects: ObjectStore;
  readonly catalog: PointCatalog;
  readonly index: RecordIndex;
  readonly records: RecordReader;
  readonly reader: PointReader;
  /** What is wrong with files outside packs/ and points/: file and reason. */
  readonly checkOthers: (paced: Paced) => Promise<{ what: string; reason: string }[]>;
  readonly onChecked?: (packId: string) => void;
  /** Of all agents. */
  readonly damagedPoints: () => Promise<readonly DamagedPoint[]>;
  /** Before whatever needs the index. */
  readonly prepare?: () => Promise<void>;
}

export class PointAccess {
  readonly #options: PointAccessOptions;
  readonly #inFlight = new Set<Promise<unknown>>();
  #isClosed = false;

  constructor(options: PointAccessOptions) {
    this.#options = options;
  }

  async points({ agent, device }: PointsKey): Promise<Point[]> {
    const { catalog } = this.#options;
    if (device === undefined) return catalog.all(agent);
    if (agent !== undefined) return [...catalog.ofDevice({ agent, device })];
    return catalog.all().filter((point) => point.device === device);
  }

  async point(agent: string | null, pointId: string): Promise<Point | null> {
    const point = this.#options.catalog.byId(pointId);
    return point !== undefined && (agent === null || point.agent === agent) ? point : null;
  }

  nodes(point: Point, requests: readonly NodeRequest[]): Promise<Buffer[]> {
    return this.#read(`point ${pointLabel(point)}`, () => this.#options.reader.nodes(point, requests));
  }

  blocks<T>(
    point: Point,
    blockIndexes: readonly number[],
    take: (blocks: StoredBlocks) => Promise<T>,
  ): Promise<T> {
    return this.#read(`point ${pointLabel(point)}`, () =>
      this.#options.reader.blocks(point, blockIndexes, take),
    );
  }

  async *verify(scope: VerifyScope): AsyncGenerator<VerifyEvent, void> {
    yield* this.#stepwise(`store ${this.#options.dir}`, () => this.#verification(scope));
  }

  async *check(
    point: Point,
    ranges: readonly BlockRange[],
    { known = false }: CheckOptions = {},
  ): AsyncGenerator<CheckEvent, void> {
    const { index, records } = this.#options;
    records.forgetLost();
    if (known) {
      // The usual case costs no walk.
      const open = await this.#read(`point ${pointLabel(point)}`, () => openDamage({ index, records }));
      if (open.length === 0) return yield { type: 'summary', blockCount: 0, damagedBlocks: 0 };
    }
    yield* this.#stepwise(`point ${pointLabel(point)}`, () =>
      checkPoint({ records, point, ranges, known, nowMs: () => performance.now() }),
    );
  }

  async damagedPoints({ agent, device }: PointsKey): Promise<DamagedPoint[]> {
    const { dir, damagedPoints } = this.#options;
    // Without a look at the index: mostly there is no damage, and a list of points is not to wait for it.
    const all = await this.run(`store ${dir}`, async () => damagedPoints());
    return all.filter(
      ({ point }) => (agent ?? point.agent) === point.agent && (device ?? point.device) === point.device,
    );
  }

  diff(from: Point, to: Point): AsyncGenerator<DiffEvent, void> {
    const { reader } = this.#options;
    return this.#stepwise(`points ${pointLabel(from)} and ${pointLabel(to)}`, () =>
      pointDiff(reader, from, to),
    );
  }

  /** Step by step, so that close waits for the running step, and not for the consumer of the events. */
  async *#stepwise<T>(thing: string, begin: () => AsyncGenerator<T, void>): AsyncGenerator<T, void> {
    const events = begin();
    for (;;) {
      const step = await this.#read(thing, () => events.next());
      if (step.done === true) return;
      yield step.value;
    }
  }

  #verification(scope: VerifyScope): AsyncGenerator<VerifyEvent, void> {
    const { catalog, objects, index, records, checkOthers, onChecked } = this.#options;
    records.forgetLost();
    // Who sees the points of all agents gets names that tell them apart.
    const own = scope.agent === undefined ? LOCAL_AGENT : null;
    const label = (point: Omit<PointPlace, 'deleted'>) => pointName(point, own);
    const isThere = (pointId: string) => catalog.byId(pointId) !== undefined;
    const files = { objects, index, records, checkOthers, onChecked };
    const verification = new Verification({ ...files, label, isThere });
    if (scope.pointId === undefined && scope.device !== undefined) {
      const { device } = scope;
      return verification.ofPoints(catalog.all(scope.agent).filter((point) => point.device === device));
    }
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
    return verification.ofPoints([point]);
  }

  #read<T>(thing: string, step: () => Promise<T>): Promise<T> {
    const { prepare } = this.#options;
    return this.run(thing, prepare === undefined ? step : () => prepare().then(step));
  }

  /** A call that closing waits for. */
  async run<T>(thing: string, step: () => Promise<T>): Promise<T> {
    if (this.#isClosed) {
      throw new StillpointError('cancelled', {
        thing: `store ${this.#options.dir}`,
        reason: 'it is closed',
        permanent: false,
      });
    }
    return this.waitFor(asStoreStep(thing, step));
  }

  async waitFor<T>(work: Promise<T>): Promise<T> {
    this.#inFlight.add(work);
    try {
      return await work;
    } finally {
      this.#inFlight.delete(work);
    }
  }

  /** Takes no new calls. */
  close(): void {
    this.#isClosed = true;
  }

  async settled(): Promise<void> {
    await Promise.allSettled([...this.#inFlight]);
  }
}
