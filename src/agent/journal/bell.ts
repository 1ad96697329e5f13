/** Wakes one waiter. A ring while nobody waits is heard by the next one. */
import { setTimeout as sleep } from 'node:timers/promises';

export class Bell {
  #isRung = false;
  #wake: () => void = () => undefined;

  ring(): void {
    this.#isRung = true;
    this.#wake();
  }

  /** Until it rings, at most so long, or until the signal. @param ms null: without a limit */
  async wait(ms: number | null, signal: AbortSignal): Promise<void> {
    const over = new AbortController();
    const until = AbortSignal.any([signal, over.signal]);
    const rung = new Promise<void>((resolve) => {
      this.#wake = resolve;
      until.addEventListener('abort', () => resolve(), { once: true });
      if (this.#isRung || until.aborted) resolve();
    });
    const late = ms === null ? [] : [sleep(ms, undefined, { signal: until }).catch(() => undefined)];
    await Promise.race([rung, ...late]);
    over.abort();
    this.#isRung = false;
  }
}
