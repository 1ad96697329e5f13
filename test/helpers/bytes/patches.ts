/** Patches byte by byte (docs/format.md section 4), stored raw: everything is stated, nothing is checked. */
import { PIECE_BYTES } from '../../../src/domain/base/limits.js';

export interface TestPatch {
  /** The block that comes out. */
  readonly block: Uint8Array;
  /** Which pieces of it are sent. */
  readonly pieces: readonly number[];
  readonly magic?: string;
  readonly codec?: number;
  readonly storedLength?: number;
}

export function encodeTestPatch({ block, pieces, ...lies }: TestPatch): Buffer {
  const header = Buffer.alloc(12);
  header.write(lies.magic ?? 'SPD1', 'latin1');
  header.writeUInt8(lies.codec ?? 0, 4);
  const stored = Buffer.concat(
    pieces.map((piece) => block.subarray(piece * PIECE_BYTES, (piece + 1) * PIECE_BYTES)),
  );
  header.writeUInt32LE(lies.storedLength ?? stored.length, 8);
  const bits = Buffer.alloc(Math.ceil(block.length / PIECE_BYTES / 8));
  for (const piece of pieces) bits[piece >> 3] = (bits[piece >> 3] ?? 0) | (1 << (piece & 7));
  return Buffer.concat([header, bits, stored]);
}

/** The block with other bytes in these pieces. */
export function changePieces(block: Uint8Array, pieces: readonly number[], generation = 1): Buffer {
  const changed = Buffer.from(block);
  for (const piece of pieces) changed.write(`changed ${generation}`, piece * PIECE_BYTES + 100);
  return changed;
}
