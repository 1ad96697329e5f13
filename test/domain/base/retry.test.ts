import test from 'ava';
import { ERROR_CODES, StillpointError } from '../../../src/domain/base/errors.js';
import { Backoff, isPassing, isTemporary, type RetryPolicy, retry } from '../../../src/domain/base/retry.js';

const passing = new StillpointError('connection-lost', { thing: 'x', reason: 'y', permanent: false });
const lasting = new StillpointError('bad-batch', { thing: 'x', reason: 'y' });

/** A policy on a clock of its own. */
function policy(): RetryPolicy & { pauses: number[] } {
  let nowMs = 0;
  const pauses: number[] = [];
  return {
    pauses,
    patienceMs: 1000,
    pauseMs: 100,
    pauseMaxMs: 300,
    now: () => nowMs,
    sleep: async (ms) => {
      pauses.push(ms);
      nowMs += ms;
    },
    random: () => 0.5,
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

test('the last attempt is made when patience ends', async (t) => {
  const p = policy();
  t.is(await t.throwsAsync(retry(p, failing(100, passing))), passing);
  t.deepEqual(p.pauses, [100, 200, 300, 300, 100]);
});

test('patience begins with the first failure, and anew with progress', async (t) => {
  const slow = policy();
  const calls: number[] = [];
  const work = async (failures: number) => {
    calls.push(failures);
    if (failures === 0) await slow.sleep(5000);
    if (failures < 2) throw passing;
    return 'done';
  };
  t.is(await retry(slow, work), 'done');
  t.deepEqual(calls, [0, 1, 2]);
  const lively = policy();
  t.is(await retry({ ...lively, progressMs: lively.now }, failing(20, passing)), 21);
});

test('who waits hears of each failure that is not the last', async (t) => {
  const heard: unknown[] = [];
  const p = { ...policy(), onFailure: (error: Error) => heard.push(error) };
  await retry(p, failing(2, passing));
  t.deepEqual(heard, [passing, passing]);
  await t.throwsAsync(retry(p, failing(1, lasting)));
  t.is(heard.length, 2);
});

test('who stops waiting makes no further attempt', async (t) => {
  const stopped = new Error('stopped');
  const p = { ...policy(), sleep: () => Promise.reject(stopped) };
  t.is(await t.throwsAsync(retry(p, failing(1, passing))), stopped);
});

test('the errors that are tried again are those of links, and of who is busy', (t) => {
  const again = ERROR_CODES.filter((code) =>
    isPassing(new StillpointError(code, { thing: 'x', reason: 'y', permanent: false })),
  );
  t.deepEqual([...again].sort(), ['busy', 'connection-lost', 'session-busy', 'timeout', 'unreachable']);
  t.false(isPassing(new StillpointError('busy', { thing: 'x', reason: 'y', permanent: true })));
});

test('a question is asked again after whatever is not for good', async (t) => {
  const full = new StillpointError('store-full', { thing: 'x', reason: 'y', permanent: false });
  await t.throwsAsync(retry(policy(), failing(1, full)), { is: full });
  await t.notThrowsAsync(retry({ ...policy(), passes: isTemporary }, failing(1, full)));
  for (const error of [lasting, new Error('a defect')]) {
    await t.throwsAsync(retry({ ...policy(), passes: isTemporary }, failing(1, error)), { is: error });
  }
});

test('pauses are drawn around the nominal one, and begin anew after a success', (t) => {
  const chances = [0, 1, 0.5];
  const backoff = new Backoff({ pauseMs: 100, pauseMaxMs: 1000 }, () => chances.shift() ?? 0.5);
  t.deepEqual([backoff.next(), backoff.next(), backoff.next()], [75, 250, 400]);
  backoff.reset();
  t.is(backoff.next(), 100);
});

test('lasting and foreign errors are not tried again', async (t) => {
  for (const error of [lasting, new Error('a defect')]) {
    const p = policy();
    t.is(await t.throwsAsync(retry(p, failing(1, error))), error);
    t.deepEqual(p.pauses, []);
  }
});
