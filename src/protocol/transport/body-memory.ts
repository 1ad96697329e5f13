/**
 * Buffers for large request bodies, used again: fresh ones of megabytes each cost more in page faults and
 * garbage collection than it costs to decrypt their content.
 *
 * A caller gives a buffer back only if it is sure that nobody reads it any more; otherwise the buffer is left
 * to the garbage collector.
 */
import { MiB } from '../../domain/base/limits.js';

/** Sizes are powers of two: of 1 MiB at least, to hold a batch at most. */
const SLAB_BYTES_MIN = MiB;
/** Unused buffers kept, in bytes. */
const KEPT_BYTES_MAX = 32 * MiB;

export class BodyMemory {
  readonly #kept = new Map<number, Buffer[]>();
  #keptBytes = 0;

  /** What a body of this length takes in memory. */
  static sizeOf(length: number): number {
    return length < SLAB_BYTES_MIN / 2 ? length : Math.max(SLAB_BYTES_MIN, 2 ** Math.ceil(Math.log2(length)));
  }

  /** A buffer of exactly this length, its content undefined. */
  take(length: number): Buffer {
    const size = BodyMemory.sizeOf(length);
    const kept = this.#kept.get(size)?.pop();
    if (kept === undefined) return Buffer.allocUnsafeSlow(size).subarray(0, length);
    this.#keptBytes -= size;
    return kept.subarray(0, length);
  }

  giveBack(body: Buffer): void {
    const size = BodyMemory.sizeOf(body.length);
    if (size < SLAB_BYTES_MIN || this.#keptBytes + size > KEPT_BYTES_MAX) return;
    const slabs = this.#kept.get(size) ?? [];
    slabs.push(Buffer.from(body.buffer, 0, size));
    this.#kept.set(size, slabs);
    this.#keptBytes += size;
  }
}
