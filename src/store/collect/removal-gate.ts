/**
 * Keeps the removal of packs apart from work that goes through packs one by one and would take a vanished
 * one for damage: a step of a verification. Reads of single records need no gate (RecordReader.settled).
 *
 * | state    | shared            | exclusive                        |
 * |----------|-------------------|----------------------------------|
 * | open     | begins -> shared  | begins -> removing               |
 * | shared   | begins            | waits until nobody is inside     |
 * | removing | waits for its end | waits for its end                |
 *
 * Work that is inside may ask for `shared` again without waiting, so a removal that waits keeps nobody out.
 */
export class RemovalGate {
  #sharedCount = 0;
  #removing: Promise<unknown> | null = null;
  #whenEmpty: (() => void)[] = [];

  async shared<T>(work: () => Promise<T>): Promise<T> {
    while (this.#removing !== null) await this.#removing;
    this.#sharedCount += 1;
    try {
      return await work();
    } finally {
      this.#sharedCount -= 1;
      if (this.#sharedCount === 0) this.#whenEmpty.shift()?.();
    }
  }

  async exclusive<T>(work: () => Promise<T>): Promise<T> {
    for (;;) {
      if (this.#removing !== null) await this.#removing;
      else if (this.#sharedCount > 0) await new Promise<void>((resolve) => this.#whenEmpty.push(resolve));
      else break;
    }
    // Nothing was awaited since the last look.
    const done = work();
    this.#removing = done.catch(() => undefined);
    try {
      return await done;
    } finally {
      this.#removing = null;
      this.#whenEmpty.shift()?.();
    }
  }
}
