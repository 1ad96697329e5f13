/**
 * The passes of a late view in a session: what to read next, and what a comparison spares.
 *
 * | state   | begin            | next                                                                       |
 * |---------|------------------|----------------------------------------------------------------------------|
 * | new     | asks; ranges:    | asks → going                                                               |
 * |         | → begun; null:   |                                                                            |
 * |         | → going          |                                                                            |
 * | begun   | not called again | what was answered, or instead what a comparison since then found → going   |
 * | going   | not called again | asks                                                                       |
 *
 * A comparison reads the device while it changes. So the first pass is asked for before it: a block that is
 * written after the comparison has read it comes in a later pass.
 */
import type { LatePasses } from '../../capture/ports.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { unlessAborted } from '../common/cancel.js';

export class Passing {
  readonly #passes: LatePasses;
  readonly #signal: AbortSignal;
  #begun: readonly BlockRange[] | null = null;

  constructor(passes: LatePasses, signal: AbortSignal) {
    this.#passes = passes;
    this.#signal = signal;
  }

  async begin(): Promise<void> {
    this.#begun = await this.#ask();
  }

  /**
   * @param differing of a comparison after `begin`: what may differ from the base
   * @returns as `LatePasses.next`
   */
  next(differing: readonly BlockRange[] | undefined): Promise<readonly BlockRange[] | null> {
    const begun = this.#begun;
    this.#begun = null;
    return begun === null ? this.#ask() : Promise.resolve(differing ?? begun);
  }

  take: LatePasses['take'] = () => this.#passes.take();

  #ask(): Promise<readonly BlockRange[] | null> {
    return unlessAborted(this.#signal, this.#passes.next());
  }
}
