/** The other end of a tap's control socket: for the agent, and for the commands. */
import { connect, type Socket } from 'node:net';
import { StillpointError } from '../../domain/base/errors.js';
import { splitLines } from '../../domain/base/lines.js';
import { whyNotConnected } from '../../domain/base/system-errors.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { TapGateLimits } from '../../native/index.js';
import {
  CONTROL_LINE_BYTES_MAX,
  type ControlCall,
  type ControlHold,
  type ControlHoldOptions,
  checkResult,
  decodeFailure,
  encodeRequest,
  holdSchema,
  parseReply,
  quietSchema,
  RANGES_MAX,
  reportSchema,
  type TapReport,
} from './messages.js';

export interface TapControl {
  /** An abort of the signal closes the connection: a tap that is stopped never answers. */
  status(signal?: AbortSignal): Promise<TapReport>;
  /**
   * What is prepared or held belongs to this connection: it ends with `abort`, `commit` or `close`, at the
   * latest with this process. An abort of the signal closes the connection.
   * @throws StillpointError `session-busy`, `device-changed` (its source was cut), `cancelled`
   */
  prepare(options: ControlHoldOptions, signal?: AbortSignal): Promise<void>;
  /**
   * From here on nobody writes, up to the limits.
   * @returns how long nothing had been written by then, in ms.
   * @throws StillpointError `device-changed` (writes in flight did not end), `cancelled`
   */
  closeGate(limits: TapGateLimits, signal?: AbortSignal): Promise<number>;
  /** Back to prepared. */
  openGate(): Promise<void>;
  /**
   * The instant; the gate is open after it.
   * @throws StillpointError `device-changed`: it was before, there is none
   */
  cut(signal?: AbortSignal): Promise<ControlHold>;
  abort(): Promise<void>;
  /** @throws StillpointError `session-closed` if the snapshot was given up meanwhile */
  commit(): Promise<void>;
  /** Blocks of the tap's size count as written. */
  mark(ranges: readonly BlockRange[]): Promise<void>;
  /**
   * What is held was compared with the point and what differs is marked: the map counts for
   * the point, the hold ends.
   * @throws StillpointError `session-closed` if the snapshot was given up meanwhile
   */
  adopt(pointId: string, complete: boolean): Promise<void>;
  voidMap(reason: string): Promise<void>;
  /** The receiver has all records of the journal up to this one. */
  releaseJournal(journalId: string, ordinal: number): Promise<void>;
  /** The journal ends here; the next hold begins a new one. @param reason a clause */
  breakJournal(journalId: string, reason: string): Promise<void>;
  /** Answered before the tap has stopped. */
  stop(): Promise<void>;
  /** Called once if the held snapshot is given up, with the reason (a clause); also when the tap is gone. */
  onInvalid(listener: (reason: string) => void): void;
  /** Harmless a second time. */
  close(): void;
}

/** @throws StillpointError `unreachable` if no tap answers there */
export async function connectTap(controlPath: string): Promise<TapControl> {
  const socket = connect({ path: controlPath });
  await new Promise<void>((resolve, reject) => {
    socket.once('connect', resolve).once('error', (cause) => {
      reject(
        new StillpointError('unreachable', {
          thing: controlPath,
          reason: whyNotConnected(cause, 'no tap answers'),
          remedy: 'Start the tap: stillpoint tap start NAME',
          permanent: false,
          cause,
        }),
      );
    });
  });
  return new Connection(socket, controlPath);
}

interface Waiting {
  resolve(result: unknown): void;
  reject(error: unknown): void;
}

class Connection implements TapControl {
  readonly #socket: Socket;
  readonly #path: string;
  readonly #waiting = new Map<number, Waiting>();
  #nextId = 1;
  #lost: StillpointError | null = null;
  #isHeld = false;
  #listener: ((reason: string) => void) | null = null;

  constructor(socket: Socket, path: string) {
    this.#socket = socket;
    this.#path = path;
    socket.on('error', () => undefined);
    void this.#receive();
  }

  async status(signal?: AbortSignal): Promise<TapReport> {
    const report = await this.#callUnlessAborted({ op: 'status' }, signal);
    return checkResult('status of the tap', reportSchema, report);
  }

  async prepare(options: ControlHoldOptions, signal?: AbortSignal): Promise<void> {
    await this.#callUnlessAborted({ op: 'prepare', options }, signal);
  }

  async closeGate(limits: TapGateLimits, signal?: AbortSignal): Promise<number> {
    const quietMs = await this.#callUnlessAborted({ op: 'close', limits }, signal);
    return checkResult('answer of the tap', quietSchema, quietMs);
  }

  async openGate(): Promise<void> {
    await this.#call({ op: 'open' });
  }

  async cut(signal?: AbortSignal): Promise<ControlHold> {
    try {
      this.#isHeld = true;
      return checkResult('hold of the tap', holdSchema, await this.#callUnlessAborted({ op: 'cut' }, signal));
    } catch (error) {
      this.#isHeld = false;
      throw error;
    }
  }

  async abort(): Promise<void> {
    this.#isHeld = false;
    await this.#call({ op: 'abort' });
  }

  async commit(): Promise<void> {
    await this.#call({ op: 'commit' });
    this.#isHeld = false;
  }

  async mark(ranges: readonly BlockRange[]): Promise<void> {
    for (let at = 0; at < ranges.length; at += RANGES_MAX) {
      const part = ranges.slice(at, at + RANGES_MAX).map(([start, end]): [number, number] => [start, end]);
      await this.#call({ op: 'mark', ranges: part });
    }
  }

  async adopt(pointId: string, complete: boolean): Promise<void> {
    await this.#call({ op: 'adopt', pointId, complete });
    this.#isHeld = false;
  }

  async voidMap(reason: string): Promise<void> {
    await this.#call({ op: 'void-map', reason });
  }

  async releaseJournal(journalId: string, ordinal: number): Promise<void> {
    await this.#call({ op: 'journal-release', journalId, ordinal });
  }

  async breakJournal(journalId: string, reason: string): Promise<void> {
    await this.#call({ op: 'journal-break', journalId, reason });
  }

  async stop(): Promise<void> {
    await this.#call({ op: 'stop' });
  }

  onInvalid(listener: (reason: string) => void): void {
    this.#listener = listener;
  }

  close(): void {
    this.#isHeld = false;
    this.#lose(this.#lostError('the connection was closed'));
  }

  #call(call: ControlCall): Promise<unknown> {
    if (this.#lost !== null) return Promise.reject(this.#lost);
    const id = this.#nextId++;
    return new Promise((resolve, reject) => {
      this.#waiting.set(id, { resolve, reject });
      this.#socket.write(encodeRequest(id, call));
    });
  }

  async #callUnlessAborted(call: ControlCall, signal?: AbortSignal): Promise<unknown> {
    const cancel = (): void => {
      this.#isHeld = false;
      this.#lose(
        new StillpointError('cancelled', { thing: this.#path, reason: 'it was cancelled', permanent: false }),
      );
    };
    if (signal?.aborted === true) cancel();
    signal?.addEventListener('abort', cancel, { once: true });
    try {
      return await this.#call(call);
    } finally {
      signal?.removeEventListener('abort', cancel);
    }
  }

  async #receive(): Promise<void> {
    const refuse = (reason: string): never => {
      throw this.#lostError(reason);
    };
    try {
      for await (const line of splitLines(this.#socket, CONTROL_LINE_BYTES_MAX, refuse)) {
        const reply = parseReply(line);
        if ('event' in reply) this.#invalid(reply.reason);
        else if ('error' in reply) this.#reject(reply.id, decodeFailure(reply.error));
        else this.#take(reply.id)?.resolve(reply.result);
      }
      this.#lose(this.#lostError('the tap ended the connection'));
    } catch (error) {
      this.#lose(error instanceof StillpointError ? error : this.#lostError((error as Error).message));
    }
  }

  #reject(id: number | null, error: StillpointError): void {
    if (id === null) throw error;
    this.#take(id)?.reject(error);
  }

  #take(id: number): Waiting | undefined {
    const waiting = this.#waiting.get(id);
    this.#waiting.delete(id);
    return waiting;
  }

  #invalid(reason: string): void {
    if (!this.#isHeld) return;
    this.#isHeld = false;
    this.#listener?.(reason);
  }

  #lose(error: StillpointError): void {
    if (this.#lost !== null) return;
    this.#lost = error;
    this.#socket.destroy();
    for (const { reject } of this.#waiting.values()) reject(error);
    this.#waiting.clear();
    this.#invalid(error.reason);
  }

  #lostError(reason: string): StillpointError {
    return new StillpointError('connection-lost', { thing: this.#path, reason, permanent: false });
  }
}
