/**
 * All points of a store, in memory: read from their manifests when the store is opened, added to by commits,
 * taken away by removals. A manifest that can't be read is not a point, but its sequence stays used. One with
 * a mark is not a point either, whatever it says: its removal was decided.
 */
import type { Point } from '../../domain/point/point.js';
import { errnoOf } from '../disk/disk.js';
import { POINTS_PREFIX, type PointPlace, pointPlaceOf } from '../disk/layout.js';
import type { ObjectStore } from '../objects/object-store.js';
import type { DeviceKey } from '../port/store.js';
import { decodeManifest, MANIFEST_BYTES_MAX } from './manifest.js';

export interface DamagedManifest {
  readonly key: string;
  readonly reason: string;
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
  #hasUnreadable = false;

  /** A manifest could not be read: which blocks its point needs is not known. */
  get hasUnreadable(): boolean {
    return this.#hasUnreadable;
  }

  /** Reads all manifests. @returns those that are no points */
  async load(objects: ObjectStore): Promise<DamagedManifest[]> {
    const damaged: DamagedManifest[] = [];
    const found = await objects.list(POINTS_PREFIX);
    const keys = new Set(found.map(({ key }) => key));
    for (const { key, sizeBytes } of found) {
      const place = pointPlaceOf(key);
      if (place === null) continue;
      this.#deviceOf(place).lastSequence = Math.max(this.#deviceOf(place).lastSequence, place.sequence);
      if (place.deleted) this.#deviceOf(place).marks.add(place.sequence);
      else if (keys.has(`${key}.deleted`)) this.#undeleted.push(key);
      if (place.deleted || keys.has(`${key}.deleted`)) continue;
      const point = await readManifest(objects, key, sizeBytes);
      if (!('reason' in point)) this.add(point, sizeBytes);
      else if ((await objects.size(key)) !== null) {
        damaged.push(point);
        this.#hasUnreadable = true;
      }
      // Otherwise the store's owner has removed it since the list was made.
    }
    return damaged;
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

/** The point of a manifest object, or why it is none. */
export async function readManifest(
  objects: ObjectStore,
  key: string,
  sizeBytes: number,
): Promise<Point | DamagedManifest> {
  const place = pointPlaceOf(key);
  if (place === null) return { key, reason: 'its name is not that of a point' };
  if (sizeBytes > MANIFEST_BYTES_MAX) return { key, reason: `it has ${sizeBytes} bytes` };
  try {
    return decodeManifest(await objects.read(key, 0, sizeBytes), place, key);
  } catch (error) {
    if (errnoOf(error) === 'EMFILE' || errnoOf(error) === 'ENFILE') throw error;
    return { key, reason: error instanceof Error ? error.message : String(error) };
  }
}

function nameOf(key: DeviceKey): string {
  return `${key.agent}/${key.device}`;
}
