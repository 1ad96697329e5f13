/**
 * Packs that nothing may be taken out of while a collection runs, because a session came to rely on one of
 * their records since it began: the session was told that a block is held, did not store a block again, or
 * found a node of its tree. They stay pinned to the end of the collection, also when the session has ended.
 *
 * | state   | note             | begin     | end    |
 * |---------|------------------|-----------|--------|
 * | idle    | no effect        | -> noting | -      |
 * | noting  | pins, until end  | -         | -> idle |
 */
export class PackPins {
  #noted: Set<string> | null = null;

  /** A session relies on a record of this pack from now on. */
  note(packId: string): void {
    this.#noted?.add(packId);
  }

  /** @param packIds that are pinned already */
  begin(packIds: Iterable<string>): void {
    this.#noted = new Set(packIds);
  }

  has(packId: string): boolean {
    return this.#noted?.has(packId) ?? false;
  }

  end(): void {
    this.#noted = null;
  }
}
