/**
 * The states of a session, and which message is allowed in which. Pure.
 *
 * | state      | begin (same id)  | have, pieces, batch | status | commit           | abort            |
 * |------------|------------------|---------------------|--------|------------------|------------------|
 * | open       | resumes          | yes                 | yes    | -> committing    | -> aborted       |
 * | committing | `session-busy`   | `session-closed`    | yes    | joins            | `session-busy`   |
 * | committed  | `session-closed` | `session-closed`    | yes    | the point again  | `session-closed` |
 * | aborted    | starts anew      | `session-unknown`   | yes    | `session-unknown`| yes (gone)       |
 *
 * committing -> committed, or back to open if the commit fails: durable batches stay durable, and the agent
 * decides. An id that the receiver does not know, or that is another agent's, is in state `aborted`: nobody
 * can tell the three apart.
 */
import { type ErrorCode, StillpointError } from '../base/errors.js';

export type SessionState = 'open' | 'committing' | 'committed' | 'aborted';
export type SessionMessage = 'begin' | 'have' | 'pieces' | 'batch' | 'status' | 'commit' | 'abort';

type Refusal = Extract<ErrorCode, 'session-busy' | 'session-closed' | 'session-unknown'>;

const REFUSALS: Record<SessionState, Partial<Record<SessionMessage, Refusal>>> = {
  open: {},
  committing: {
    begin: 'session-busy',
    have: 'session-closed',
    pieces: 'session-closed',
    batch: 'session-closed',
    abort: 'session-busy',
  },
  committed: {
    begin: 'session-closed',
    have: 'session-closed',
    pieces: 'session-closed',
    batch: 'session-closed',
    abort: 'session-closed',
  },
  aborted: {
    have: 'session-unknown',
    pieces: 'session-unknown',
    batch: 'session-unknown',
    commit: 'session-unknown',
  },
};

const REASONS: Record<Refusal, { reason: string; remedy: string; permanent: boolean }> = {
  'session-busy': {
    reason: 'it is being committed',
    remedy: 'Try again when the commit has ended.',
    permanent: false,
  },
  'session-closed': {
    reason: 'it is committed or being committed and takes nothing more',
    remedy: 'Ask for its status, and begin another session for the next backup.',
    permanent: true,
  },
  'session-unknown': {
    reason:
      'no such session is open: it was never begun, it was aborted, or a newer session of its device replaced it',
    remedy: 'Begin a new session.',
    permanent: true,
  },
};

/**
 * @throws StillpointError `session-busy`, `session-closed` or `session-unknown` where the message is not
 * allowed in the state.
 */
export function guardMessage(state: SessionState, message: SessionMessage, sessionId: string): void {
  const refusal = REFUSALS[state][message];
  if (refusal === undefined) return;
  throw new StillpointError(refusal, { thing: `session ${sessionId}`, ...REASONS[refusal] });
}

const TRANSITIONS: Record<SessionState, readonly SessionState[]> = {
  open: ['committing', 'aborted'],
  committing: ['open', 'committed'],
  committed: [],
  aborted: ['aborted'],
};

/**
 * The next state. A transition that the table does not have is a defect of the caller,
 * not an answer to an agent.
 */
export function transition(from: SessionState, to: SessionState): SessionState {
  if (!TRANSITIONS[from].includes(to)) throw new Error(`a session can't go from ${from} to ${to}`);
  return to;
}
