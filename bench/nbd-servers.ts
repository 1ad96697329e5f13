/**
 * The NBD servers that are compared, each a process on a unix socket of its own: nbdkit,
 * qemu-nbd, and the native tap.
 */
import { type ChildProcess, fork, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { CreateTapOptions, Tap } from '../src/native/index.js';
import { end } from './process.js';
import type { TapReply } from './tap-child.js';

const CHILD = fileURLToPath(new URL('./tap-child.js', import.meta.url));
const START_DEADLINE_MS = 10_000;
const EXPORT = 'disk';

export interface NbdServer {
  readonly name: string;
  readonly uri: string;
  stop(): Promise<void>;
}

export type StartServer = (image: string, directory: string) => Promise<NbdServer>;

/**
 * Contestants in the order in which they run. What qemu-nbd is told besides its default comes out of the
 * page cache, as ours does.
 */
export const PEERS: readonly StartServer[] = [
  (image, directory) =>
    startPeer('nbdkit', directory, (socket) => ['nbdkit', '--foreground', '--unix', socket, 'file', image]),
  (image, directory) => startPeer('qemu-nbd', directory, (socket) => qemu(socket, image)),
  (image, directory) =>
    startPeer('qemu-nbd io_uring', directory, (socket) => qemu(socket, image, '--aio=io_uring')),
];

function qemu(socket: string, image: string, ...options: string[]): string[] {
  return ['qemu-nbd', '--persistent', '--format=raw', '--shared=8', `--socket=${socket}`, ...options, image];
}

async function startPeer(
  name: string,
  directory: string,
  commandFor: (socket: string) => string[],
): Promise<NbdServer> {
  const socket = join(directory, 'peer.sock');
  rmSync(socket, { force: true });
  const [command = '', ...args] = commandFor(socket);
  const child = spawn(command, args, { stdio: ['ignore', 'ignore', 'inherit'] });
  endWithUs(child);
  const deadline = performance.now() + START_DEADLINE_MS;
  while (!existsSync(socket)) {
    if (child.exitCode !== null || performance.now() > deadline)
      throw new Error(`${command} ${args.join(' ')}: it does not serve`);
    await sleep(10);
  }
  return { name, uri: `nbd+unix:///?socket=${socket}`, stop: () => end(child, 'SIGTERM') };
}

/** The tap without the commands around it: with or without a map file. */
export class TapServer implements NbdServer {
  readonly name = 'tap';
  readonly uri: string;
  readonly #child: ChildProcess;
  #sessions = 0;

  private constructor(socket: string, child: ChildProcess) {
    this.uri = `nbd+unix:///${EXPORT}?socket=${socket}`;
    this.#child = child;
  }

  static async start(image: string, directory: string, mapPath: string | null): Promise<TapServer> {
    const options: CreateTapOptions = { path: image, blockSize: 65_536, mapPath, identity: 'bench' };
    const child = fork(CHILD, [JSON.stringify(options)]);
    endWithUs(child);
    const socket = join(directory, 'tap.sock');
    const tap = new TapServer(socket, child);
    await tap.call('listen', `unix:${socket}`, EXPORT);
    await tap.call('listenSnapshot', `unix:${join(directory, 'snapshot.sock')}`);
    return tap;
  }

  /** One at a time. */
  async call<Name extends keyof Tap>(
    method: Name,
    ...args: Parameters<Tap[Name]>
  ): Promise<Awaited<ReturnType<Tap[Name]>>> {
    const over = new AbortController();
    const { signal } = over;
    const replied = once(this.#child, 'message', { signal });
    const ended = once(this.#child, 'exit', { signal }).then(() => [{ error: 'it has ended' }]);
    this.#child.send({ method, args });
    const [reply] = (await Promise.race([replied, ended])) as [TapReply];
    over.abort();
    await Promise.allSettled([replied, ended]);
    if ('error' in reply) throw new Error(`tap: ${method}: ${reply.error}`);
    return reply.result as Awaited<ReturnType<Tap[Name]>>;
  }

  /** A snapshot of what the map names since `basePointId`, or of everything. @returns the session's id. */
  async hold(preserveDirectory: string, basePointId: string | null): Promise<string> {
    const sessionId = (++this.#sessions).toString(16).padStart(32, '0');
    await this.call('prepare', {
      sessionId,
      basePointId,
      full: basePointId === null,
      readBlockSize: 65_536,
      sampleBlocks: [],
      preserveDirectory,
      preserveMaxBytes: 64 * 2 ** 30,
      whenFull: 'fail',
    });
    await this.call('closeGate', { barrierMs: 1000, closedMs: 10_000 });
    const { mapUsed } = await this.call('cut');
    if (mapUsed !== (basePointId !== null))
      throw new Error('tap: the hold is not of the kind that was asked for');
    return sessionId;
  }

  async stop(): Promise<void> {
    await end(this.#child, 'SIGTERM');
  }
}

function endWithUs(child: ChildProcess): void {
  const kill = () => child.kill();
  process.once('exit', kill);
  child.once('exit', () => process.off('exit', kill));
}
