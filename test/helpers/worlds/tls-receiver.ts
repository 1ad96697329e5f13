/** A receiver on the loopback, in the test's process, and agents enrolled with it as people would. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { Enrolment } from '../../../src/protocol/certificates/enrolment.js';
import { type ReceiverClient, receiverClient } from '../../../src/protocol/client.js';
import { enroll } from '../../../src/protocol/enroll.js';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import { createInvite } from '../../../src/receiver/access/invites.js';
import { type RunningServer, type ServerOptions, startServer } from '../../../src/receiver/server.js';

export interface LogLine {
  readonly level: number;
  readonly msg: string;
  readonly agent?: string | null;
  readonly address?: string;
  readonly code?: string;
  readonly reason?: string;
  readonly message?: string;
}

type Options = Omit<ServerOptions, 'dir' | 'listen' | 'log'>;

export class TlsReceiver {
  readonly dir: string;
  readonly log: LogLine[] = [];
  readonly #options: Options;
  #server: RunningServer | null = null;
  readonly #clients: ReceiverClient[] = [];

  constructor(dir: string, options: Options) {
    this.dir = dir;
    this.#options = options;
  }

  get url(): string {
    return this.#server?.url ?? '';
  }

  get server(): RunningServer {
    if (this.#server === null) throw new Error('it does not serve');
    return this.#server;
  }

  get refusals(): LogLine[] {
    return this.log.filter(({ msg }) => msg === 'request refused');
  }

  async start(listen = '127.0.0.1:0'): Promise<void> {
    const log = pino({ level: 'info' }, { write: (line: string) => void this.log.push(JSON.parse(line)) });
    this.#server = await startServer({ dir: this.dir, listen, log, ...this.#options });
  }

  async stop(): Promise<void> {
    const server = this.#server;
    this.#server = null;
    await server?.close();
  }

  async invite(agent: string, lifetimeMs?: number): Promise<string> {
    return (await createInvite(this.dir, agent, new Date(), lifetimeMs)).code;
  }

  async enroll(agent: string): Promise<Enrolment> {
    return enroll(this.url, await this.invite(agent));
  }

  client(enrolment: Enrolment, connections?: number): ReceiverClient {
    const { url, receiverId, authority, key, certificate } = enrolment;
    const address = { url, receiverId, authority, credentials: { key, certificate } };
    const client = receiverClient(address, connections === undefined ? {} : { connections });
    this.#clients.push(client);
    return client;
  }

  async closeAll(): Promise<void> {
    await Promise.all(this.#clients.map((client) => client.close()));
    await this.stop();
  }
}

/** Initialized and serving; stopped and removed when the test ends. */
export async function makeTlsReceiver(
  t: Pick<ExecutionContext, 'teardown'>,
  options: Pick<ServerOptions, 'openStore' | 'timeouts' | 'now'>,
): Promise<TlsReceiver> {
  const dir = await mkdtemp(join(tmpdir(), 'receiver-test-'));
  await initReceiver(dir, { listen: '127.0.0.1:0', now: options.now?.() ?? new Date() });
  const receiver = new TlsReceiver(dir, options);
  t.teardown(async () => {
    await receiver.closeAll();
    await rm(dir, { recursive: true });
  });
  await receiver.start();
  return receiver;
}
