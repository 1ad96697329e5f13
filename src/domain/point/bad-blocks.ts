/**
 * What a block becomes if some of its sectors can't be read: the readable bytes, and in each bad range the
 * content of the base point if that is known, otherwise a filler that names itself. Never zeros: they would
 * pass for data.
 */
import type { BadRange } from './point.js';

export interface ByteRange {
  readonly byteOffset: number;
  readonly byteLength: number;
}

const FILLER_LINE_BYTES = 64;

/**
 * The filler of a range: lines of 64 bytes, each with its own offset on the device, so that the same sectors
 * give the same bytes in every backup.
 * @param byteOffset on the device, a multiple of 64 (bad ranges are whole sectors).
 */
export function filler(byteOffset: number, byteLength: number): Uint8Array {
  const bytes = new Uint8Array(byteLength);
  const encoder = new TextEncoder();
  for (let done = 0; done < byteLength; done += FILLER_LINE_BYTES) {
    const line = `stillpoint: unreadable, not data: byte ${String(byteOffset + done).padStart(16, '0')}`;
    const encoded = encoder.encode(`${line.padEnd(FILLER_LINE_BYTES - 1)}\n`);
    bytes.set(encoded.subarray(0, byteLength - done), done);
  }
  return bytes;
}

export interface BadBlockFacts {
  /** Of the block, on the device. */
  readonly byteOffset: number;
  /** As far as they could be read. */
  readonly bytes: Uint8Array;
  /** Absolute, ascending, inside the block. */
  readonly badRanges: readonly ByteRange[];
  /** The same block in the base point, of the same length; null if it has none. */
  readonly previous: Uint8Array | null;
  /** Bad ranges of the base point: its own filler is not good content. */
  readonly previousBadRanges: readonly BadRange[];
}

export interface MadeWhole {
  readonly bytes: Uint8Array;
  /** Absolute, ascending. */
  readonly badRanges: readonly BadRange[];
}

export function makeWhole(block: BadBlockFacts): MadeWhole {
  const bytes = Uint8Array.from(block.bytes);
  const badRanges = block.badRanges.flatMap((range) => splitByContent(range, block));
  for (const { byteOffset, byteLength, content } of badRanges) {
    const at = byteOffset - block.byteOffset;
    bytes.set(
      content === 'previous' && block.previous !== null
        ? block.previous.subarray(at, at + byteLength)
        : filler(byteOffset, byteLength),
      at,
    );
  }
  return { bytes, badRanges };
}

/** Cuts a bad range where the base point changes between good content and its own filler. */
function splitByContent(range: ByteRange, block: BadBlockFacts): BadRange[] {
  const end = range.byteOffset + range.byteLength;
  if (block.previous === null) return [{ ...range, content: 'filler' }];
  const pieces: BadRange[] = [];
  const add = (from: number, to: number, content: BadRange['content']) => {
    if (to > from) pieces.push({ byteOffset: from, byteLength: to - from, content });
  };
  let at = range.byteOffset;
  for (const old of block.previousBadRanges) {
    const from = Math.max(at, old.byteOffset);
    const to = Math.min(end, old.byteOffset + old.byteLength);
    if (old.content !== 'filler' || to <= from) continue;
    add(at, from, 'previous');
    add(from, to, 'filler');
    at = to;
  }
  add(at, end, 'previous');
  return pieces;
}

/** Joins neighbours of the same content. Input ascending. */
export function mergeBadRanges(ranges: readonly BadRange[]): BadRange[] {
  const merged: BadRange[] = [];
  for (const range of ranges) {
    const last = merged.at(-1);
    if (last?.content === range.content && last.byteOffset + last.byteLength === range.byteOffset) {
      merged[merged.length - 1] = { ...last, byteLength: last.byteLength + range.byteLength };
    } else {
      merged.push(range);
    }
  }
  return merged;
}
