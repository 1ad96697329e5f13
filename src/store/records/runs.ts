/** Which records are close together in one pack, so that they are read in one go. */
import { KiB, MiB } from '../../domain/base/limits.js';
import type { Location } from '../index/record-index.js';
import { RECORD_HEADER_BYTES } from '../packs/entries.js';

/** Records farther apart are read apart. */
const GAP_BYTES_MAX = 64 * KiB;
const RUN_BYTES_MAX = 8 * MiB;

export interface Placed {
  readonly at: Location;
}

export function byPlace(a: Placed, b: Placed): number {
  return a.at.packNumber - b.at.packNumber || a.at.offset - b.at.offset;
}

/** Neighbours in one pack. @param items by place */
export function* runsOf<T extends Placed>(items: readonly T[]): Generator<T[]> {
  let run: T[] = [];
  for (const item of items) {
    const first = run[0]?.at;
    const last = run.at(-1)?.at;
    const joins =
      first !== undefined &&
      last !== undefined &&
      first.packNumber === item.at.packNumber &&
      item.at.offset - endOf(last) <= GAP_BYTES_MAX &&
      endOf(item.at) - first.offset <= RUN_BYTES_MAX;
    if (!joins && run.length > 0) {
      yield run;
      run = [];
    }
    run.push(item);
  }
  if (run.length > 0) yield run;
}

export function startOf(run: readonly Placed[]): number {
  return run[0]?.at.offset ?? 0;
}

export function endOf(at: Location): number {
  return at.offset + RECORD_HEADER_BYTES + at.storedLength;
}
