import test from 'ava';
import {
  guardMessage,
  type SessionMessage,
  type SessionState,
  transition,
} from '../../../src/domain/session/session.js';

const ALLOWED: Record<SessionState, readonly SessionMessage[]> = {
  open: ['begin', 'have', 'pieces', 'batch', 'status', 'commit', 'abort'],
  committing: ['status', 'commit'],
  committed: ['status', 'commit'],
  aborted: ['begin', 'status', 'abort'],
};
const STATES = Object.keys(ALLOWED) as SessionState[];

test('each state takes its messages and refuses the others with a code of its own', (t) => {
  const codes: Record<string, string> = {
    committing: 'session-closed',
    committed: 'session-closed',
    aborted: 'session-unknown',
  };
  for (const state of STATES) {
    for (const message of ALLOWED.open) {
      const guard = () => guardMessage(state, message, 'x');
      if (ALLOWED[state].includes(message)) t.notThrows(guard);
      else if (state === 'committing' && (message === 'begin' || message === 'abort')) {
        t.like(t.throws(guard), { code: 'session-busy', permanent: false });
      } else t.like(t.throws(guard), { code: codes[state], permanent: true });
    }
  }
});

test('a session ends once, and a failed commit leaves it open', (t) => {
  t.is(transition('open', 'committing'), 'committing');
  t.is(transition('committing', 'open'), 'open');
  t.is(transition('committing', 'committed'), 'committed');
  t.is(transition('open', 'aborted'), 'aborted');
  for (const to of STATES) t.throws(() => transition('committed', to));
  t.throws(() => transition('committing', 'aborted'));
  t.throws(() => transition('aborted', 'open'));
});
