/**
 * Several points that come or go at once: all points of a group, or none, whatever dies when. The appearance
 * of one file, the decision, is the moment. What it says is carried out afterwards, and then it is removed.
 *
 * | decision | dies after                 | found at the next opening, and by readers            |
 * |----------|----------------------------|------------------------------------------------------|
 * | commit   | it is durable              | all its points; manifests that are missing are put   |
 * |          | some manifests are durable | the same                                             |
 * |          | all are                    | all its points; it is removed                        |
 * | remove   | it is durable              | none of its points; marks that are missing are put   |
 * |          | some marks are durable     | the same                                             |
 *
 * State: decisions that may be on disk, by id: *uncertain* if the last step of writing failed, or *decided*
 * and not carried out to the end. Each is settled before anything else is decided: a sequence that an
 * uncertain decision has used must not be used again.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { isOfReceiver } from '../../domain/point/group.js';
import type { Point, PointGroup, RemovedPoint } from '../../domain/point/point.js';
import { decisionKey, pointKey } from '../disk/layout.js';
import { Mutex } from '../disk/mutex.js';
import { encodeSealed } from '../disk/sealed-text.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { PointCatalog } from './catalog.js';
import { type Decision, encodeDecision, readDecision } from './decision-file.js';
import { encodeManifest } from './manifest.js';
import { copyManifest, finishRemoval, putMark } from './manifest-files.js';

interface DecisionContext {
  readonly objects: ObjectStore;
  readonly catalog: PointCatalog;
  readonly log: (message: string) => void;
}

export class Decisions {
  readonly #context: DecisionContext;
  readonly #turns = new Mutex();
  readonly #open = new Set<string>();

  /** @param found by the catalog when it was loaded: they count there already */
  constructor(context: DecisionContext, found: readonly Decision[]) {
    this.#context = context;
    for (const { id } of found) this.#open.add(id);
  }

  /**
   * Carries out whatever may be decided.
   * @throws where the disk does not allow it; then it is tried again the next time
   */
  settle(): Promise<void> {
    return this.#turns.run(() => this.#settle());
  }

  /**
   * Makes the points, all at once.
   * @param group what each of them says of it, but for its number, which is the next one
   * @param isOfReceiver its points may be of several agents
   * @throws StillpointError `base-mismatch`, if a point of an earlier try turned up: look again;
   * `group-failed` if there are points of a group of this id, which are others
   */
  commit(
    group: Omit<PointGroup, 'sequence' | 'ownCount'>,
    points: readonly Point[],
    isOfReceiver: boolean,
  ): Promise<readonly Point[]> {
    return this.#turns.run(async () => {
      await this.#settle();
      this.#checkIsNew(group);
      const owner = isOfReceiver ? null : (points[0]?.agent ?? '');
      const sequence = this.#nextSequence(group.name, owner);
      const ownOf = ({ agent }: Point) =>
        isOfReceiver ? { ownCount: points.filter((other) => other.agent === agent).length } : {};
      const numbered = points.map(
        (point): Point => ({ ...point, group: { ...group, ...ownOf(point), sequence } }),
      );
      for (const point of numbered) this.#checkIsNext(point);
      await this.#decide({ does: 'commit', id: group.id, points: numbered });
      return numbered;
    });
  }

  /** Removes the points, all at once. @param id of their group */
  remove(id: string, removed: readonly RemovedPoint[]): Promise<void> {
    return this.#turns.run(async () => {
      await this.#settle();
      await this.#decide({ does: 'remove', id, removed });
    });
  }

  async #settle(): Promise<void> {
    for (const id of this.#open) {
      const key = decisionKey(id);
      const sizeBytes = await this.#context.objects.size(key);
      if (sizeBytes !== null) await this.#settleOne(key, sizeBytes);
      this.#open.delete(id);
    }
  }

  async #settleOne(key: string, sizeBytes: number): Promise<void> {
    const { objects, catalog, log } = this.#context;
    let decision: Decision;
    try {
      decision = await readDecision(objects, key, sizeBytes);
    } catch (error) {
      if (!(error instanceof StillpointError)) throw error;
      log(`${key} decides nothing: ${error.message}`);
      return;
    }
    catalog.enter(decision);
    await this.#carryOut(decision);
  }

  async #decide(decision: Decision): Promise<void> {
    const { objects, catalog } = this.#context;
    const bytes = encodeDecision(decision);
    const key = decisionKey(decision.id);
    this.#open.add(decision.id);
    if (!(await objects.put(key, bytes)))
      throw new StillpointError('store-damaged', { thing: key, reason: 'it is there already' });
    catalog.enter(decision);
    await this.#carryOut(decision);
    this.#open.delete(decision.id);
  }

  async #carryOut(decision: Decision): Promise<void> {
    const { objects, log } = this.#context;
    if (decision.does === 'commit') {
      for (const point of decision.points)
        await objects.put(pointKey(point, point.sequence), encodeManifest(point));
      // They are there. A copy that can't be made now is made at the next opening.
      for (const point of decision.points) {
        const key = pointKey(point, point.sequence);
        await copyManifest(objects, key).catch((error) => log(`copy of manifest ${key}: ${String(error)}`));
      }
    } else {
      for (const removed of decision.removed)
        await putMark(
          objects,
          pointKey(removed, removed.sequence),
          encodeSealed('stillpoint-removed', removed),
        );
      for (const removed of decision.removed) {
        const key = pointKey(removed, removed.sequence);
        await finishRemoval(objects, key).catch((error) =>
          log(`${key} is removed; its manifest goes when the store is opened next: ${String(error)}`),
        );
      }
    }
    await objects.delete(decisionKey(decision.id));
  }

  /** @param agent whose group it is; null: the receiver's, which count by themselves */
  #nextSequence(name: string, agent: string | null): number {
    let last = 0;
    for (const { group } of this.#context.catalog.all(agent ?? undefined)) {
      const isIt = group?.name === name && isOfReceiver(group) === (agent === null);
      if (isIt) last = Math.max(last, group.sequence);
    }
    return last + 1;
  }

  #checkIsNew({ id, name }: Pick<PointGroup, 'id' | 'name'>): void {
    if (!this.#context.catalog.all().some(({ group }) => group?.id === id)) return;
    throw new StillpointError('group-failed', {
      thing: `group ${name}`,
      reason: 'its id is that of a group that has points',
      remedy: 'Back the group up again.',
    });
  }

  /** Settling may have shown a point of an earlier try. */
  #checkIsNext(point: Point): void {
    if (this.#context.catalog.nextSequence(point) === point.sequence) return;
    throw new StillpointError('base-mismatch', {
      thing: `session ${point.id} of ${point.device}`,
      reason: 'its base is no longer the last point of the device',
      remedy: 'Begin another session.',
    });
  }
}
