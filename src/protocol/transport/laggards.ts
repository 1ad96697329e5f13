/**
 * Bodies and answers that hold shared memory while their bytes trickle. As long as nobody waits for memory
 * they may take their time: links are slow. When somebody has waited for long, those that would hold most for
 * longest are broken off, and are sent again. So a few that are slow on purpose can't shut out all others.
 *
 * A receiver that is slow itself makes every transfer slow, but none as slow as a trickle. So a transfer is
 * judged by an absolute rate, over a time that outlasts a stall. Slow links are spared a part of the memory:
 * the transfers that hold least of it for shortest are left alone.
 */
export interface Transfer {
  /** Of the memory that it holds. */
  readonly bytes: number;
  readonly doneBytes: () => number;
  readonly breakOff: () => void;
}

/** A transfer is judged by what it did in so long at least. */
const JUDGED_MS_MIN = 10_000;
/** It trickles if it is slower than this, */
const TRICKLE_BYTES_PER_SECOND = 64 * 1024;
/** and will hold its memory for so long from now on. */
const LEFT_MS_MIN = 30_000;

interface Running {
  readonly transfer: Transfer;
  /** Since when, and from how many bytes on, it is judged next. */
  sinceMs: number;
  sinceBytes: number;
  /** How long it will still hold its memory; null: it does not trickle. */
  leftMs: number | null;
}

export class Laggards {
  readonly #sparedBytes: number;
  readonly #nowMs: () => number;
  readonly #running = new Set<Running>();

  /**
   * @param sparedBytes of memory, that transfers may hold however slow they are
   * @param nowMs monotonic
   */
  constructor(sparedBytes: number, nowMs: () => number = () => performance.now()) {
    this.#sparedBytes = sparedBytes;
    this.#nowMs = nowMs;
  }

  /** @returns to be called at its end */
  add(transfer: Transfer): () => void {
    const running: Running = { transfer, sinceMs: this.#nowMs(), sinceBytes: 0, leftMs: null };
    this.#running.add(running);
    return () => {
      this.#running.delete(running);
    };
  }

  /** Somebody has waited for so many bytes, for long. */
  makeRoom(bytes: number): void {
    let freed = 0;
    for (const running of this.#slowest()) {
      if (freed >= bytes) return;
      this.#running.delete(running);
      freed += running.transfer.bytes;
      running.transfer.breakOff();
    }
  }

  /** Those that hold most memory for longest first, without those that are spared. */
  #slowest(): Running[] {
    for (const running of this.#running) this.#judge(running);
    const cost = ({ transfer, leftMs }: Running) => transfer.bytes * (leftMs ?? 0);
    const slow = [...this.#running].filter(({ leftMs }) => leftMs !== null).sort((a, b) => cost(a) - cost(b));
    let heldBytes = 0;
    const judged = slow.filter(({ transfer }) => {
      heldBytes += transfer.bytes;
      return heldBytes > this.#sparedBytes;
    });
    return judged.reverse();
  }

  /** What it did before the last judgement does not count: a fast start buys nothing. */
  #judge(running: Running): void {
    const { transfer, sinceMs, sinceBytes } = running;
    const nowMs = this.#nowMs();
    const elapsedMs = nowMs - sinceMs;
    if (elapsedMs < JUDGED_MS_MIN) return;
    const doneBytes = transfer.doneBytes();
    const bytesPerMs = Math.max(1, doneBytes - sinceBytes) / elapsedMs;
    const leftMs = Math.max(0, transfer.bytes - doneBytes) / bytesPerMs;
    const trickles = bytesPerMs * 1000 < TRICKLE_BYTES_PER_SECOND && leftMs >= LEFT_MS_MIN;
    Object.assign(running, { sinceMs: nowMs, sinceBytes: doneBytes, leftMs: trickles ? leftMs : null });
  }
}
