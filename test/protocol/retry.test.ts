import test from 'ava';
import { StillpointError } from '../../src/domain/base/errors.js';
import { type RetryPolicy, retry } from '../../src/protocol/retry.js';

const passing = new StillpointError('connection-lost', { thing: 'x', reason: 'y', permanent: false });
const lasting = new StillpointError('bad-batch', { thing: 'x', reason: 'y' });

/** A policy on a clock of its own. */
function policy(): RetryPolicy & { pauses: number[] } {
  let nowMs = 0;
  const pauses: number[] = [];
  return {
    pauses,
    deadlineMs: 1000,
    pauseMs: 100,
    pauseMaxMs: 300,
    now: () => nowMs,
    sleep: async (ms) => {
      pauses.push(ms);
      nowMs += ms;
    },
    random: () => 1,
  };
}

function failing(times: number, error: Error): () => Promise<number> {
  let calls = 0;
  return async () => {
    calls += 1;
    if (calls <= times) throw error;
    return calls;
  };
}

test('passing errors are tried again, with pauses that grow up to a bound', async (t) => {
  const p = policy();
  t.is(await retry(p, failing(4, passing)), 5);
  t.deepEqual(p.pauses, [100, 200, 300, 300]);
});

test('no attempt begins after the deadline', async (t) => {
  const p = policy();
  t.is(await t.throwsAsync(retry(p, failing(100, passing))), passing);
  t.deepEqual(p.pauses, [100, 200, 300, 300]);
});

test('lasting and foreign errors are not tried again', async (t) => {
  for (const error of [lasting, new Error('a defect')]) {
    const p = policy();
    t.is(await t.throwsAsync(retry(p, failing(1, error))), error);
    t.deepEqual(p.pauses, []);
  }
});
