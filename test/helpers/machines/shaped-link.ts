/**
 * A slow, long, lossy link between two machines of a test: two network namespaces, joined by shaped-link.py.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { withinNamespace } from './namespaces.js';
import { enroll, killReceiver, type Receiver, serve } from './receiver.js';
import { EXIT_OK, type Machine, makeMachine, runExpecting } from './stillpoint.js';

const PROGRAM = fileURLToPath(
  new URL('../../../../../test/helpers/machines/shaped-link.py', import.meta.url),
);

export interface LinkShape {
  /** Bits per second; null: as fast as it goes. */
  readonly rate: number | null;
  /** Seconds, each way. */
  readonly delay: number;
  /** Of packets, each way; 0 to 1. */
  readonly loss: number;
  /** Bytes that wait before the link; what comes then is dropped. */
  readonly queue: number;
  readonly seed: number;
}

export interface LinkCounters {
  readonly cuts: number;
  /** From the agent's side, from the receiver's side. What was lost on the way has been sent. */
  readonly bytes: readonly [number, number];
  readonly packets: readonly [number, number];
  readonly lost: readonly [number, number];
  readonly overflowed: readonly [number, number];
}

export class ShapedLink {
  readonly agentSide: string;
  readonly receiverSide: string;
  readonly #process: ChildProcess;
  readonly #answers: AsyncIterator<string>;

  private constructor(names: readonly [string, string]) {
    [this.agentSide, this.receiverSide] = names;
    this.#process = spawn('python3', [PROGRAM, ...names], { stdio: ['pipe', 'pipe', 'inherit'] });
    if (this.#process.stdout === null) throw new Error('no pipe');
    this.#answers = createInterface({ input: this.#process.stdout })[Symbol.asyncIterator]();
  }

  /** A fast link, until told otherwise; gone with its namespaces when the test ends. */
  static async open(t: ExecutionContext): Promise<ShapedLink> {
    const name = `stillpoint-${process.pid}-${++made}`;
    const link = new ShapedLink([`${name}-a`, `${name}-r`]);
    t.teardown(async () => {
      const ended = once(link.#process, 'exit');
      link.#process.stdin?.end();
      if (link.#process.exitCode === null) await ended;
    });
    await link.#answer();
    return link;
  }

  set(shape: Partial<LinkShape>): Promise<LinkCounters> {
    return this.#command({ set: shape });
  }

  /** Cuts it again and again, seconds; with `reset` connections are ended each time. Null: no more. */
  flap(
    how: { readonly up: number; readonly down: number; readonly reset: boolean } | null,
  ): Promise<LinkCounters> {
    return this.#command({ flap: how });
  }

  count(): Promise<LinkCounters> {
    return this.#command({ count: null });
  }

  async #command(command: object): Promise<LinkCounters> {
    this.#process.stdin?.write(`${JSON.stringify(command)}\n`);
    return JSON.parse(await this.#answer()) as LinkCounters;
  }

  async #answer(): Promise<string> {
    const { done, value } = await this.#answers.next();
    if (done === true) throw new Error('the link has ended');
    return value;
  }
}

let made = 0;

/** Answers each stream with a byte at its end. */
const COPY_SERVER = `require('net').createServer({ allowHalfOpen: true }, (socket) => {
  socket.on('error', () => {}).resume().on('end', () => socket.end('.'));
}).listen(9000, '192.0.2.2', () => console.log('listening'))`;
const COPY_CLIENT = `require('net').connect(9000, '192.0.2.2', function () {
  this.end(Buffer.alloc(Number(process.argv[1]), 1));
}).resume()`;

/**
 * How long a plain stream of so many bytes takes, from the agent's side, until the other side has all of it.
 */
export async function copySeconds(t: ExecutionContext, link: ShapedLink, bytes: number): Promise<number> {
  const inside = (namespace: string, ...args: string[]) => {
    const [program = '', ...rest] = [...withinNamespace(namespace), process.execPath, '-e', ...args];
    return spawn(program, rest, { stdio: ['pipe', 'pipe', 'pipe'] });
  };
  const server = inside(link.receiverSide, COPY_SERVER);
  t.teardown(() => void server.kill('SIGKILL'));
  await once(server.stdout, 'data');
  const startMs = performance.now();
  const [code] = await once(inside(link.agentSide, COPY_CLIENT, String(bytes)), 'exit');
  if (code !== 0) throw new Error('the copy failed');
  return (performance.now() - startMs) / 1000;
}

export interface LinkedWorld {
  readonly link: ShapedLink;
  readonly receiver: Receiver;
  readonly agent: Machine;
}

/** A receiver that serves on one side, and on the other a machine that is enrolled with it. */
export async function makeLinkedWorld(t: ExecutionContext): Promise<LinkedWorld> {
  const link = await ShapedLink.open(t);
  const machine = { ...(await makeMachine(t, 'receiver')), namespace: link.receiverSide };
  const store = `${machine.directory}/store`;
  await runExpecting(t, machine, EXIT_OK, 'receiver', 'init', store);
  const receiver: Receiver = { machine, store, url: 'https://192.0.2.2:8440', process: null, log: '' };
  await serve(receiver);
  t.teardown(() => killReceiver(receiver));
  const agent = { ...(await makeMachine(t, 'agent')), namespace: link.agentSide };
  await enroll(t, receiver, agent, 'agent');
  return { link, receiver, agent };
}
