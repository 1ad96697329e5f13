/** How many may work at once; the others wait in the order in which they came. */
import { unlessAborted } from './cancel.js';

export class Slots {
  #limit: number;
  #taken = 0;
  readonly #waiting: (() => void)[] = [];

  constructor(limit: number) {
    this.#limit = limit;
  }

  get free(): number {
    return this.#waiting.length > 0 ? 0 : Math.max(0, this.#limit - this.#taken);
  }

  /** Lowered: those that work go on. */
  set limit(limit: number) {
    this.#limit = limit;
    this.#next();
  }

  /** @returns what gives it back. @throws StillpointError `cancelled` */
  async take(signal: AbortSignal): Promise<() => void> {
    let go: () => void = () => undefined;
    const turn = new Promise<void>((resolve) => {
      go = resolve;
    });
    this.#waiting.push(go);
    this.#next();
    try {
      await unlessAborted(signal, turn);
    } catch (error) {
      const at = this.#waiting.indexOf(go);
      if (at >= 0) this.#waiting.splice(at, 1);
      // Its turn came at that moment.
      else this.#release();
      throw error;
    }
    let isTaken = true;
    return () => {
      if (isTaken) this.#release();
      isTaken = false;
    };
  }

  #release(): void {
    this.#taken -= 1;
    this.#next();
  }

  #next(): void {
    while (this.#taken < this.#limit) {
      const go = this.#waiting.shift();
      if (go === undefined) return;
      this.#taken += 1;
      go();
    }
  }
}
