/**
 * The blocks of a session's base point, for patches: what the receiver tells about them, and how a batch with
 * patches becomes one with whole blocks before the capture sees it. Staging, log and packs do not know
 * patches.
 *
 * No state except the memory that all sessions share. A base block can't change meanwhile: a point is
 * immutable.
 */

import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import {
  DIGEST_BYTES,
  PATCHED_BYTES_MAX,
  PIECE_DIGEST_BYTES,
  PIECES_RAW_BYTES_MAX,
  TREE_FANOUT,
} from '../../domain/base/limits.js';
import { blockCount, blockLength } from '../../domain/blocks/geometry.js';
import { encodePieces, pieceCount } from '../../domain/blocks/pieces.js';
import type { Point } from '../../domain/point/point.js';
import { isNull } from '../../domain/tree/digest-tree.js';
import { type BaseBodies, native } from '../../native/index.js';
import { encodeBlocks } from '../../protocol/codecs/blocks-codec.js';
import type { ByteBudget } from '../../protocol/transport/byte-budget.js';
import { toBatchError } from '../../store/disk/errors.js';
import { isDataError } from '../../store/packs/contents.js';
import type { CaptureDescription, Store } from '../../store/port/store.js';

const ADMISSION_MS = 30_000;

export interface BaseBlocksOptions {
  readonly store: Store;
  /** The base; null: the empty tree. */
  readonly base: Point | null;
  readonly description: CaptureDescription;
  /** For the blocks of batches with patches. */
  readonly memory: ByteBudget;
}

export class BaseBlocks {
  readonly point: Point | null;
  readonly #store: Store;
  readonly #description: CaptureDescription;
  readonly #memory: ByteBudget;

  constructor({ store, base, description, memory }: BaseBlocksOptions) {
    this.point = base;
    this.#store = store;
    this.#description = description;
    this.#memory = memory;
  }

  /** @param blockIndexes ascending, bounded in number. @throws StillpointError `bad-message` */
  async pieces(blockIndexes: readonly number[]): Promise<Uint8Array> {
    this.#checkQuestion(blockIndexes);
    const digests = await this.#digestsOf(await this.#comparable(blockIndexes));
    return encodePieces(blockIndexes.map((blockIndex) => digests.get(blockIndex) ?? null));
  }

  #checkQuestion(blockIndexes: readonly number[]): void {
    const { geometry } = this.#description;
    const last = blockIndexes.at(-1) ?? 0;
    if (last >= blockCount(geometry)) {
      throw badQuestion(`block ${last} lies outside of device ${this.#description.device}`);
    }
    const rawBytes = blockIndexes.reduce((sum, blockIndex) => sum + blockLength(geometry, blockIndex), 0);
    if (rawBytes <= PIECES_RAW_BYTES_MAX) return;
    throw badQuestion(`its blocks have ${rawBytes} bytes, and ${PIECES_RAW_BYTES_MAX} is the limit`);
  }

  /** Those that the base has content of, of the same length. */
  async #comparable(blockIndexes: readonly number[]): Promise<number[]> {
    const { point } = this;
    const { geometry } = this.#description;
    if (point === null) return [];
    const there = blockIndexes.filter(
      (blockIndex) =>
        blockIndex < blockCount(point.geometry) &&
        blockLength(point.geometry, blockIndex) === blockLength(geometry, blockIndex),
    );
    if (there.length === 0) return [];
    const nodes = [...new Set(there.map((blockIndex) => Math.floor(blockIndex / TREE_FANOUT)))];
    const contents = await this.#nodeContents(point, nodes);
    return there.filter((blockIndex) => {
      const content = contents.get(Math.floor(blockIndex / TREE_FANOUT));
      const at = (blockIndex % TREE_FANOUT) * DIGEST_BYTES;
      // A node's content ends before its last NULL digests.
      return content !== undefined && at < content.length && !isNull(content.subarray(at, at + DIGEST_BYTES));
    });
  }

  async #nodeContents(point: Point, nodes: readonly number[]): Promise<Map<number, Buffer>> {
    const contents = new Map<number, Buffer>();
    try {
      const answer = await this.#store.nodes(
        point,
        nodes.map((index) => ({ level: 1, index })),
      );
      for (const [n, node] of nodes.entries()) contents.set(node, answer[n] as Buffer);
    } catch (error) {
      // What the base has there is not known: whole blocks can be sent all the same.
      if (!isStillpointError(error, 'store-damaged')) throw error;
    }
    return contents;
  }

  /** Of all blocks that can be read. */
  async #digestsOf(blockIndexes: readonly number[]): Promise<Map<number, Buffer>> {
    try {
      return await this.#readDigests(blockIndexes);
    } catch (error) {
      if (!isDamage(error)) throw error;
    }
    // Something is damaged: each for itself.
    const digests = new Map<number, Buffer>();
    for (const blockIndex of blockIndexes) {
      try {
        for (const [index, bytes] of await this.#readDigests([blockIndex])) digests.set(index, bytes);
      } catch (error) {
        if (!isDamage(error)) throw error;
      }
    }
    return digests;
  }

  async #readDigests(blockIndexes: readonly number[]): Promise<Map<number, Buffer>> {
    const digests = new Map<number, Buffer>();
    const { point } = this;
    if (point === null || blockIndexes.length === 0) return digests;
    const base = await this.#read(point, blockIndexes);
    let rest = await native.pieceDigests(base, this.#description.sessionId, this.#store.digester);
    free(base);
    for (const blockIndex of blockIndexes) {
      const end = pieceCount(blockLength(point.geometry, blockIndex)) * PIECE_DIGEST_BYTES;
      digests.set(blockIndex, rest.subarray(0, end));
      rest = rest.subarray(end);
    }
    return digests;
  }

  /** As the native side takes them. The store lends as many at once as one answer may hold. */
  async #read(point: Point, blockIndexes: readonly number[]): Promise<BaseBodies> {
    const bodies: Buffer[] = [];
    for (let done = 0; done < blockIndexes.length; ) {
      done += await this.#store.blocks(point, blockIndexes.slice(done), async (blocks) => {
        bodies.push(await encodeBlocks(point.id, blocks));
        return blocks.blockIndexes.length;
      });
    }
    return { bodies, pointId: point.id, ...point.geometry };
  }

  /**
   * Has the batch taken with whole blocks only.
   * @throws StillpointError `bad-patch`, with nothing taken; `busy`; what is refused of any batch
   */
  async withWholeBlocks<T>(
    sequence: number,
    body: Uint8Array,
    take: (body: Uint8Array) => Promise<T>,
  ): Promise<T> {
    const { agent, geometry } = this.#description;
    const patched = [...native.patchedBlocks(body, blockCount(geometry))];
    if (patched.length === 0) return take(body);
    const rawBytes = patched.reduce((sum, blockIndex) => sum + blockLength(geometry, blockIndex), 0);
    if (rawBytes > PATCHED_BYTES_MAX) {
      throw new StillpointError('too-large', {
        thing: this.#nameOf(sequence),
        reason: `its patches make blocks of ${rawBytes} bytes, and ${PATCHED_BYTES_MAX} is the limit`,
      });
    }
    // The base's blocks, and those that are made of them.
    const release = await this.#memory.acquire(agent, 2 * rawBytes, ADMISSION_MS);
    try {
      const whole = await this.#resolve(sequence, body, patched);
      release(rawBytes);
      const answer = await take(whole);
      native.freeBuffer(whole);
      return answer;
    } finally {
      release();
    }
  }

  async #resolve(sequence: number, body: Uint8Array, patched: readonly number[]): Promise<Buffer> {
    const { sessionId, geometry } = this.#description;
    const thing = this.#nameOf(sequence);
    const there = await this.#comparable(patched);
    const { point } = this;
    if (point === null || there.length < patched.length) {
      const lacking = patched.find((blockIndex) => !there.includes(blockIndex));
      throw badPatch(thing, `the session's base has no block ${lacking} to put a patch over`);
    }
    try {
      const base = await this.#read(point, patched);
      const bounds = { sessionId, sequence, ...geometry, digester: this.#store.digester };
      const whole = await native.resolvePatches(body, bounds, base);
      free(base);
      return whole;
    } catch (error) {
      if (isStillpointError(error, 'store-damaged')) throw badPatch(thing, error.message, error);
      if ((error as { code?: unknown }).code === 'bad-patch') {
        throw badPatch(thing, (error as Error).message, error);
      }
      throw toBatchError(error, thing);
    }
  }

  #nameOf(sequence: number): string {
    return `batch ${sequence} of session ${this.#description.sessionId} of ${this.#description.device}`;
  }
}

function free({ bodies }: BaseBodies): void {
  for (const body of bodies) native.freeBuffer(body);
}

function isDamage(error: unknown): boolean {
  return isStillpointError(error, 'store-damaged') || isDataError(error);
}

function badQuestion(reason: string): StillpointError {
  return new StillpointError('bad-message', { thing: 'pieces request', reason });
}

function badPatch(thing: string, reason: string, cause?: unknown): StillpointError {
  return new StillpointError('bad-patch', {
    thing,
    reason,
    remedy:
      'Nothing of the batch was kept. Begin another session, which has other digests, or send whole blocks.',
    cause,
  });
}
