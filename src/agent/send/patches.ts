/**
 * Asks for the pieces of a chunk's blocks if that pays, so that blocks that changed only a little are sent as
 * patches.
 */

import { StillpointError } from '../../domain/base/errors.js';
import { PIECE_BYTES } from '../../domain/base/limits.js';
import { blockLength, type Geometry } from '../../domain/blocks/geometry.js';
import { pieceQuestions, piecesOfEntries, splitPieces } from '../../domain/blocks/pieces.js';
import { type PatchMode, PatchPolicy } from '../../domain/session/patching.js';
import { isNull } from '../../domain/tree/digest-tree.js';
import type { ScanChunk, TreeFile } from '../../native/index.js';
import type { SessionLink } from './session-link.js';

export interface PatchOptions {
  readonly link: SessionLink;
  /** Of the session's base, as the receiver has it. */
  readonly baseTree: TreeFile;
  readonly patch: PatchMode;
  /** Absent where nothing lies between: the receiver is in this process. */
  readonly linkBytesPerSecond?: (() => number | null) | undefined;
}

/** What the receiver told of a chunk's blocks, for it and for every part that it is cut into. */
export class AskedPieces {
  readonly #size: Geometry;
  /** By block index. */
  readonly #parts: ReadonlyMap<number, Uint8Array>;

  constructor(size: Geometry, parts: ReadonlyMap<number, Uint8Array>) {
    this.#size = size;
    this.#parts = parts;
  }

  /** For its `encode`. */
  of({ blockIndexes }: ScanChunk): Uint8Array {
    return Buffer.concat(piecesOfEntries(blockIndexes, this.#parts));
  }

  /** Of the blocks that were asked about. */
  bytesOf({ blockIndexes }: ScanChunk): number {
    return blockIndexes.reduce(
      (sum, blockIndex) => sum + (this.#parts.has(blockIndex) ? blockLength(this.#size, blockIndex) : 0),
      0,
    );
  }
}

export class Patches {
  readonly #options: PatchOptions;
  readonly #policy: PatchPolicy;

  constructor(options: PatchOptions) {
    this.#options = options;
    this.#policy = new PatchPolicy(options.patch);
  }

  /** Null: its blocks go whole. */
  async ask(chunk: ScanChunk): Promise<AskedPieces | null> {
    const { link, baseTree, linkBytesPerSecond } = this.#options;
    if (baseTree.blockSize <= PIECE_BYTES) return null;
    const { blockIndexes } = chunk;
    const asked = [...blockIndexes].filter((blockIndex) => !isNull(baseTree.leaves(blockIndex, 1)));
    if (asked.length === 0 || !this.#policy.shouldAsk(linkBytesPerSecond?.())) return null;
    const parts = new Map<number, Uint8Array>();
    for (const question of pieceQuestions(asked, baseTree)) {
      const answer = await link.pieces(question);
      const lengths = question.map((blockIndex) => blockLength(baseTree, blockIndex));
      const split = splitPieces(answer, lengths);
      if (split === null) throw badAnswer();
      for (const [i, part] of split.entries()) parts.set(question[i] ?? 0, part);
    }
    return new AskedPieces(baseTree, parts);
  }

  /** After the chunk was encoded. */
  observe(chunk: ScanChunk, asked: AskedPieces | null): void {
    if (asked !== null) this.#policy.observe(asked.bytesOf(chunk), chunk.patchStatistics.unsentBytes);
  }
}

function badAnswer(): StillpointError {
  return new StillpointError('bad-message', {
    thing: 'answer to pieces',
    reason: 'it does not have the digests that were asked for',
    remedy: 'Agent and receiver may be of different versions; update the older one.',
  });
}
