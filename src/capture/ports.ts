/**
 * The two ports of capture (design.md section 4): where the static view comes from, and where changes are known from. `offline` is
 * the first provider; tap, live, lvm and reflink fit beside it. A session works on these ports alone.
 */
import type { ConsistencyKind, DeviceIdentity } from '../domain/point.js';
import type { Device } from '../native/index.js';

export interface HoldOptions {
  /** Asked for by name: go on without a single instant, and label the point `fuzzy`. */
  readonly fuzzy: boolean;
  readonly signal?: AbortSignal | undefined;
}

/** A readable instant of a device. */
export interface Snapshot {
  /** Static until `release`, as far as `conclude` confirms it. */
  readonly device: Device;
  readonly identity: DeviceIdentity;
  readonly instant: Date;
  /** The best that the point can become. */
  readonly kind: ConsistencyKind;
  readonly warnings: readonly string[];
  /**
   * After the last read, before the commit: what the view was really worth.
   * @throws StillpointError `device-changed` where it was no single instant, unless fuzzy was asked for.
   */
  conclude(): Promise<{ readonly kind: ConsistencyKind; readonly warnings: readonly string[] }>;
  /** Frees all that was acquired, in reverse order. Harmless a second time. */
  release(): Promise<void>;
}

export interface SnapshotProvider {
  /** Stored with the point: `offline`, `tap`, ... */
  readonly name: string;
  /**
   * Quiesces the device and holds an instant of it.
   * @throws StillpointError `device-not-found`, `device-in-use`, `device-io`
   */
  hold(path: string, options: HoldOptions): Promise<Snapshot>;
}

/** Blocks [start, end), ascending. */
export type BlockRange = readonly [number, number];

export interface ChangeTracker {
  /**
   * Every block that may differ between the point and the held snapshot: too many, never too few. Null where that is not
   * certain (a crash, another generation): the session then compares digests of everything.
   */
  changedSince(pointId: string, blockSize: number): Promise<readonly BlockRange[] | null>;
  /** The snapshot was committed as this point: later questions start there. */
  committed(pointId: string): Promise<void>;
}
