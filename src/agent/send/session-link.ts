/**
 * One session at the receiver, over a link that may break: every message is idempotent, so a message that
 * fails for a passing reason is sent again, after a question for the session's status. The session continues
 * while the receiver holds it open and the patience lasts.
 *
 * The status decides what is sent again: batches up to the durable one are not, and a commit whose answer was
 * lost is found as committed. No locking: calls run side by side, each with its own attempts.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { type Pauses, type RetryPolicy, retry } from '../../domain/base/retry.js';
import type { Point } from '../../domain/point/point.js';
import type { BeginAnswer, BeginRequest, CommitRequest } from '../../domain/session/messages.js';
import type { SessionPort } from '../../protocol/port/session.js';
import { RETRY_DEFAULT } from '../../protocol/retry.js';
import { unlessAborted } from '../common/cancel.js';

/** How long a session waits for a receiver that does not answer. */
export const PATIENCE_MS = 10 * 60 * 1000;
const PAUSES: Pauses = { pauseMs: 200, pauseMaxMs: 30_000 };
const ABORT_TIMEOUT_MS = 5000;

export interface SessionLinkOptions {
  readonly signal: AbortSignal;
  readonly patienceMs: number;
  /** The link broke; the same call is tried again after a pause. */
  readonly onInterruption: (error: StillpointError) => void;
}

export class SessionLink {
  readonly #receiver: SessionPort;
  readonly #request: BeginRequest;
  readonly #options: SessionLinkOptions;
  readonly #stop = new AbortController();
  #durableSequence = 0;
  /**
   * When the durable sequence last grew: patience begins anew, for a link that breaks often
   * and yet carries something.
   */
  #progressMs = Number.NEGATIVE_INFINITY;
  /** Batches that are not answered yet, by number. */
  readonly #underWay = new Map<number, Promise<void>>();
  #point: Point | null = null;

  constructor(receiver: SessionPort, request: BeginRequest, options: SessionLinkOptions) {
    this.#receiver = receiver;
    this.#request = request;
    this.#options = options;
    this.signal = AbortSignal.any([options.signal, this.#stop.signal]);
  }

  /** Aborted by the caller or by `stop`. */
  readonly signal: AbortSignal;

  get sessionId(): string {
    return this.#request.sessionId;
  }

  /**
   * A begin that is repeated resumes the session that the first one opened, or that an earlier process did.
   */
  begin(): Promise<BeginAnswer> {
    return this.#persist(async () => {
      const answer = await this.#receiver.begin(this.#request);
      this.#durableSequence = answer.durableSequence;
      return answer;
    }, false);
  }

  have(digests: Uint8Array): Promise<Uint8Array> {
    return this.#persist(() => this.#receiver.have(this.sessionId, digests));
  }

  pieces(blockIndexes: readonly number[]): Promise<Uint8Array> {
    return this.#persist(() => this.#receiver.pieces(this.sessionId, blockIndexes));
  }

  /** Resolves when the batch is durable at the receiver. */
  async batch(sequence: number, body: Uint8Array): Promise<void> {
    const sending = this.#send(sequence, body).finally(() => this.#underWay.delete(sequence));
    this.#underWay.set(sequence, sending);
    await sending;
  }

  #send(sequence: number, body: Uint8Array): Promise<void> {
    let isFirst = true;
    return this.#persist(async () => {
      // Over a link that broke they go one after the other: side by side, none might come
      // through before it breaks again.
      if (!isFirst) await this.#earlierBatches(sequence);
      isFirst = false;
      if (sequence <= this.#durableSequence) return;
      const answer = await this.#receiver.batch(this.sessionId, sequence, body);
      this.#durableUpTo(answer.durableSequence);
    });
  }

  /**
   * Makes a second connection while the first one is busy: what its certificates take is then not lost on
   * the batch that needs it.
   */
  prepare(): void {
    this.#receiver.status(this.sessionId).catch(() => undefined);
  }

  async #earlierBatches(sequence: number): Promise<void> {
    const earlier = [...this.#underWay].flatMap(([number, sending]) => (number < sequence ? [sending] : []));
    await Promise.allSettled(earlier);
  }

  #durableUpTo(sequence: number): void {
    if (sequence > this.#durableSequence) this.#progressMs = performance.now();
    this.#durableSequence = Math.max(this.#durableSequence, sequence);
  }

  commit(request: CommitRequest): Promise<Point> {
    return this.#persist(async () => this.#point ?? (await this.#receiver.commit(this.sessionId, request)));
  }

  /** All calls under way reject: the session has failed, and nobody shall wait for a link. */
  stop(): void {
    this.#stop.abort();
  }

  /** As far as the receiver can be reached: a session that is not aborted is superseded by the next one. */
  async abort(): Promise<void> {
    const timeout = AbortSignal.timeout(ABORT_TIMEOUT_MS);
    await unlessAborted(timeout, this.#receiver.abort(this.sessionId)).catch(() => undefined);
  }

  #persist<T>(call: () => Promise<T>, mayAskStatus: boolean = true): Promise<T> {
    const { patienceMs, onInterruption } = this.#options;
    const policy: RetryPolicy = {
      ...{ ...RETRY_DEFAULT, ...PAUSES, patienceMs },
      progressMs: () => this.#progressMs,
      onFailure: onInterruption,
      sleep: (ms) => unlessAborted(this.signal, sleep(ms)),
    };
    return retry(policy, async (failures) => {
      if (failures > 0 && mayAskStatus) await this.#askStatus();
      return unlessAborted(this.signal, call());
    });
  }

  async #askStatus(): Promise<void> {
    const status = await unlessAborted(this.signal, this.#receiver.status(this.sessionId));
    if (status.state === 'unknown') {
      throw new StillpointError('session-unknown', {
        thing: `session of device ${this.#request.device}`,
        reason: 'the receiver no longer holds it',
        remedy: 'Back up again: blocks that had arrived are not sent again.',
      });
    }
    this.#durableUpTo(status.durableSequence);
    this.#point = status.point;
  }
}
