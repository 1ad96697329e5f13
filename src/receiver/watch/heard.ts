/** When each agent was last heard of since the receiver was started, by any message. */
export class Heard {
  readonly #lastMs = new Map<string, number>();
  readonly #nowMs: () => number;

  constructor(nowMs: () => number) {
    this.#nowMs = nowMs;
  }

  /** @param agent one that has proven its name: there are no more than are enrolled */
  note(agent: string): void {
    this.#lastMs.set(agent, this.#nowMs());
  }

  /** 0: not yet. */
  lastMs(agent: string): number {
    return this.#lastMs.get(agent) ?? 0;
  }
}
