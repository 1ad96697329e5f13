/**
 * Writes ranges of a point to a device: zeros are zeroed; everything else is fetched, proven and written. In
 * no particular order; it flushes only when asked.
 */

import { BLOCKS_REQUEST_RAW_BYTES } from '../../domain/base/limits.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { blockLength } from '../../domain/blocks/geometry.js';
import type { Point } from '../../domain/point/point.js';
import type { Fetching } from '../../domain/session/sending.js';
import { type Device, native, type RestoreWriter, type TreeFile } from '../../native/index.js';
import { decodeBlocks } from '../../protocol/codecs/blocks-codec.js';
import type { BlockSource } from '../../protocol/port/point.js';
import { throwIfCancelled, unlessAborted } from '../common/cancel.js';
import { InFlight } from '../common/in-flight.js';
import { blockGroups, fetchGroup, type LostHandling, zeroRuns } from '../target/block-requests.js';
import { isLostBlock } from './lost-blocks.js';

/** Without a link, in one process with the receiver. */
export const FETCHING_UNMETERED: Fetching = { rawBytes: BLOCKS_REQUEST_RAW_BYTES, window: 4 };

export interface PointSource {
  readonly receiver: BlockSource;
  readonly point: Point;
  /** The point's, proven. */
  readonly tree: TreeFile;
  /** What is asked for at once, and how often at a time: as the link carries it now. */
  readonly fetching: () => Fetching;
  readonly signal: AbortSignal;
  /** So many bytes more are done; fetched ones were not zero. */
  readonly onDone: (byteLength: number, isFetched: boolean) => void;
  /**
   * Zeros are written for blocks that the receiver can't give, and it is told. Undefined: the restore fails.
   */
  readonly onLost?: ((blockIndex: number) => void) | undefined;
}

export class PointWriter {
  readonly #source: PointSource;
  readonly #writer: RestoreWriter;

  constructor(source: PointSource, device: Device) {
    this.#source = source;
    this.#writer = native.createRestoreWriter(device, source.tree);
  }

  /** @param skipZeros what is zero is zero there already */
  async write(ranges: readonly BlockRange[], skipZeros: boolean): Promise<void> {
    const { tree, signal, onDone } = this.#source;
    for (const { byteOffset, byteLength } of zeroRuns(tree, ranges)) {
      throwIfCancelled(signal);
      if (!skipZeros) await this.#writer.zero(byteOffset, byteLength);
      onDone(byteLength, false);
    }
    await this.#fetch(ranges);
  }

  async #fetch(ranges: readonly BlockRange[]): Promise<void> {
    const { receiver, point, tree, fetching, signal, onDone } = this.#source;
    const groups = new InFlight(() => fetching().window);
    try {
      for (const group of blockGroups(tree, ranges, () => fetching().rawBytes)) {
        throwIfCancelled(signal);
        const onBatch = async (body: Uint8Array) => {
          const { writtenBytes } = await this.#writer.write(body, point.id);
          onDone(writtenBytes, true);
        };
        const lost = lostHandling(this.#source, async (blockIndex, byteLength) => {
          await this.#writer.zero(blockIndex * tree.blockSize, byteLength);
          onDone(byteLength, false);
        });
        const work = () => fetchGroup(receiver, point, group, onBatch, lost);
        await unlessAborted(signal, groups.start(work));
      }
      await unlessAborted(signal, groups.drain());
    } finally {
      await groups.settle();
    }
  }

  zero(byteOffset: number, byteLength: number): Promise<void> {
    return this.#writer.zero(byteOffset, byteLength);
  }

  flush(): Promise<void> {
    return this.#writer.flush();
  }

  /** First differing block, or null. */
  verify(onProgress: (doneBytes: number) => void): Promise<number | null> {
    return unlessAborted(this.#source.signal, this.#writer.verify(onProgress));
  }

  close(): Promise<void> {
    return this.#writer.close();
  }
}

/** Blocks of a point in memory, each proven, or zeros for one that is lost: few enough for one request. */
export async function fetchBlocks(
  source: Omit<PointSource, 'fetching'>,
  group: readonly number[],
): Promise<Buffer[]> {
  const { receiver, point, tree, signal, onDone } = source;
  const blocks: Buffer[] = [];
  const onBatch = async (body: Uint8Array) => {
    for (const block of await decodeBlocks(body, point, tree.digester, tree)) {
      blocks.push(block);
      onDone(block.length, true);
    }
  };
  const lost = lostHandling(source, async (_, byteLength) => {
    blocks.push(Buffer.alloc(byteLength));
    onDone(byteLength, false);
  });
  await unlessAborted(signal, fetchGroup(receiver, point, group, onBatch, lost));
  return blocks;
}

function lostHandling(
  { point, onLost }: Pick<PointSource, 'point' | 'onLost'>,
  writeZeros: (blockIndex: number, byteLength: number) => Promise<void>,
): LostHandling | undefined {
  if (onLost === undefined) return undefined;
  return {
    isLost: isLostBlock,
    onLost: async (blockIndex) => {
      await writeZeros(blockIndex, blockLength(point.geometry, blockIndex));
      onLost(blockIndex);
    },
  };
}
