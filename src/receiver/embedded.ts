/** The receiver inside a command: the same service over a store in a directory, made at first use; no network, one agent. */
import type { VerifyEvent } from '../domain/messages.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';
import type { Store } from '../store/store-port.js';
import { AgentReceiver } from './agent-receiver.js';
import { ReceiverService } from './service.js';

/** Who owns the devices of a store that is used without network. */
export const LOCAL_AGENT = 'local';

export interface EmbeddedOptions {
  readonly agent?: string;
  readonly openStore: (dir: string) => Promise<Store>;
}

/** `close()` waits for what runs, collects partial sets whose time is over, then closes the store. */
export async function openEmbeddedReceiver(dir: string, options: EmbeddedOptions): Promise<ReceiverPort> {
  const store = await options.openStore(dir);
  try {
    return new EmbeddedReceiver(await ReceiverService.open(store), options.agent ?? LOCAL_AGENT);
  } catch (error) {
    await store.close();
    throw error;
  }
}

class EmbeddedReceiver extends AgentReceiver {
  readonly #service: ReceiverService;

  constructor(service: ReceiverService, agent: string) {
    super(service, agent);
    this.#service = service;
  }

  /** Who holds the directory may look at all of it, not only at what an agent's points need. */
  override verify(pointId?: string): AsyncGenerator<VerifyEvent> {
    return pointId === undefined ? this.#verifyStore() : super.verify(pointId);
  }

  async *#verifyStore(): AsyncGenerator<VerifyEvent> {
    yield* this.#service.store.verify({});
  }

  override async close(): Promise<void> {
    await this.#service.close();
    await this.#service.collect();
    await this.#service.store.close();
  }
}
