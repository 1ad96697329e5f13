/**
 * What LVM tags say: of a snapshot, that it is ours and what it is of; of a volume, what its owner wants.
 * LVM keeps them in the metadata of the group, so they are as durable as the snapshot itself.
 *
 * | a snapshot       | tags                                   | is removed by                        |
 * |------------------|----------------------------------------|--------------------------------------|
 * | of a session     | stillpoint, stillpoint-session=ID, ... | its session, or the volume's next    |
 * | kept, to compare | stillpoint, stillpoint-point=ID, ...   | the session that commits the next    |
 * | with             |                                        | point, or one that finds it useless  |
 *
 * The id of a session is that of the point that it may become: a snapshot whose session was committed without
 * its agent hearing of it is as good as a kept one.
 */
import type { BlockRange } from '../blocks/block-ranges.js';

const OURS = 'stillpoint';
const SESSION = 'stillpoint-session=';
const POINT = 'stillpoint-point=';
const SIZE = 'stillpoint-size=';
const EXTRA = 'stillpoint-extra=';
const MAPPING = 'stillpoint-mapping';
const NAME = /^stillpoint-[0-9a-f]{32}$/;
const ID = /^[0-9a-f]{32}$/;
/** LVM allows 1024 characters in a tag. */
const RANGES_PER_TAG = 20;
const EXTRA_TAGS_MAX = 10;

export interface OurTags {
  /** The point that it is of, or becomes. */
  readonly id: string;
  readonly isKept: boolean;
  /** Of the volume when it was taken. */
  readonly sizeBytes: number;
  /** Differ from the point, too; in bytes. */
  readonly extra: readonly BlockRange[];
  /** Its session may have held the metadata of the pool. */
  readonly isMapping: boolean;
}

export const snapshotName = (sessionId: string): string => `stillpoint-${sessionId}`;

export function sessionTags(sessionId: string, sizeBytes: number, isMapping: boolean): string[] {
  const tags = [OURS, `${SESSION}${sessionId}`, `${SIZE}${sizeBytes}`];
  return isMapping ? [...tags, MAPPING] : tags;
}

/** Added to a snapshot that is kept, and removed from it. */
export function keptTags(sessionId: string): { readonly added: string[]; readonly removed: string[] } {
  return { added: [`${POINT}${sessionId}`], removed: [`${SESSION}${sessionId}`, MAPPING] };
}

/** @returns null: they are too many for tags. */
export function extraTags(ranges: readonly BlockRange[]): string[] | null {
  const tags: string[] = [];
  for (let at = 0; at < ranges.length; at += RANGES_PER_TAG) {
    const some = ranges.slice(at, at + RANGES_PER_TAG);
    tags.push(`${EXTRA}${some.map(([start, end]) => `${start.toString(16)}-${end.toString(16)}`).join('+')}`);
  }
  return tags.length <= EXTRA_TAGS_MAX ? tags : null;
}

/** @returns null: it is not ours, and nothing is done to it. */
export function ourTags(name: string, tags: readonly string[]): OurTags | null {
  if (!NAME.test(name) || !tags.includes(OURS)) return null;
  const after = (prefix: string): string[] =>
    tags.flatMap((tag) => (tag.startsWith(prefix) ? [tag.slice(prefix.length)] : []));
  const [point] = after(POINT);
  const id = point ?? after(SESSION)[0] ?? '';
  const sizeBytes = Number(after(SIZE)[0] ?? Number.NaN);
  if (!ID.test(id) || !Number.isSafeInteger(sizeBytes)) return null;
  const extra = after(EXTRA).flatMap((text) => text.split('+').map(rangeOf));
  return {
    id,
    isKept: point !== undefined,
    sizeBytes,
    extra: extra.sort(([a], [b]) => a - b),
    isMapping: tags.includes(MAPPING),
  };
}

function rangeOf(text: string): BlockRange {
  const [start = Number.NaN, end = Number.NaN] = text.split('-').map((part) => Number.parseInt(part, 16));
  return [start, end];
}

export interface VolumePolicy {
  /** Null: as it is best for this kind of volume. */
  readonly keeps: boolean | null;
  /** Of a thick volume's size: what its snapshot has at first, and at most. */
  readonly startPercent: number;
  readonly maxPercent: number;
}

/** @param tags of a volume that is backed up. Numbers that make no sense are those by default. */
export function policyOf(tags: readonly string[]): VolumePolicy {
  const percent = (name: string, byDefault: number): number => {
    const text = tags.find((tag) => tag.startsWith(`stillpoint-${name}=`))?.split('=')[1] ?? '';
    const value = /^\d{1,3}$/.test(text) ? Number(text) : byDefault;
    return value >= 1 && value <= 100 ? value : byDefault;
  };
  const startPercent = percent('start', 10);
  const wish = tags.includes('stillpoint-keep') ? true : null;
  return {
    keeps: tags.includes('stillpoint-drop') ? false : wish,
    startPercent,
    maxPercent: Math.max(startPercent, percent('max', 50)),
  };
}
