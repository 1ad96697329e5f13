/** How far an order is, for its reports: of a group the sum of its members. */
import type { Logger } from 'pino';
import { ORDER_PHASES, type OrderPhase, type OrderProgress } from '../../domain/order/order.js';
import type { AgentEvent } from '../common/events.js';

const NOTHING: OrderProgress = {
  ...{ phase: 'snapshot', doneBytes: 0, totalBytes: 0, changedBytes: 0, wireBytes: 0 },
};

export class ProgressOfOrder {
  readonly #log: Logger;
  /** By device. */
  readonly #parts = new Map<string, OrderProgress>();

  constructor(log: Logger) {
    this.#log = log;
  }

  /** The phase is that of the one that is least far. */
  get current(): OrderProgress {
    const parts = [...this.#parts.values()];
    const sum = (of: Exclude<keyof OrderProgress, 'phase'>) =>
      parts.reduce((total, part) => total + part[of], 0);
    const phases = parts.map(({ phase }) => ORDER_PHASES.indexOf(phase));
    return {
      phase: ORDER_PHASES[Math.min(...phases)] ?? NOTHING.phase,
      doneBytes: sum('doneBytes'),
      totalBytes: sum('totalBytes'),
      changedBytes: sum('changedBytes'),
      wireBytes: sum('wireBytes'),
    };
  }

  /** @param device of a group: whose event it is */
  take(event: AgentEvent, device = ''): void {
    const told = device === '' ? {} : { device };
    if (event.type === 'notice') this.#log.info(told, event.text);
    else if (event.type === 'warning') this.#log.warn(told, event.text);
    else if (event.type === 'phase') {
      const phase: OrderPhase | undefined = ORDER_PHASES.find((known) => known === event.phase);
      if (phase !== undefined) this.#change(device, { phase });
    } else if (event.type === 'progress') {
      const { doneBytes, totalBytes, changedBytes = 0, wireBytes } = event;
      this.#change(device, { doneBytes, totalBytes, changedBytes, wireBytes });
    }
  }

  #change(device: string, change: Partial<OrderProgress>): void {
    this.#parts.set(device, { ...(this.#parts.get(device) ?? NOTHING), ...change });
  }
}
