/**
 * Digests of records that are needed: a Bloom filter, since a store has a hundred million of them, and a
 * collection may take 256 MiB in all. It never misses one that was added. It takes a few others for added:
 * their records stay until a collection after the store has shrunk.
 *
 * Digests are uniform already, so their own words are the hashes. With n digests in m bits, (1 - e^(-7n/m))^7
 * of the others pass (Bloom 1970): 1 in 300 with 12 bits for each, 1 in 54 with the 8.4 bits that are left
 * for each of 100 million.
 */
import { MiB } from '../../domain/base/limits.js';

const PROBES = 7;
const BITS_PER_DIGEST = 12;
const BYTES_MIN = 8192;
const BYTES_MAX = 100 * MiB;

export class LiveSet {
  readonly #words: Uint32Array;
  /** Bits for each value of a word. */
  readonly #scale: number;

  /** @param digestCount how many will be added, at most */
  constructor(digestCount: number) {
    const bytes = Math.ceil((digestCount * BITS_PER_DIGEST) / 8);
    this.#words = new Uint32Array(Math.ceil(Math.min(Math.max(bytes, BYTES_MIN), BYTES_MAX) / 4));
    this.#scale = (this.#words.length * 32) / 2 ** 32;
  }

  get sizeBytes(): number {
    return this.#words.byteLength;
  }

  /** @param digests 32 bytes each; @param at of the first byte */
  add(digests: Uint8Array, at = 0): void {
    for (let probe = 0; probe < PROBES; probe += 1) {
      const bit = this.#bitAt(digests, at + probe * 4);
      this.#words[bit >>> 5] = (this.#words[bit >>> 5] ?? 0) | (1 << (bit & 31));
    }
  }

  has(digests: Uint8Array, at = 0): boolean {
    for (let probe = 0; probe < PROBES; probe += 1) {
      const bit = this.#bitAt(digests, at + probe * 4);
      if (((this.#words[bit >>> 5] ?? 0) & (1 << (bit & 31))) === 0) return false;
    }
    return true;
  }

  #bitAt(bytes: Uint8Array, at: number): number {
    const word =
      (bytes[at] ?? 0) |
      ((bytes[at + 1] ?? 0) << 8) |
      ((bytes[at + 2] ?? 0) << 16) |
      ((bytes[at + 3] ?? 0) << 24);
    return Math.floor((word >>> 0) * this.#scale);
  }
}
