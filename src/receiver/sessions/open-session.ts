/**
 * One open session: which messages it takes in which state (src/domain/session/session.ts). Its capture keeps
 * the order of batches, knows what is durable, and serializes calls.
 */

import type { Point } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import {
  guardMessage,
  type SessionMessage,
  type SessionState,
  transition,
} from '../../domain/session/session.js';
import type { Capture } from '../../store/port/store.js';
import type { AuditAct } from '../audit/entry.js';
import type { BaseBlocks } from './base-blocks.js';
import { checkCommit, checkCommitted, isSameCommit } from './check-commit.js';
import type { GroupCommits } from './group-commits.js';

interface Commit {
  readonly request: CommitRequest;
  readonly result: Promise<Point>;
}

/** How a session ended. */
export interface SessionEnd {
  readonly what: AuditAct;
  readonly point?: Point;
}

export class OpenSession {
  readonly capture: Capture;
  readonly #baseBlocks: BaseBlocks;
  readonly #groups: Pick<GroupCommits, 'join' | 'answer'>;
  readonly #onEnd: (session: OpenSession, end: SessionEnd) => void;
  #state: SessionState = 'open';
  #commit: Commit | null = null;

  /**
   * @param groups where it meets others, if it is to be a part of a group point
   * @param onEnd called in the same instant as the session's last change of state: committed, or gone
   */
  constructor(
    capture: Capture,
    baseBlocks: BaseBlocks,
    groups: Pick<GroupCommits, 'join' | 'answer'>,
    onEnd: (session: OpenSession, end: SessionEnd) => void,
  ) {
    this.capture = capture;
    this.#baseBlocks = baseBlocks;
    this.#groups = groups;
    this.#onEnd = onEnd;
  }

  get id(): string {
    return this.capture.description.sessionId;
  }

  get base(): Point | null {
    return this.#baseBlocks.point;
  }

  /** It goes on, or is being committed. */
  get isOpen(): boolean {
    return this.#state === 'open' || this.#state === 'committing';
  }

  get state(): SessionState {
    return this.#state;
  }

  /** @throws StillpointError where the state does not allow the message */
  guard(message: SessionMessage): void {
    guardMessage(this.#state, message, this.id);
  }

  async resume(): Promise<{ durableSequence: number; durableBlockEnd: number }> {
    this.guard('begin');
    return this.capture.resume();
  }

  async have(digests: Uint8Array): Promise<ReadonlySet<number>> {
    this.guard('have');
    return this.capture.have(digests);
  }

  async pieces(blockIndexes: readonly number[]): Promise<Uint8Array> {
    this.guard('pieces');
    return this.#baseBlocks.pieces(blockIndexes);
  }

  /** @param admit refuses a batch of so many bytes, with the whole blocks that its patches make */
  async batch(
    sequence: number,
    body: Uint8Array,
    admit: (bytes: number) => Promise<void> = async () => undefined,
  ): Promise<{ durableSequence: number }> {
    this.guard('batch');
    // A number that is durable is only answered.
    if (sequence <= this.capture.durableSequence) return this.capture.append(sequence, body);
    return this.#baseBlocks.withWholeBlocks(sequence, body, async (whole) => {
      await admit(whole.length);
      this.guard('batch');
      return this.capture.append(sequence, whole);
    });
  }

  /** Sent again while it runs, it is joined. */
  async commit(request: CommitRequest): Promise<Point> {
    this.guard('commit');
    if (this.#commit === null) {
      checkCommit(request, this.capture.description);
      this.#state = transition(this.#state, 'committing');
      this.#commit = { request, result: this.#runCommit(request) };
    } else if (!isSameCommit(this.#commit.request, request)) {
      guardMessage('committing', 'begin', this.id);
    }
    const { group } = request;
    const { result } = this.#commit;
    return group === undefined ? result : this.#groups.answer(this, group, result);
  }

  async #runCommit(request: CommitRequest): Promise<Point> {
    let point: Point;
    try {
      const { group } = request;
      point = await (group === undefined
        ? this.capture.commit(request)
        : this.#groups.join(this, request, group));
    } catch (error) {
      this.#state = transition(this.#state, 'open');
      this.#commit = null;
      throw error;
    }
    this.#state = transition(this.#state, 'committed');
    this.#onEnd(this, { what: 'session-commit', point });
    // An earlier commit that failed may have made the point after all, of an earlier state.
    return checkCommitted(request, point);
  }

  /** Gone when it resolves; may be called again, also when it failed. */
  async abort(what: AuditAct = 'session-abort'): Promise<void> {
    this.guard('abort');
    this.#state = transition(this.#state, 'aborted');
    await this.capture.abort();
    this.#onEnd(this, { what });
  }
}
