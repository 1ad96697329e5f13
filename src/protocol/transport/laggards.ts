/**
 * Bodies and answers that hold shared memory while their bytes trickle. As long as nobody waits for memory
 * they may take their time: links are slow. When somebody waits, those that would hold most for longest are
 * broken off, and are sent again. So a few that are slow on purpose can't shut out all others.
 */
export interface Transfer {
  /** Of the memory that it holds. */
  readonly bytes: number;
  readonly doneBytes: () => number;
  readonly breakOff: () => void;
}

/** Younger ones are not judged; nor are those that will soon be through. */
const AGE_MS_MIN = 5_000;
const LEFT_MS_MIN = 30_000;

interface Running {
  readonly transfer: Transfer;
  readonly sinceMs: number;
}

export class Laggards {
  readonly #nowMs: () => number;
  readonly #running = new Set<Running>();

  /** @param nowMs monotonic */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  /** @returns to be called at its end */
  add(transfer: Transfer): () => void {
    const running = { transfer, sinceMs: this.#nowMs() };
    this.#running.add(running);
    return () => {
      this.#running.delete(running);
    };
  }

  /** Somebody waits for so many bytes. */
  makeRoom(bytes: number): void {
    let freed = 0;
    for (const { running } of this.#slowest()) {
      if (freed >= bytes) return;
      this.#running.delete(running);
      freed += running.transfer.bytes;
      running.transfer.breakOff();
    }
  }

  /** Those that hold most memory for longest first. */
  #slowest(): { readonly running: Running; readonly cost: number }[] {
    const found = [];
    for (const running of this.#running) {
      const { transfer, sinceMs } = running;
      const ageMs = this.#nowMs() - sinceMs;
      const done = Math.max(1, transfer.doneBytes());
      const leftMs = (Math.max(0, transfer.bytes - done) * ageMs) / done;
      if (ageMs >= AGE_MS_MIN && leftMs >= LEFT_MS_MIN)
        found.push({ running, cost: transfer.bytes * leftMs });
    }
    return found.sort((a, b) => b.cost - a.cost);
  }
}
