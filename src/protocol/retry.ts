/**
 * Repeats messages whose errors are not permanent, with growing pauses, until a deadline: all messages are idempotent. A
 * decorator over any DataPort. `verify`, `check` and `diff` are passed through, since events that were handed on can't be taken back.
 */
import { setTimeout as pause } from 'node:timers/promises';
import { isStillpointError } from '../domain/base/errors.js';
import type { BlockRange } from '../domain/blocks/block-ranges.js';
import type { Point } from '../domain/point/point.js';
import type {
  BeginAnswer,
  BeginRequest,
  CheckEvent,
  CommitRequest,
  DiffEvent,
  NodeRequest,
  PartialSet,
  PointsOptions,
  ReceiverInfo,
  SessionStatus,
  VerifyEvent,
} from '../domain/session/messages.js';
import type { DataPort } from './port/receiver.js';

export interface RetryPolicy {
  /** From the first attempt of a message: no other begins after it. */
  readonly deadlineMs: number;
  /** Before the second attempt; doubles up to pauseMaxMs. Each pause is drawn from half to all of it. */
  readonly pauseMs: number;
  readonly pauseMaxMs: number;
  /** Monotonic, ms. */
  readonly now: () => number;
  readonly sleep: (ms: number) => Promise<void>;
  /** From 0 up to 1. */
  readonly random: () => number;
}

export const RETRY_DEFAULT: RetryPolicy = {
  deadlineMs: 5 * 60_000,
  pauseMs: 250,
  pauseMaxMs: 15_000,
  now: () => performance.now(),
  sleep: async (ms) => {
    await pause(ms);
  },
  random: Math.random,
};

export async function retry<T>(policy: RetryPolicy, call: () => Promise<T>): Promise<T> {
  const endMs = policy.now() + policy.deadlineMs;
  for (let pauseMs = policy.pauseMs; ; pauseMs = Math.min(2 * pauseMs, policy.pauseMaxMs)) {
    try {
      return await call();
    } catch (error) {
      const drawnMs = pauseMs * (0.5 + policy.random() / 2);
      if (!isStillpointError(error) || error.permanent || policy.now() + drawnMs > endMs) throw error;
      await policy.sleep(drawnMs);
    }
  }
}

export class RetryingReceiver implements DataPort {
  readonly #port: DataPort;
  readonly #policy: RetryPolicy;

  constructor(port: DataPort, policy: RetryPolicy = RETRY_DEFAULT) {
    this.#port = port;
    this.#policy = policy;
  }

  info(): Promise<ReceiverInfo> {
    return this.#retry(() => this.#port.info());
  }

  points(device?: string, options?: PointsOptions): Promise<Point[]> {
    return this.#retry(() => this.#port.points(device, options));
  }

  partialSets(device?: string): Promise<PartialSet[]> {
    return this.#retry(() => this.#port.partialSets(device));
  }

  begin(request: BeginRequest): Promise<BeginAnswer> {
    return this.#retry(() => this.#port.begin(request));
  }

  have(sessionId: string, digests: Uint8Array): Promise<Uint8Array> {
    return this.#retry(() => this.#port.have(sessionId, digests));
  }

  pieces(sessionId: string, blockIndexes: readonly number[]): Promise<Uint8Array> {
    return this.#retry(() => this.#port.pieces(sessionId, blockIndexes));
  }

  batch(sessionId: string, sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    return this.#retry(() => this.#port.batch(sessionId, sequence, body));
  }

  status(sessionId: string): Promise<SessionStatus> {
    return this.#retry(() => this.#port.status(sessionId));
  }

  commit(sessionId: string, request: CommitRequest): Promise<Point> {
    return this.#retry(() => this.#port.commit(sessionId, request));
  }

  abort(sessionId: string): Promise<void> {
    return this.#retry(() => this.#port.abort(sessionId));
  }

  nodes(pointId: string, requests: readonly NodeRequest[]): Promise<Uint8Array> {
    return this.#retry(() => this.#port.nodes(pointId, requests));
  }

  compareNodes(question: Uint8Array): Promise<Uint8Array> {
    return this.#retry(() => this.#port.compareNodes(question));
  }

  blocks(pointId: string, blockIndexes: readonly number[]): Promise<Uint8Array> {
    return this.#retry(() => this.#port.blocks(pointId, blockIndexes));
  }

  verify(pointId?: string): AsyncIterable<VerifyEvent> {
    return this.#port.verify(pointId);
  }

  check(pointId: string, ranges?: readonly BlockRange[]): AsyncIterable<CheckEvent> {
    return this.#port.check(pointId, ranges);
  }

  diff(fromId: string, toId: string): AsyncIterable<DiffEvent> {
    return this.#port.diff(fromId, toId);
  }

  #retry<T>(call: () => Promise<T>): Promise<T> {
    return retry(this.#policy, call);
  }
}
