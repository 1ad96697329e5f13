/**
 * Which packs a scrub reads next, and how much. Pure.
 *
 * Packs wait in one queue, by when they were read back last; one that was never read waits since it was first
 * seen. So what was not read for the longest time comes first, and nothing is overtaken for ever.
 *
 * `percent` covers everything in 100/percent runs even if packs come and go: a run reads that part of the
 * largest total of as many runs. What exists at some time is then in front of all that comes later, and is
 * not more than that total.
 */

export interface QueuedPack {
  readonly packId: string;
  readonly sizeBytes: number;
  /** When it was read back last, or first seen; 0: not known. In ms. */
  readonly sinceMs: number;
  /** It was read back at `sinceMs`. */
  readonly isChecked: boolean;
}

/** Longest waiting first. */
export function byWaiting(packs: Iterable<QueuedPack>): QueuedPack[] {
  return [...packs].sort((a, b) => a.sinceMs - b.sinceMs || (a.packId < b.packId ? -1 : 1));
}

/** How many bytes the store had when a run began. */
export interface RunTotal {
  readonly atMs: number;
  readonly totalBytes: number;
}

/** @param earlier totals of earlier runs, ascending by time */
export function percentBytes(percent: number, totalBytes: number, earlier: readonly RunTotal[]): number {
  const runs = Math.ceil(100 / percent);
  const recent = runs > 1 ? earlier.slice(-(runs - 1)) : [];
  const greatest = Math.max(totalBytes, ...recent.map((run) => run.totalBytes));
  return Math.ceil((greatest * percent) / 100);
}

/** After a time in which nothing ran, not all of it is made up for at once. */
const SLICE_ELAPSED_MS_MAX = 24 * 60 * 60 * 1000;
/** So that a period is kept although slices are late, and packs are read whole. */
const SLICE_MARGIN = 1.25;

/** What a scheduled scrub reads in a slice, so that all is read within the period. */
export function sliceBytes(totalBytes: number, elapsedMs: number, periodMs: number): number {
  const elapsed = Math.min(Math.max(0, elapsedMs), SLICE_ELAPSED_MS_MAX, periodMs);
  return Math.ceil((totalBytes * elapsed * SLICE_MARGIN) / periodMs);
}

export interface Coverage {
  readonly packCount: number;
  readonly totalBytes: number;
  /** Ever read back. */
  readonly checkedBytes: number;
  /** Read back within the period. */
  readonly coveredBytes: number;
  readonly neverCheckedPacks: number;
  /** Of the pack that was not read back for the longest time; null: there are none, or it is not known. */
  readonly oldestMs: number | null;
  readonly lastCheckedMs: number | null;
}

export function coverageOf(packs: Iterable<QueuedPack>, nowMs: number, periodMs: number): Coverage {
  let [packCount, totalBytes, checkedBytes, coveredBytes, neverCheckedPacks] = [0, 0, 0, 0, 0];
  let oldestMs = Number.POSITIVE_INFINITY;
  let lastCheckedMs = 0;
  for (const { sizeBytes, sinceMs, isChecked } of packs) {
    packCount += 1;
    totalBytes += sizeBytes;
    oldestMs = Math.min(oldestMs, sinceMs);
    if (!isChecked) {
      neverCheckedPacks += 1;
      continue;
    }
    checkedBytes += sizeBytes;
    lastCheckedMs = Math.max(lastCheckedMs, sinceMs);
    if (sinceMs > nowMs - periodMs) coveredBytes += sizeBytes;
  }
  return {
    ...{ packCount, totalBytes, checkedBytes, coveredBytes, neverCheckedPacks },
    oldestMs: packCount === 0 || oldestMs === 0 ? null : oldestMs,
    lastCheckedMs: lastCheckedMs === 0 ? null : lastCheckedMs,
  };
}
