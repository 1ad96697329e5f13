/**
 * A bounded number of promises under way. After a failure nothing more starts, and callers get the first
 * failure.
 */
export class InFlight {
  readonly #max: () => number;
  readonly #running = new Set<Promise<void>>();
  #failure: { readonly error: unknown } | null = null;

  /** @param max may change from call to call; what is under way stays. */
  constructor(max: number | (() => number)) {
    this.#max = typeof max === 'number' ? () => max : max;
  }

  get count(): number {
    return this.#running.size;
  }

  async room(): Promise<void> {
    while (this.#running.size >= this.#max()) await this.settleOne();
    this.#throwFailure();
  }

  /** Waits for room, then starts the work. */
  async start(work: () => Promise<void>): Promise<void> {
    await this.room();
    const task: Promise<void> = work()
      .catch((error: unknown) => {
        this.#failure ??= { error };
      })
      .finally(() => this.#running.delete(task));
    this.#running.add(task);
  }

  /** Waits until one of the running ones has ended. */
  async settleOne(): Promise<void> {
    await Promise.race(this.#running);
    this.#throwFailure();
  }

  /** Waits for all. */
  async drain(): Promise<void> {
    await Promise.all(this.#running);
    this.#throwFailure();
  }

  /** Starts nothing more and waits for all, whatever becomes of them. */
  async settle(): Promise<void> {
    this.#failure ??= { error: new Error('no more work is taken') };
    await Promise.all(this.#running);
  }

  #throwFailure(): void {
    if (this.#failure !== null) throw this.#failure.error;
  }
}
