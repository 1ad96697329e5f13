/**
 * Which points of an open store may be removed, and their removal (removal.ts).
 *
 * State of a point: there; being removed (no session begins on it, nobody removes it again); gone from the
 * catalog. All looks are taken in the turn of the event loop in which it begins to be removed.
 *
 * State of an agent: free, or held by a rename, which begins when removals that are going on have ended.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { type GroupPoint, groupPoints } from '../../domain/point/group.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { CaptureDescription, DeviceKey } from '../port/store.js';
import type { PointUse } from './point-use.js';
import { type JointRemovalContext, removeAtOnce, removeManifest, tidyMarks } from './removal.js';

/** How often the marks of removed points are tidied, which is done at the opening too. */
const TIDY_INTERVAL_MS = 24 * 60 * 60 * 1000;

export interface RemoverOptions {
  readonly context: JointRemovalContext;
  readonly use: PointUse;
  /** @throws StillpointError if settings keep the point */
  readonly guard: (point: Point, ofDevice: readonly Point[]) => void;
  /** Of sessions that are open, or being opened. */
  readonly openCaptures: () => Iterable<CaptureDescription>;
}

export class PointRemover {
  readonly #options: RemoverOptions;
  readonly #removing = new Set<string>();
  readonly #held = new Set<string>();
  readonly #inFlight = new Set<Promise<void>>();
  #tidiedAtMs: number;

  constructor(options: RemoverOptions) {
    this.#options = options;
    this.#tidiedAtMs = options.context.now().getTime();
  }

  isRemoving(pointId: string): boolean {
    return this.#removing.has(pointId);
  }

  /** No point of these agents is removed during this work. */
  async without<T>(agents: readonly string[], work: () => Promise<T>): Promise<T> {
    for (const agent of agents) this.#held.add(agent);
    try {
      await Promise.allSettled([...this.#inFlight]);
      return await work();
    } finally {
      for (const agent of agents) this.#held.delete(agent);
    }
  }

  /** As Store.useOf. */
  useOf(point: Point): string | null {
    if (this.#removing.has(point.id)) return 'it is being removed already';
    if (this.#held.has(point.agent)) return 'its agent is being renamed';
    for (const { basePointId, sessionId } of this.#options.openCaptures()) {
      if (basePointId === point.id) return `session ${sessionId} of the device builds on it`;
    }
    return this.#options.use.isRead(point.id) ? 'it is being read, or was a moment ago' : null;
  }

  /** As Store.checkRemoval. */
  check(points: readonly Point[]): void {
    for (const point of points) this.#check(point);
    const [first] = points;
    const group = this.#groupOf(first);
    const isOf = ({ id }: Point) => points.some((point) => point.id === id);
    if (first !== undefined && group !== null && !group.points.every(isOf)) throw isInGroup(first, group);
    if (points.length > (group?.points.length ?? 1)) throw new Error('they are of several group points');
    for (const point of points) this.#checkIsNotLast(point);
  }

  #checkIsNotLast(point: Point): void {
    if (this.#options.context.catalog.ofDevice(point).at(-1)?.id === point.id) {
      throw new StillpointError('point-protected', {
        thing: `point ${pointLabel(point)}`,
        reason: 'it is the last point of its device, and the next backup builds on it',
        remedy: 'If the device is not to be backed up any more, forget all of its points (forget --device).',
      });
    }
  }

  /** As Store.removePoint. */
  async removePoint(point: Point, why: string): Promise<void> {
    this.check([point]);
    await this.#remove([point], why);
  }

  /** As Store.removeTogether. */
  async removeTogether(points: readonly Point[], why: string): Promise<void> {
    this.check(points);
    const id = this.#groupOf(points[0])?.id;
    if (id === undefined) throw new Error('they are not points of a group point');
    await this.#during(points, () => removeAtOnce(this.#options.context, id, points, why));
  }

  /** The whole group point of several that it belongs to. */
  #groupOf(point: Point | undefined): GroupPoint | null {
    if (point?.group === undefined || point.group.memberCount === 1) return null;
    const { id } = point.group;
    const members = this.#options.context.catalog.all().filter(({ group }) => group?.id === id);
    return groupPoints(members)[0] ?? null;
  }

  /** As Store.removeDevice. */
  async removeDevice(key: DeviceKey, why: string): Promise<Point[]> {
    const points = [...this.#options.context.catalog.ofDevice(key)];
    for (const point of points) this.#check(point);
    await this.#remove(points, why);
    return points;
  }

  #check(point: Point): void {
    const { context, guard } = this.#options;
    // It may be kept under another name by now.
    if (context.catalog.byId(point.id)?.agent !== point.agent) {
      throw new StillpointError('point-unknown', {
        thing: `point ${pointLabel(point)}`,
        reason: 'the store has no such point',
      });
    }
    guard(point, context.catalog.ofDevice(point));
    const use = this.useOf(point);
    if (use === null) return;
    throw new StillpointError('session-busy', {
      thing: `point ${pointLabel(point)}`,
      reason: use,
      remedy: 'Try again later.',
    });
  }

  /** @param points of one device, the last one last: until then a backup finds the point that it builds on */
  #remove(points: readonly Point[], why: string): Promise<void> {
    return this.#during(points, () => this.#removeInTurn(points, why));
  }

  async #during(points: readonly Point[], remove: () => Promise<void>): Promise<void> {
    for (const { id } of points) this.#removing.add(id);
    const work = remove();
    this.#inFlight.add(work);
    try {
      await work;
    } finally {
      this.#inFlight.delete(work);
      for (const { id } of points) this.#removing.delete(id);
    }
    await this.#tidy();
  }

  async #removeInTurn(points: readonly Point[], why: string): Promise<void> {
    // A decision that is not carried out yet would bring a point back.
    await this.#options.context.decisions.settle();
    for (const point of points) await removeManifest(this.#options.context, point, why);
  }

  /** A receiver may serve for years, and each removal leaves a mark. */
  async #tidy(): Promise<void> {
    const { context } = this.#options;
    const nowMs = context.now().getTime();
    if (Math.abs(nowMs - this.#tidiedAtMs) < TIDY_INTERVAL_MS) return;
    this.#tidiedAtMs = nowMs;
    await tidyMarks(context).catch((error) => context.log(`old marks of points stay: ${String(error)}`));
  }
}

function isInGroup(point: Point, group: GroupPoint): StillpointError {
  const name = `${group.name}@${group.sequence}`;
  return new StillpointError('point-protected', {
    thing: `point ${pointLabel(point)}`,
    reason: `it belongs to the group point ${name}, whose points fit each other`,
    remedy: `Remove all of it: "forget ${name}".`,
  });
}
