/**
 * One open session: its state (src/domain/session.ts), and the order of what reaches its capture.
 *
 * Batches come over several connections, so n + 1 may arrive before n: it waits for its predecessor, a bounded number of
 * them and a bounded time. They are handed to the capture in order but not one by one: it makes several durable at once.
 * | message | waits for                                  | while it runs                       |
 * |---------|--------------------------------------------|-------------------------------------|
 * | batch   | the batch before it to be handed over      | other batches and haves run         |
 * | have    | nothing                                    | all run                             |
 * | commit  | batches that run; the same commit is joined | all but status and commit refused  |
 * | abort   | batches and haves that run                 | all but status and abort refused    |
 */
import { StillpointError } from '../domain/errors.js';
import { BATCH_WINDOW } from '../domain/limits.js';
import type { CommitRequest } from '../domain/messages.js';
import { CONSISTENCY_KINDS, type Point } from '../domain/point.js';
import { guardMessage, type SessionMessage, type SessionState, transition } from '../domain/session.js';
import type { Capture } from '../store/store-port.js';

/** Batches ahead of the next one that may wait: more than any agent keeps in flight. */
const AHEAD_MAX = 4 * BATCH_WINDOW;
export const PREDECESSOR_WAIT_MS = 10_000;

interface Commit {
  readonly root: string;
  readonly batchCount: number;
  readonly result: Promise<Point>;
}

export interface SessionOptions {
  readonly predecessorWaitMs: number;
  /** Called once, in the same instant as the session's last change of state: committed, or gone. */
  readonly onEnd: (session: OpenSession) => void;
}

export class OpenSession {
  readonly capture: Capture;
  readonly base: Point | null;
  #state: SessionState = 'open';
  /** The highest batch that the capture was given, in order. */
  #handedOver: number;
  readonly #batches = new Map<number, Promise<{ durableSequence: number }>>();
  readonly #haves = new Set<Promise<unknown>>();
  /** Wakes those that wait for a predecessor or for a change of state. */
  readonly #waiting = new Map<number, () => void>();
  #commit: Commit | null = null;
  #abort: Promise<void> | null = null;
  readonly #options: SessionOptions;

  constructor(capture: Capture, base: Point | null, options: SessionOptions) {
    this.capture = capture;
    this.base = base;
    this.#handedOver = capture.durableSequence;
    this.#options = options;
  }

  get id(): string {
    return this.capture.description.sessionId;
  }

  get state(): SessionState {
    return this.#state;
  }

  /** @throws StillpointError where the state does not allow the message */
  guard(message: SessionMessage): void {
    guardMessage(this.#state, message, this.id);
  }

  async have(digests: Uint8Array): Promise<Uint8Array> {
    this.guard('have');
    const answer = this.capture.have(digests);
    this.#haves.add(answer);
    try {
      return await answer;
    } finally {
      this.#haves.delete(answer);
    }
  }

  async batch(sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    this.guard('batch');
    // The same batch again, sent over a new connection while the first still runs.
    const running = this.#batches.get(sequence);
    if (running !== undefined) return running;
    if (sequence > this.#handedOver + 1) await this.#predecessor(sequence);
    return this.#handOver(sequence, body);
  }

  #handOver(sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    const result = this.capture.append(sequence, body).finally(() => this.#batches.delete(sequence));
    this.#batches.set(sequence, result);
    this.#handedOver = Math.max(this.#handedOver, sequence);
    // A batch that fails takes those behind it with it; the agent sends them again.
    result.catch(() => {
      this.#handedOver = Math.min(this.#handedOver, sequence - 1);
    });
    this.#waiting.get(sequence + 1)?.();
    return result;
  }

  async #predecessor(sequence: number): Promise<void> {
    if (sequence > this.#handedOver + AHEAD_MAX || this.#waiting.has(sequence))
      throw this.#outOfOrder(sequence);
    let timer: NodeJS.Timeout | undefined;
    await new Promise<void>((resolve) => {
      this.#waiting.set(sequence, resolve);
      timer = setTimeout(resolve, this.#options.predecessorWaitMs);
    });
    clearTimeout(timer);
    this.#waiting.delete(sequence);
    this.guard('batch');
    if (sequence > this.#handedOver + 1) throw this.#outOfOrder(sequence);
  }

  #outOfOrder(sequence: number): StillpointError {
    return new StillpointError('out-of-order', {
      thing: `batch ${sequence} of session ${this.id}`,
      reason: `batch ${this.#handedOver + 1} has to come before it`,
      remedy: 'Send the batches in order.',
      permanent: false,
    });
  }

  commit(request: CommitRequest): Promise<Point> {
    this.guard('commit');
    if (this.#commit === null) {
      this.#state = transition(this.#state, 'committing');
      const { root, batchCount } = request;
      this.#commit = { root, batchCount, result: this.#runCommit(request) };
    } else if (this.#commit.root !== request.root || this.#commit.batchCount !== request.batchCount) {
      guardMessage('committing', 'begin', this.id);
    }
    return this.#commit.result;
  }

  async #runCommit(request: CommitRequest): Promise<Point> {
    this.#wakeAll();
    try {
      await this.#settled();
      this.#checkCommit(request);
      const point = await this.capture.commit(request);
      this.#state = transition(this.#state, 'committed');
      this.#options.onEnd(this);
      return point;
    } catch (error) {
      this.#state = transition(this.#state, 'open');
      this.#commit = null;
      throw error;
    }
  }

  #checkCommit(request: CommitRequest): void {
    const { durableSequence, description } = this.capture;
    if (request.batchCount !== durableSequence) {
      throw new StillpointError('out-of-order', {
        thing: `commit of session ${this.id}`,
        reason: `it is of ${request.batchCount} batches, and ${durableSequence} are durable`,
        remedy: 'Send the missing batches first.',
      });
    }
    if (CONSISTENCY_KINDS.indexOf(request.kind) < CONSISTENCY_KINDS.indexOf(description.kind)) {
      throw new StillpointError('bad-message', {
        thing: `commit of session ${this.id}`,
        reason: `its instant can't be "${request.kind}", since the session began as "${description.kind}"`,
      });
    }
  }

  /** Gone when it resolves; joined while it runs, and may be called again when it failed. */
  abort(): Promise<void> {
    this.guard('abort');
    this.#state = transition(this.#state, 'aborted');
    this.#abort ??= this.#runAbort();
    return this.#abort;
  }

  async #runAbort(): Promise<void> {
    this.#wakeAll();
    try {
      await this.#settled();
      await this.capture.abort();
      this.#options.onEnd(this);
    } catch (error) {
      this.#abort = null;
      throw error;
    }
  }

  /** Waits for what runs; nothing is refused by it. */
  async idle(): Promise<void> {
    await this.#settled();
    await Promise.allSettled([this.#commit?.result, this.#abort]);
  }

  #wakeAll(): void {
    for (const wake of this.#waiting.values()) wake();
  }

  async #settled(): Promise<void> {
    await Promise.allSettled([...this.#batches.values(), ...this.#haves]);
  }
}
