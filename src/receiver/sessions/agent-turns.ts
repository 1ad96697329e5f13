/** Long readings of a store that an agent asks for: how many of them run at once. */
import { StillpointError } from '../../domain/base/errors.js';
import { DIFFS_PER_AGENT_MAX } from '../../domain/base/limits.js';

export class AgentTurns {
  readonly #verifying = new Set<string>();
  /** By agent: how many diffs run. */
  readonly #diffing = new Map<string, number>();

  /** Reading all of the store is for one at a time per agent. */
  async *whileVerifying<T>(agent: string, events: AsyncIterable<T>): AsyncGenerator<T> {
    if (this.#verifying.has(agent)) {
      throw busy(agent, 'a verification of its points is running', 'Wait until it has ended.');
    }
    this.#verifying.add(agent);
    try {
      yield* events;
    } finally {
      this.#verifying.delete(agent);
    }
  }

  async *whileDiffing<T>(agent: string, events: AsyncIterable<T>): AsyncGenerator<T> {
    const count = this.#diffing.get(agent) ?? 0;
    if (count >= DIFFS_PER_AGENT_MAX) {
      const reason = `${count} diffs of its points are running, which is the limit`;
      throw busy(agent, reason, 'Wait until one has ended.');
    }
    this.#diffing.set(agent, count + 1);
    try {
      yield* events;
    } finally {
      const left = (this.#diffing.get(agent) ?? 1) - 1;
      if (left > 0) this.#diffing.set(agent, left);
      else this.#diffing.delete(agent);
    }
  }
}

export function busy(agent: string, reason: string, remedy: string): StillpointError {
  return new StillpointError('busy', { thing: `agent ${agent}`, reason, remedy, permanent: false });
}
