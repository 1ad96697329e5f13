/**
 * Which points are being read, in memory. A restore asks for blocks again and again, and nothing says that it
 * has ended: so a point counts as read for some time after the last question.
 *
 * State of a point: unknown (not read of late); held (a call that reads it runs); read at a time.
 */

/** A restore may wait so long for a slow target before it asks again. */
export const READ_GRACE_MS = 5 * 60_000;
/** Then those whose time is over are forgotten. */
const REMEMBERED_MAX = 4096;

export class PointUse {
  readonly #nowMs: () => number;
  /** Latest last. */
  readonly #readAtMs = new Map<string, number>();
  readonly #holders = new Map<string, number>();

  /** @param nowMs a clock that only goes forward */
  constructor(nowMs: () => number = () => performance.now()) {
    this.#nowMs = nowMs;
  }

  isRead(pointId: string): boolean {
    const readAtMs = this.#readAtMs.get(pointId) ?? Number.NEGATIVE_INFINITY;
    return this.#holders.has(pointId) || this.#nowMs() - readAtMs < READ_GRACE_MS;
  }

  async during<T>(pointId: string, work: () => Promise<T>): Promise<T> {
    const release = this.#hold(pointId);
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** Also while nobody asks for the next event. */
  async *duringAll<T>(pointIds: readonly string[], events: AsyncIterable<T>): AsyncGenerator<T, void> {
    const releases = pointIds.map((pointId) => this.#hold(pointId));
    try {
      yield* events;
    } finally {
      for (const release of releases) release();
    }
  }

  #hold(pointId: string): () => void {
    this.#holders.set(pointId, (this.#holders.get(pointId) ?? 0) + 1);
    return () => {
      const left = (this.#holders.get(pointId) ?? 1) - 1;
      if (left > 0) this.#holders.set(pointId, left);
      else this.#holders.delete(pointId);
      this.#note(pointId);
    };
  }

  #note(pointId: string): void {
    const nowMs = this.#nowMs();
    this.#readAtMs.delete(pointId);
    this.#readAtMs.set(pointId, nowMs);
    if (this.#readAtMs.size <= REMEMBERED_MAX) return;
    for (const [id, readAtMs] of this.#readAtMs) {
      if (nowMs - readAtMs < READ_GRACE_MS) return;
      this.#readAtMs.delete(id);
    }
  }
}
