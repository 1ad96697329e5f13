/**
 * What `thin_delta` prints: how the mappings of two thin volumes of a pool differ. Blocks that neither has
 * are not named. All but `same` may differ: `different`, and what only one of the two has (written for the
 * first time, or discarded).
 */
import type { BlockRange } from '../blocks/block-ranges.js';

/** What an answer is refused for, a clause. */
export class BadDelta extends Error {}

export interface ThinDelta {
  readonly blockBytes: number;
  /** In blocks of the pool, ascending, apart. */
  readonly ranges: readonly BlockRange[];
}

const SECTOR_BYTES = 512;
/** The kernel's: 64 KiB to 1 GiB. */
const POOL_BLOCK_BYTES_MIN = 64 * 1024;
const POOL_BLOCK_BYTES_MAX = 1024 * 1024 * 1024;
const DIFFERING: ReadonlySet<string> = new Set(['different', 'left_only', 'right_only']);
const ELEMENT = /^<(\/?)([a-z_]+)((?:\s+[a-z_0-9]+="[^"<>]*")*)\s*(\/?)>$/;

/** @param before, after ids of the two volumes in their pool. @throws BadDelta */
export function parseThinDelta(
  text: string,
  {
    before,
    after,
    sizeBytes,
  }: { readonly before: number; readonly after: number; readonly sizeBytes: number },
): ThinDelta {
  const lines = text.split('\n').flatMap((line) => (line.trim() === '' ? [] : [line.trim()]));
  const [first, second, ...rest] = lines.map(element);
  if (first?.name !== 'superblock' || second?.name !== 'diff') throw new BadDelta('it compares nothing');
  if (number(second, 'left') !== before || number(second, 'right') !== after)
    throw new BadDelta('it compares other volumes');
  const [diffEnd, end] = rest.splice(-2);
  const isWhole = diffEnd?.closes && diffEnd.name === 'diff' && end?.closes && end.name === 'superblock';
  if (isWhole !== true) throw new BadDelta('it is cut off');

  const blockBytes = number(first, 'data_block_size') * SECTOR_BYTES;
  if (blockBytes < POOL_BLOCK_BYTES_MIN || blockBytes > POOL_BLOCK_BYTES_MAX)
    throw new BadDelta(`the pool has blocks of ${blockBytes} bytes`);
  const blockCount = Math.ceil(sizeBytes / blockBytes);
  const ranges: [number, number][] = [];
  let reached = 0;
  for (const one of rest) {
    if (one.closes || !(one.name === 'same' || DIFFERING.has(one.name)))
      throw new BadDelta(`it has an unknown element, ${one.name}`);
    const start = number(one, 'begin');
    const end = start + number(one, 'length');
    if (start < reached || end <= start || end > blockCount)
      throw new BadDelta('its ranges are out of order');
    reached = end;
    if (one.name === 'same') continue;
    const last = ranges.at(-1);
    if (last?.[1] === start) last[1] = end;
    else ranges.push([start, end]);
  }
  return { blockBytes, ranges };
}

interface Element {
  readonly name: string;
  readonly closes: boolean;
  readonly attributes: string;
}

function element(line: string): Element {
  const match = ELEMENT.exec(line);
  if (match === null) throw new BadDelta('it is not of the known form');
  return { name: match[2] ?? '', closes: match[1] === '/', attributes: match[3] ?? '' };
}

function number({ name, attributes }: Element, attribute: string): number {
  const text = new RegExp(`\\s${attribute}="(\\d{1,15})"`).exec(attributes)?.[1];
  if (text === undefined) throw new BadDelta(`${name} has no ${attribute}`);
  return Number(text);
}
