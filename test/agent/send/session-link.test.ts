import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { SessionLink } from '../../../src/agent/send/session-link.js';
import { type ErrorCode, StillpointError } from '../../../src/domain/base/errors.js';
import type { BeginRequest, CommitRequest, SessionStatus } from '../../../src/domain/session/messages.js';
import type { SessionPort } from '../../../src/protocol/port/session.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { fakePort } from '../../helpers/fakes/port.js';

const SESSION_ID = 'c'.repeat(32);
const point = makePoint({ id: SESSION_ID });
const body = new Uint8Array(8);

const lost = () =>
  new StillpointError('connection-lost', { thing: 'receiver', reason: 'gone', permanent: false });
const refused = (code: ErrorCode) => new StillpointError(code, { thing: 'receiver', reason: 'no' });

/** Answers each call of a method with the next of its script; an Error is thrown. Records what was called. */
function scripted(script: Record<string, readonly unknown[]>) {
  const calls: string[] = [];
  const remaining = new Map(Object.entries(script).map(([name, answers]) => [name, [...answers]]));
  const method =
    (name: string) =>
    async (...args: readonly unknown[]) => {
      calls.push(typeof args[1] === 'number' ? `${name} ${args[1]}` : name);
      const answer = remaining.get(name)?.shift();
      if (answer === undefined) throw new Error(`${name} was not expected`);
      if (answer instanceof Error) throw answer;
      return answer;
    };
  const receiver = Object.fromEntries(
    ['begin', 'have', 'batch', 'status', 'commit', 'abort'].map((name) => [name, method(name)]),
  );
  return { calls, receiver: fakePort<SessionPort>(receiver) };
}

const status = (overrides: Partial<SessionStatus>): SessionStatus => ({
  sessionId: SESSION_ID,
  state: 'open',
  durableSequence: 0,
  point: null,
  ...overrides,
});

function linkTo(receiver: SessionPort, patienceMs = 60_000, signal = new AbortController().signal) {
  const interruptions: string[] = [];
  const link = new SessionLink(receiver, { sessionId: SESSION_ID, device: 'disk1' } as BeginRequest, {
    signal,
    patienceMs,
    onInterruption: (error) => interruptions.push(error.code),
  });
  return { link, interruptions };
}

const codeOf = (error: unknown) => (error as StillpointError | undefined)?.code;

test('a batch whose link broke is sent again when the receiver does not have it', async (t) => {
  const { calls, receiver } = scripted({
    batch: [lost(), { durableSequence: 1 }],
    status: [status({ durableSequence: 0 })],
  });
  const { link, interruptions } = linkTo(receiver);
  await link.batch(1, body);
  t.deepEqual(calls, ['batch 1', 'status', 'batch 1']);
  t.deepEqual(interruptions, ['connection-lost']);
});

test('a batch whose answer was lost is not sent again', async (t) => {
  const { calls, receiver } = scripted({ batch: [lost()], status: [status({ durableSequence: 1 })] });
  await linkTo(receiver).link.batch(1, body);
  t.deepEqual(calls, ['batch 1', 'status']);
});

test('batches of a link that broke are sent again one after the other', async (t) => {
  let atOnce = 0;
  let most = 0;
  const sent: number[] = [];
  const receiver = fakePort<SessionPort>({
    batch: async (_, sequence) => {
      sent.push(sequence);
      if (sent.length <= 3) throw lost();
      atOnce += 1;
      most = Math.max(most, atOnce);
      await sleep(20);
      atOnce -= 1;
      return { durableSequence: sequence };
    },
    status: async () => status({}),
  });
  const { link } = linkTo(receiver);
  await Promise.all([1, 2, 3].map((sequence) => link.batch(sequence, body)));
  t.deepEqual(sent, [1, 2, 3, 1, 2, 3]);
  t.is(most, 1);
});

test('a link that breaks again and again is not given up while it carries something', async (t) => {
  let tries = 0;
  const receiver = fakePort<SessionPort>({
    batch: async (_, sequence) => {
      tries += 1;
      if (tries < 4) throw lost();
      return { durableSequence: sequence };
    },
    // Another batch comes through each time.
    status: async () => status({ durableSequence: tries }),
  });
  await t.notThrowsAsync(linkTo(receiver, 300).link.batch(9, body));
  t.is(tries, 4);
});

test('a link that stays down for a while is waited for', async (t) => {
  const { calls, receiver } = scripted({
    have: [lost(), Uint8Array.of(1)],
    status: [lost(), lost(), status({})],
  });
  const { link, interruptions } = linkTo(receiver);
  t.deepEqual(await link.have(body), Uint8Array.of(1));
  t.deepEqual(calls, ['have', 'status', 'status', 'status', 'have']);
  t.is(interruptions.length, 3);
});

test('a commit whose answer was lost is found as committed', async (t) => {
  const { calls, receiver } = scripted({
    commit: [lost()],
    status: [status({ state: 'committed', point })],
  });
  t.deepEqual(await linkTo(receiver).link.commit({} as CommitRequest), point);
  t.deepEqual(calls, ['commit', 'status']);
});

test('a begin is repeated as it is', async (t) => {
  const answer = { sessionId: SESSION_ID };
  const { calls, receiver } = scripted({ begin: [lost(), answer] });
  t.deepEqual(await linkTo(receiver).link.begin(), answer as never);
  t.deepEqual(calls, ['begin', 'begin']);
});

test('a session that the receiver no longer holds ends the backup', async (t) => {
  const { receiver } = scripted({ batch: [lost()], status: [status({ state: 'unknown' })] });
  t.is(codeOf(await t.throwsAsync(linkTo(receiver).link.batch(1, body))), 'session-unknown');
});

test('a refusal is final', async (t) => {
  const { calls, receiver } = scripted({ batch: [refused('bad-digest')] });
  t.is(codeOf(await t.throwsAsync(linkTo(receiver).link.batch(1, body))), 'bad-digest');
  t.deepEqual(calls, ['batch 1']);
});

test('patience ends, and the last reason is told', async (t) => {
  const { receiver } = scripted({ batch: [lost()], status: Array.from({ length: 9 }, lost) });
  t.is(codeOf(await t.throwsAsync(linkTo(receiver, 500).link.batch(1, body))), 'connection-lost');
});

test('a commit that breaks off after long work is asked for again', async (t) => {
  const { calls, receiver } = scripted({ commit: [lost(), point], status: [status({})] });
  const slow = { ...receiver, commit: receiver.commit };
  slow.commit = async (...args) => {
    await sleep(150);
    return receiver.commit(...args);
  };
  t.deepEqual(await linkTo(slow, 100).link.commit({} as CommitRequest), point);
  t.deepEqual(calls, ['commit', 'status', 'commit']);
});

test('cancelling and stopping end waits at once', async (t) => {
  for (const end of ['cancel', 'stop'] as const) {
    const abort = new AbortController();
    const receiver = fakePort<SessionPort>({ batch: () => new Promise(() => undefined) });
    const { link } = linkTo(receiver, 60_000, abort.signal);
    const batch = link.batch(1, body);
    if (end === 'cancel') abort.abort();
    else link.stop();
    t.is(codeOf(await t.throwsAsync(batch)), 'cancelled', end);
  }
});

test('an abort that gets no answer is given up', async (t) => {
  const { receiver } = scripted({ abort: [lost()] });
  await linkTo(receiver).link.abort();
  t.pass();
});
