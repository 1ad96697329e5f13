/**
 * Whether to ask for the pieces of changed blocks, to send patches of them. Pure. It costs the receiver time
 * (it reads and decodes the base's block, and compresses the new one). That pays if the link is slow and
 * patches do save bytes.
 *
 * | mode   | asks                                                                                      |
 * |--------|-------------------------------------------------------------------------------------------|
 * | always | always                                                                                    |
 * | never  | never                                                                                     |
 * | auto   | while the link is so slow that the bytes saved by recent patches pay; otherwise now and   |
 * |        | then, to see whether that has changed                                                     |
 */

export const PATCH_MODES = ['auto', 'always', 'never'] as const;
export type PatchMode = (typeof PATCH_MODES)[number];

/**
 * Speed of a link at which patches that spare everything cost as much CPU time, of both sides, as they save
 * on the wire. Measured with patches that spared 69 %: 25 MB/s (docs/figures.md, patches). What spares less
 * pays on slower links only.
 */
export const PATCH_BREAK_EVEN_BYTES_PER_SECOND = 36e6;
/** Of what is asked about, spared by patches: assumed before anything is known. */
const SHARE_ASSUMED = 0.5;
/**
 * Less does not pay even for the question: 8 bytes for each piece of 4 KiB, which compresses to some 1.5 KiB.
 */
const SHARE_MIN = 0.02;
/** Weight that all before has against the newest chunk. */
const MEMORY = 0.8;
/** Chunks that go without a question before it is tried again. */
const PAUSE_CHUNKS = 32;

export class PatchPolicy {
  readonly #mode: PatchMode;
  #share = SHARE_ASSUMED;
  #skippedChunks = 0;

  constructor(mode: PatchMode) {
    this.#mode = mode;
  }

  /**
   * To be called once for each chunk that could be asked about.
   * @param linkBytesPerSecond null: not known yet, and the few chunks until then are no loss; undefined:
   * there is no link
   */
  shouldAsk(linkBytesPerSecond: number | null | undefined): boolean {
    if (this.#mode !== 'auto') return this.#mode === 'always';
    if (linkBytesPerSecond === undefined) return false;
    const isTrial = this.#skippedChunks >= PAUSE_CHUNKS;
    // A trial tells of the share only: it must be worth having.
    const share = isTrial ? Math.max(this.#share, SHARE_ASSUMED) : this.#share;
    const pays = share >= SHARE_MIN && (linkBytesPerSecond ?? 0) < share * PATCH_BREAK_EVEN_BYTES_PER_SECOND;
    this.#skippedChunks = pays ? 0 : this.#skippedChunks + 1;
    return pays;
  }

  /**
   * @param unsentBytes of the blocks that were asked about: what patches did not have to carry, before
   * compression
   */
  observe(askedBytes: number, unsentBytes: number): void {
    if (askedBytes === 0) return;
    this.#share = MEMORY * this.#share + (1 - MEMORY) * (unsentBytes / askedBytes);
  }
}
