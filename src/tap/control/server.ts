/**
 * The control socket of a tap: which connection may hold its snapshot, and what happens to a hold whose owner
 * is gone.
 *
 * | owner | prepare by A | close, open, | abort, commit by | A           | given up by the    | stop       |
 * |       |              | cut by A     | A                | disconnects | tap                |            |
 * |-------|--------------|--------------|------------------|-------------|--------------------|------------|
 * | none  | owner = A    | refused      | nothing, refused |             |                    |            |
 * | A     | session-busy | done         | done, owner =    | aborted,    | A is told once; A  | A is told, |
 * |       |              |              | none             | none        | still has to abort | aborted    |
 * | B | when B has gone, which A waits for a second: owner = A; else session-busy | nothing, refused | | | |
 *
 * A hold that fails in one of its steps is still prepared, and still A's: A may try that step again, or
 * abort. The gate opens by itself at its limit, in the native tap, even if this thread hangs.
 *
 * Everything runs on the JavaScript thread; `owner` changes in the same turn in which it was seen to be none,
 * so two holds never overlap. The requests of one connection run one after the other, and its end comes after
 * the last one.
 */
import { chmod } from 'node:fs/promises';
import { createServer, type Server, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import { StillpointError } from '../../domain/base/errors.js';
import { MiB } from '../../domain/base/limits.js';
import { splitLines } from '../../domain/base/lines.js';
import type { Tap, TapHoldOptions } from '../../native/index.js';
import {
  CONTROL_LINE_BYTES_MAX,
  type ControlHold,
  type ControlRequest,
  encodeFailure,
  encodeInvalid,
  encodeResult,
  parseRequest,
  type TapReport,
} from './messages.js';

/** What the tap's settings say of a hold. */
export type HoldSettings = Pick<TapHoldOptions, 'preserveDirectory' | 'preserveMaxBytes' | 'whenFull'>;

export interface ControlServerOptions {
  readonly tap: Tap;
  readonly name: string;
  readonly snapshotAddress: string;
  report(): Promise<TapReport>;
  /** Asked before each hold. @throws StillpointError where the preserve area can't be used now */
  holdSettings(): Promise<HoldSettings>;
  /** A client asked for it; returns at once. */
  onStop(): void;
  readonly log: Logger;
}

const CONNECTIONS_MAX = 64;
const INVALID_POLL_MS = 500;
const OWNER_WAIT_MS = 1000;
/** Answers that a client has not taken. */
const UNREAD_BYTES_MAX = 4 * MiB;

export class ControlServer {
  readonly #options: ControlServerOptions;
  readonly #server: Server;
  readonly #connections = new Map<Socket, Promise<void>>();
  #owner: Socket | null = null;
  /** Of what one held that has gone. The next hold begins after it: else it would end that one. */
  #givenBack: Promise<void> = Promise.resolve();
  #watch: NodeJS.Timeout | null = null;

  private constructor(options: ControlServerOptions) {
    this.#options = options;
    this.#server = createServer((socket) => {
      const done = this.#serve(socket).finally(() => this.#connections.delete(socket));
      this.#connections.set(socket, done);
    });
    this.#server.maxConnections = CONNECTIONS_MAX;
  }

  /** @param path where nothing is. */
  static async listen(path: string, options: ControlServerOptions): Promise<ControlServer> {
    const control = new ControlServer(options);
    await new Promise<void>((resolve, reject) => {
      control.#server.once('error', reject).listen(path, resolve);
    });
    await chmod(path, 0o600);
    return control;
  }

  /** Ends all connections; a hold is aborted. */
  async close(): Promise<void> {
    const closed = new Promise((resolve) => this.#server.close(resolve));
    this.#owner?.write(encodeInvalid('the tap was stopped'));
    for (const socket of this.#connections.keys()) socket.destroySoon();
    await Promise.all(this.#connections.values());
    await closed;
  }

  /** Never rejects. */
  async #serve(socket: Socket): Promise<void> {
    socket.on('error', () => socket.destroy());
    // Writers may be waiting at a gate whose closer is gone.
    let waitEnds = Promise.resolve();
    socket.once('close', () => {
      if (this.#owner !== socket) return;
      waitEnds = this.#options.tap.abort().catch(() => undefined);
      this.#givenBack = waitEnds;
    });
    const refuse = (reason: string): never => {
      throw new StillpointError('bad-message', { thing: 'message to the tap', reason });
    };
    try {
      // Not destroyed by what ends the loop: the reason is still to be written.
      const chunks = socket.iterator({ destroyOnReturn: false });
      for await (const line of splitLines(chunks, CONTROL_LINE_BYTES_MAX, refuse)) {
        await this.#answer(socket, parseRequest(line));
        if (socket.writableLength > UNREAD_BYTES_MAX) refuse('its answers are not read');
      }
    } catch (error) {
      if (socket.writable) socket.write(encodeFailure(null, error));
    } finally {
      socket.destroySoon();
      // Not later: it would end the hold of the next one.
      await waitEnds;
      if (this.#owner === socket) await this.#abandon();
    }
  }

  async #abandon(): Promise<void> {
    const { log, tap } = this.#options;
    log.warn('the client that held the snapshot is gone: aborted');
    try {
      await tap.abort();
    } catch (error) {
      log.error({ error: (error as Error).message }, 'the snapshot could not be released');
    } finally {
      this.#setOwner(null);
    }
  }

  async #answer(socket: Socket, request: ControlRequest): Promise<void> {
    try {
      const result = await this.#perform(socket, request);
      if (socket.writable) socket.write(encodeResult(request.id, result));
      if (request.op === 'stop') this.#options.onStop();
    } catch (error) {
      this.#options.log.warn({ op: request.op, error: (error as Error).message }, 'refused');
      if (socket.writable) socket.write(encodeFailure(request.id, error));
    }
  }

  async #perform(socket: Socket, request: ControlRequest): Promise<unknown> {
    const { tap, log } = this.#options;
    switch (request.op) {
      case 'status':
        return this.#options.report();
      case 'prepare':
        return this.#prepare(socket, request.options);
      case 'close':
        return this.#step(socket, () => tap.closeGate(request.limits));
      case 'open':
        return this.#step(socket, () => tap.openGate());
      case 'cut':
        return this.#step(socket, () => this.#cut());
      case 'abort':
        if (this.#owner !== socket) return null;
        await tap.abort();
        this.#setOwner(null);
        log.info('snapshot aborted');
        return null;
      case 'commit':
        this.#checkMayCommit(socket);
        await tap.commit();
        this.#setOwner(null);
        log.info('snapshot committed');
        return null;
      case 'mark':
        await tap.mark(request.ranges);
        return null;
      case 'adopt':
        this.#checkMayCommit(socket);
        await tap.adopt(request.pointId, request.complete);
        this.#setOwner(null);
        log.info({ point: request.pointId, complete: request.complete }, 'map adopted after a comparison');
        return null;
      case 'void-map':
        await tap.voidMap(request.reason);
        log.warn({ reason: request.reason }, 'map voided');
        return null;
      case 'journal-release':
        await tap.releaseJournal(request.journalId, request.ordinal);
        return null;
      case 'journal-break':
        await tap.breakJournal(request.journalId, request.reason);
        log.warn({ reason: request.reason }, 'journal broken');
        return null;
      case 'stop':
        return null;
    }
  }

  async #prepare(
    socket: Socket,
    options: Extract<ControlRequest, { op: 'prepare' }>['options'],
  ): Promise<void> {
    const { tap, name } = this.#options;
    if (this.#owner !== null && this.#owner !== socket) await this.#connectionEnds(this.#owner);
    if (this.#owner !== null) throw busy(name);
    this.#setOwner(socket);
    try {
      await this.#givenBack;
      await tap.prepare({ ...options, ...(await this.#options.holdSettings()) });
    } catch (error) {
      this.#setOwner(null);
      throw holdError(name, error);
    }
  }

  async #step<Result>(socket: Socket, work: () => Promise<Result>): Promise<Result> {
    const { name } = this.#options;
    if (this.#owner !== socket) {
      throw new StillpointError('session-closed', {
        thing: `tap ${name}`,
        reason: 'this connection has prepared no snapshot',
      });
    }
    try {
      return await work();
    } catch (error) {
      throw holdError(name, error);
    }
  }

  async #cut(): Promise<ControlHold> {
    const { tap, snapshotAddress, log } = this.#options;
    const hold = await tap.cut();
    const { exportName: session, mapUsed, reason, changedBlocks, closedMs } = hold;
    log.info({ session, mapUsed, reason, changedBlocks, closedMs }, 'snapshot held');
    return { ...hold, snapshotAddress };
  }

  /** Or it doesn't, within the wait: the owner may have been cancelled a moment ago, or may be at work. */
  async #connectionEnds(owner: Socket): Promise<void> {
    const waited = new AbortController();
    const wait = sleep(OWNER_WAIT_MS, undefined, { signal: waited.signal }).catch(() => undefined);
    await Promise.race([this.#connections.get(owner), wait]);
    waited.abort();
  }

  #checkMayCommit(socket: Socket): void {
    const hold = this.#owner === socket ? this.#options.tap.status().hold : null;
    if (hold?.state === 'held') return;
    throw new StillpointError('session-closed', {
      thing: `tap ${this.#options.name}`,
      reason:
        hold === null ? 'this connection holds no snapshot' : `the snapshot was given up: ${hold.reason}`,
    });
  }

  #setOwner(owner: Socket | null): void {
    this.#owner = owner;
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#watch = owner === null ? null : setInterval(() => this.#tellIfInvalid(owner), INVALID_POLL_MS);
  }

  #tellIfInvalid(owner: Socket): void {
    const { tap, log } = this.#options;
    const { hold } = tap.status();
    if (hold?.state !== 'invalid') return;
    if (this.#watch !== null) clearInterval(this.#watch);
    this.#watch = null;
    log.warn({ reason: hold.reason }, 'snapshot given up');
    if (owner.writable) owner.write(encodeInvalid(hold.reason));
  }
}

function busy(name: string): StillpointError {
  return new StillpointError('session-busy', {
    thing: `tap ${name}`,
    reason: 'another backup holds its snapshot',
    remedy: 'Wait until it has ended.',
    permanent: false,
  });
}

/** What the native tap says, in the words of the user. */
function holdError(name: string, error: unknown): unknown {
  if (error instanceof StillpointError || !(error instanceof Error)) return error;
  const { code } = error as NodeJS.ErrnoException;
  const about = { thing: `tap ${name}`, permanent: false, cause: error };
  switch (code) {
    case 'EBUSY':
      return busy(name);
    case 'barrier-timeout':
      return new StillpointError('device-changed', {
        ...about,
        reason:
          'writes in flight did not end within the time given; there is no instant that could become a point',
        remedy: 'The device below may hang; try again when it answers.',
      });
    case 'gate-open':
      return new StillpointError('device-changed', {
        ...about,
        reason: 'it had to let writes go on before the instant was taken',
        remedy: 'Try again when the machine is less busy.',
      });
    case 'ETRUNCATED':
      return new StillpointError('device-changed', {
        ...about,
        reason: error.message,
        remedy: 'Restore its source from a point, or restart the tap to continue with the smaller size.',
      });
    default:
      return new StillpointError('device-io', { ...about, reason: error.message });
  }
}
