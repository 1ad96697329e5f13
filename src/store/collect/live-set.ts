/**
 * Digests of records that are needed: a Bloom filter, since a store has a hundred million of them and a
 * collection may take some 128 MiB. It never misses one that was added. It takes a few others for added:
 * their records stay until the next collection whose filter is larger.
 *
 * Digests are uniform already, so their own words are the hashes. PROBES = 7 suits 10 bits for each digest:
 * 1 in 120 others passes then; with 16 bits, 1 in 1,400 (Bloom 1970; the rate is (1 - e^(-7n/m))^7).
 */
const PROBES = 7;
const BITS_PER_DIGEST = 16;
const BITS_MIN = 2 ** 16;
/** 128 MiB: 10.7 bits for each of 100 million digests. */
const BITS_MAX = 2 ** 30;

export class LiveSet {
  readonly #words: Uint32Array;
  readonly #mask: number;

  /** @param digestCount how many will be added, at most */
  constructor(digestCount: number) {
    let bits = BITS_MIN;
    while (bits < digestCount * BITS_PER_DIGEST && bits < BITS_MAX) bits *= 2;
    this.#words = new Uint32Array(bits / 32);
    this.#mask = bits - 1;
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
    return word & this.#mask;
  }
}
