/**
 * All points of a store, in memory: read from their manifests when the store is opened, added to by commits,
 * taken away by removals. A manifest that can't be read, nor its copy, is not a point, but its sequence stays
 * used. One with a mark is not a point either, whatever it says: its removal was decided.
 */
import { groupPoints, isPart } from '../../domain/point/group.js';
import type { Point, RemovedPoint } from '../../domain/point/point.js';
import type { PointPlace } from '../disk/layout.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { DeviceKey } from '../port/store.js';
import { type Decision, listDecisions } from './decision-file.js';
import { encodeManifest } from './manifest.js';
import {
  findManifest,
  isMarked,
  isRemoved,
  lacksCopy,
  listManifests,
  type ManifestFiles,
} from './manifest-files.js';

export interface LoadedManifests {
  /** Those that are whole, and are to get their copy by `addCopy`. */
  readonly uncopied: readonly ManifestFiles[];
  /** Those that are not carried out to the end; their points count as they say. */
  readonly decisions: readonly Decision[];
}

interface DevicePoints {
  /** By sequence. */
  readonly points: Point[];
  readonly marks: Set<number>;
  lastSequence: number;
}

export class PointCatalog {
  readonly #devices = new Map<string, DevicePoints>();
  readonly #byId = new Map<string, Point>();
  readonly #bytesById = new Map<string, number>();
  /** Manifests that have a mark. */
  readonly #undeleted: string[] = [];
  /** By agent. */
  readonly #manifestBytes = new Map<string, number>();

  /** Reads all manifests; of one that is damaged or gone, its copy. */
  async load(objects: ObjectStore, log: (message: string) => void): Promise<LoadedManifests> {
    const uncopied: ManifestFiles[] = [];
    const before = await listDecisions(objects, log);
    for (const files of await listManifests(objects)) {
      const { key, place } = files;
      this.#deviceOf(place).lastSequence = Math.max(this.#deviceOf(place).lastSequence, place.sequence);
      if (isRemoved(files)) {
        this.#deviceOf(place).marks.add(place.sequence);
        if (files.manifestBytes !== null || files.copyBytes !== null) this.#undeleted.push(key);
        if (lacksCopy(files)) uncopied.push(files);
        continue;
      }
      const { point, sizeBytes, fault } = await findManifest(objects, files);
      if (point !== null) {
        this.add(point, sizeBytes);
        if (fault !== null)
          log(`manifest ${key}: ${fault}; its copy is used, and "stillpoint receiver repair" mends it`);
        else if (lacksCopy(files)) uncopied.push(files);
      } else if (!(await isMarked(objects, key))) {
        log(`manifest ${key} is no point: ${fault}, and it has no whole copy`);
      }
      // Otherwise the store's owner has removed it since the list was made.
    }
    const decisions = [...before, ...(await listDecisions(objects, log))];
    for (const decision of decisions) this.enter(decision);
    return { uncopied, decisions };
  }

  /** @param manifestBytes of its manifest, which is about what it takes in memory */
  add(point: Point, manifestBytes: number): void {
    const device = this.#deviceOf(point);
    device.points.push(point);
    device.points.sort((a, b) => a.sequence - b.sequence);
    device.lastSequence = Math.max(device.lastSequence, point.sequence);
    this.#byId.set(point.id, point);
    this.#bytesById.set(point.id, manifestBytes);
    this.#manifestBytes.set(point.agent, this.manifestBytes(point.agent) + manifestBytes);
  }

  /** Of a point whose mark is there. Its sequence stays used. */
  remove({ id, agent, device, sequence }: Point): void {
    const known = this.#deviceOf({ agent, device });
    const at = known.points.findIndex((point) => point.id === id);
    if (at < 0) return;
    known.points.splice(at, 1);
    known.marks.add(sequence);
    this.#byId.delete(id);
    this.#manifestBytes.set(agent, this.manifestBytes(agent) - (this.#bytesById.get(id) ?? 0));
    this.#bytesById.delete(id);
  }

  /** What the decision says of points counts, whatever is there of their manifests and marks. */
  enter(decision: Decision): void {
    if (decision.does === 'remove') {
      for (const removed of decision.removed) this.#removePlace(removed);
      return;
    }
    for (const point of decision.points)
      if (!this.#byId.has(point.id)) this.add(point, encodeManifest(point).length);
  }

  /** As `remove`, also of a point that is not here. */
  #removePlace({ id, ...place }: RemovedPoint): void {
    const point = this.#byId.get(id);
    if (point !== undefined) this.remove(point);
    const known = this.#deviceOf(place);
    known.marks.add(place.sequence);
    known.lastSequence = Math.max(known.lastSequence, place.sequence);
  }

  /**
   * A point that is kept under another name now. If it is known under both, as after a rename that was not
   * finished, one of them stays.
   */
  replace(former: Point, point: Point, manifestBytes: number): void {
    this.remove(former);
    const known = this.ofDevice(point).find(({ id }) => id === point.id);
    if (known === undefined) this.add(point, manifestBytes);
    else {
      this.#byId.set(point.id, known);
      this.#bytesById.set(point.id, manifestBytes);
    }
  }

  /** Keys of manifests that were there with a mark when the store was opened. */
  undeleted(): readonly string[] {
    return this.#undeleted;
  }

  /** Marks of sequences that are used even without them: the device has a later name. */
  surplusMarks(): Omit<PointPlace, 'deleted'>[] {
    return [...this.#devices].flatMap(([name, { marks, lastSequence }]) => {
      const [agent = '', device = ''] = name.split('/');
      const surplus = [...marks].filter((sequence) => sequence < lastSequence);
      return surplus.map((sequence) => ({ agent, device, sequence }));
    });
  }

  forgetMark(place: Omit<PointPlace, 'deleted'>): void {
    this.#deviceOf(place).marks.delete(place.sequence);
  }

  /** Of all points of an agent. */
  manifestBytes(agent: string): number {
    return this.#manifestBytes.get(agent) ?? 0;
  }

  byId(pointId: string): Point | undefined {
    return this.#byId.get(pointId);
  }

  /** One device's points by sequence. */
  ofDevice(key: DeviceKey): readonly Point[] {
    return this.#devices.get(nameOf(key))?.points ?? [];
  }

  /** Points by agent, device, sequence. */
  all(agent?: string): Point[] {
    const names = [...this.#devices.keys()].sort();
    const points = names.flatMap((name) => this.#devices.get(name)?.points ?? []);
    return agent === undefined ? points : points.filter((point) => point.agent === agent);
  }

  nextSequence(key: DeviceKey): number {
    return (this.#devices.get(nameOf(key))?.lastSequence ?? 0) + 1;
  }

  #deviceOf(key: DeviceKey): DevicePoints {
    const known = this.#devices.get(nameOf(key));
    if (known !== undefined) return known;
    const device: DevicePoints = { points: [], marks: new Set(), lastSequence: 0 };
    this.#devices.set(nameOf(key), device);
    return device;
  }
}

function nameOf(key: DeviceKey): string {
  return `${key.agent}/${key.device}`;
}

/**
 * For a reader beside the store's owner, who may make or remove all points of a group meanwhile: what is seen
 * of one in part is looked at again.
 */
export async function loadBesideOwner(
  objects: ObjectStore,
  log: (message: string) => void,
): Promise<PointCatalog> {
  const catalog = new PointCatalog();
  await catalog.load(objects, log);
  const points = catalog.all();
  const whole = new Set(groupPoints(points).flatMap((group) => (isPart(group) ? [] : [group.id])));
  if (points.every(({ group }) => group === undefined || whole.has(group.id))) return catalog;
  const again = new PointCatalog();
  await again.load(objects, log);
  return again;
}
