/**
 * Clones of an image that backups keep (src/capture/providers/reflink): their names, which of them is to be
 * compared with, and what making one costs. Pure.
 */
import { type BlockRange, mergeRanges } from '../blocks/block-ranges.js';

/** A file name's limit on Linux. */
const NAME_BYTES_MAX = 255;
const PATTERN = /^\..+\.stillpoint-([0-9a-f]{32})$/s;

/** Hidden, and beside the image. @param cloneId 32 hex digits */
export function cloneName(imageName: string, cloneId: string): string {
  const suffix = `.stillpoint-${cloneId}`;
  let kept = '';
  let leftBytes = NAME_BYTES_MAX - 1 - suffix.length;
  for (const character of imageName) {
    leftBytes -= Buffer.byteLength(character);
    if (leftBytes < 0) break;
    kept += character;
  }
  return `.${kept}${suffix}`;
}

/** Null: it is not the name of a clone. */
export function cloneIdOf(name: string): string | null {
  return PATTERN.exec(name)?.[1] ?? null;
}

/** What is recorded of a clone. */
export interface RecordedClone {
  /** The point that it has the content of. */
  readonly pointId: string;
  /** `held`: of a session that may have been committed. `kept`: the point is committed. */
  readonly state: 'held' | 'kept';
  /** When it was made. */
  readonly madeAtMs: number;
}

/**
 * Which of the clones a session compares with, and which are of no use any more.
 * @param basePointId the last point. Null: it is not known, or not asked for
 */
export function sortClones<Clone extends RecordedClone>(
  clones: readonly Clone[],
  basePointId: string | null,
): { readonly base: Clone | null; readonly useless: readonly Clone[] } {
  const newest = (of: readonly Clone[]): Clone | null =>
    of.reduce<Clone | null>(
      (best, clone) => (best === null || clone.madeAtMs > best.madeAtMs ? clone : best),
      null,
    );
  const base = newest(clones.filter(({ pointId }) => pointId === basePointId));
  // Without a match, another store's last point may be the one that a later session asks for.
  const useful =
    base === null
      ? [
          newest(clones.filter(({ state }) => state === 'kept')),
          newest(clones.filter(({ state }) => state === 'held')),
        ]
      : [base];
  return { base, useless: clones.filter((clone) => !useful.includes(clone)) };
}

export type CloneFileSystem = 'xfs' | 'btrfs';

/** Measured: for so long each extent of the image keeps its writers waiting. */
const EXTENT_US: Readonly<Record<CloneFileSystem, number>> = { xfs: 18, btrfs: 7.5 };
/** A wait that is worth a word. */
const STALL_MS_NOTED = 100;
/** A wait that nobody shall have who did not ask for it. */
const STALL_MS_MAX = 2_000;

/** A freeze ends by then, and the instant of several devices is over. */
const STALL_MS_POSSIBLE = 10_000;

export interface Stall {
  readonly ms: number;
  readonly is: 'short' | 'noted' | 'too-long' | 'impossible';
}

/** How long writers would wait for a clone of an image with so many extents. */
export function expectedStall(fileSystem: CloneFileSystem, extentCount: number): Stall {
  const ms = (EXTENT_US[fileSystem] * extentCount) / 1000;
  if (ms > STALL_MS_POSSIBLE) return { ms, is: 'impossible' };
  return { ms, is: ms > STALL_MS_MAX ? 'too-long' : ms > STALL_MS_NOTED ? 'noted' : 'short' };
}

export interface MadeClone {
  readonly fileSystem: CloneFileSystem;
  readonly extentCount: number;
  /** How long it took. */
  readonly cloneMs: number;
}

/**
 * What the point is to say of the time that a clone took: a sentence after "programs that write to it waited
 * N ms while it was cloned". A busy disk may take some of it, too, and is worth no word before it takes long.
 * @returns null: nothing
 */
export function stallWarning({ fileSystem, extentCount, cloneMs }: MadeClone): string | null {
  const waited = `programs that write to it waited ${Math.round(cloneMs)} ms while it was cloned`;
  if (expectedStall(fileSystem, extentCount).is !== 'short')
    return `${waited}, because it has ${extentCount} extents; defragment it`;
  return cloneMs > STALL_MS_MAX ? `${waited}, because its file system was busy` : null;
}

/** So many ranges at most are recorded with a clone. */
const RANGES_MAX = 4096;
const GRAIN_BYTES_MIN = 1024 * 1024;

/**
 * The union, in so few ranges that it can be recorded: too many bytes rather than too many ranges.
 * @param byteRanges [start, end), in any order
 */
export function boundedRanges(byteRanges: readonly BlockRange[]): BlockRange[] {
  const union = (of: readonly BlockRange[]): BlockRange[] =>
    mergeRanges(
      [...of].sort(([a], [b]) => a - b),
      [],
    );
  let bounded = union(byteRanges);
  for (let grain = GRAIN_BYTES_MIN; bounded.length > RANGES_MAX; grain *= 4) {
    bounded = union(
      bounded.map(([start, end]) => [Math.floor(start / grain) * grain, Math.ceil(end / grain) * grain]),
    );
  }
  return bounded;
}
