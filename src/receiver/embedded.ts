/**
 * The receiver inside a command: the same service over a store in a directory, made at first
 * use; no network, one agent.
 */

import { LOCAL_AGENT } from '../domain/base/names.js';
import { isInForce } from '../domain/retention/settings.js';
import type { VerifyEvent } from '../domain/session/messages.js';
import { checked } from '../protocol/port/checked.js';
import type { PointPin } from '../protocol/port/point.js';
import type { ReceiverPort } from '../protocol/port/receiver.js';
import type { Store } from '../store/port/store.js';
import { AgentHandlers } from './sessions/agent-receiver.js';
import { ReceiverService } from './sessions/service.js';

export interface EmbeddedOptions {
  /** Default: LOCAL_AGENT. Null: it, and the points of all others are seen. */
  readonly agent?: string | null;
  readonly openStore: (dir: string) => Promise<Store>;
}

/** `close()` waits for what runs, collects partial sets whose time is over, then closes the store. */
export async function openEmbeddedReceiver(dir: string, options: EmbeddedOptions): Promise<ReceiverPort> {
  const store = await options.openStore(dir);
  try {
    const service = await ReceiverService.open(store);
    const handlers = new EmbeddedHandlers(service, options.agent ?? LOCAL_AGENT, {
      seesAll: options.agent === null,
    });
    return {
      ...checked(handlers),
      agents: () => handlers.agents(),
      pins: () => handlers.pins(),
      close: () => handlers.close(),
    };
  } catch (error) {
    await store.close();
    throw error;
  }
}

class EmbeddedHandlers extends AgentHandlers {
  readonly #service: ReceiverService;

  constructor(service: ReceiverService, agent: string, sight: { readonly seesAll: boolean }) {
    super(service, agent, sight);
    this.#service = service;
  }

  async agents(): Promise<string[]> {
    const points = await this.#service.store.points({});
    return [...new Set(points.map(({ agent }) => agent))].sort();
  }

  /** Those in force. If the settings are lost, nothing is removed anyway. */
  async pins(): Promise<PointPin[]> {
    const { retention } = this.#service.store;
    if (retention.fault !== null) return [];
    const { nowMs } = retention.clock();
    return retention.settings.pins
      .filter((pin) => isInForce(pin, nowMs))
      .map(({ pointId, reason, untilMs }) => {
        return { pointId, reason, until: untilMs === null ? null : new Date(untilMs).toISOString() };
      });
  }

  /** Who holds the directory may look at all of it, not only at what an agent's points need. */
  override verify(pointId?: string, device?: string): AsyncGenerator<VerifyEvent> {
    return pointId === undefined && device === undefined
      ? this.#verifyStore()
      : super.verify(pointId, device);
  }

  async *#verifyStore(): AsyncGenerator<VerifyEvent> {
    yield* this.#service.store.verify({});
  }

  async close(): Promise<void> {
    await this.#service.close();
    await this.#service.collect();
    await this.#service.store.close();
  }
}
