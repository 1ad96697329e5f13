import test from 'ava';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { DIFFS_PER_AGENT_MAX, SESSIONS_PER_AGENT_MAX } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { QUOTA_DEFAULT } from '../../../src/receiver/access/quota.js';
import type { Quotas } from '../../../src/receiver/access/quotas.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { beginRequest, commitRequest, GEOMETRY, sessionId } from '../../helpers/bytes/requests.js';
import { FaultyStore, type StoreCall } from '../../helpers/faults/store.js';

/** Batches of no content, so that the root stays that of an empty device. */
const body = (sequence: number) => makeBatch(A, sequence, [{ blockIndex: 0, zeroCount: 1 }]);

async function make(): Promise<{ store: FaultyStore; service: ReceiverService; port: ReceiverPort }> {
  const store = new FaultyStore();
  const service = await ReceiverService.open(store);
  return { store, service, port: agentReceiver(service, 'host') };
}

/** Holds up the store's calls of one kind until it is opened. */
function gate(store: FaultyStore, held: StoreCall): { open: () => void; reached: Promise<void> } {
  let open: () => void = () => undefined;
  let reach: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  store.before = async (call) => {
    if (call !== held) return;
    reach();
    await opened;
  };
  return { open, reached };
}

const [A, B] = [sessionId(1), sessionId(2)];

test('sessions that are being made count: begins side by side do not get past a quota', async (t) => {
  const store = new FaultyStore();
  const quotas = { of: () => ({ ...QUOTA_DEFAULT, sessions: 2 }) } as unknown as Quotas;
  const port = agentReceiver(await ReceiverService.open(store, { quotas }), 'host');
  const begins = await Promise.allSettled(
    [1, 2, 3, 4].map((n) => port.begin(beginRequest({ sessionId: sessionId(n), device: `disk${n}` }))),
  );
  t.deepEqual(
    begins.map(({ status }) => status),
    ['fulfilled', 'fulfilled', 'rejected', 'rejected'],
  );
  await t.notThrowsAsync(port.begin(beginRequest({ sessionId: sessionId(5), device: 'disk1' })));
});

test('a commit is joined when it is sent again, and repeated after its end', async (t) => {
  const { store, port } = await make();
  await port.begin(beginRequest());
  await port.batch(A, 1, body(1));
  const { open, reached } = gate(store, 'commit');
  const commits = [1, 2].map(() => port.commit(A, commitRequest({ batchCount: 1 })));
  await reached;
  t.is((await port.status(A)).state, 'open');
  open();
  const [one, two] = await Promise.all(commits);
  t.is(one, two);
  t.is((await store.points({})).length, 1);
  t.true((await port.commit(A, commitRequest({ batchCount: 1 }))) === one);
  await t.throwsAsync(port.commit(A, commitRequest({ root: 'd'.repeat(64) })), { code: 'root-mismatch' });
  for (const change of [
    { instant: '2027-01-01T00:00:00.000Z' },
    { kind: 'idle' },
    { provider: 'tap' },
  ] as const)
    await t.throwsAsync(port.commit(A, commitRequest(change)), {
      code: 'session-closed',
      message: /another instant: 2026-01-01T00:00:00.000Z, crash, from the provider offline/,
    });
  t.deepEqual(await port.status(A), {
    sessionId: A,
    state: 'committed',
    durableSequence: 0,
    point: one ?? null,
  });
});

test('while a commit runs, nothing else gets in', async (t) => {
  const { store, port } = await make();
  await port.begin(beginRequest());
  const { open, reached } = gate(store, 'commit');
  const commit = port.commit(A, commitRequest());
  await reached;
  await t.throwsAsync(port.batch(A, 1, body(1)), { code: 'session-closed' });
  await t.throwsAsync(port.have(A, Buffer.alloc(32)), { code: 'session-closed' });
  t.like(await t.throwsAsync(port.abort(A)), { code: 'session-busy', permanent: false });
  t.like(await t.throwsAsync(port.begin(beginRequest({ sessionId: B }))), { code: 'session-busy' });
  for (const change of [
    { batchCount: 2 },
    { instant: '2027-01-01T00:00:00.000Z' },
    { kind: 'idle' },
  ] as const)
    t.like(await t.throwsAsync(port.commit(A, commitRequest(change))), { code: 'session-busy' });
  open();
  const point = await commit;
  t.like(await port.begin(beginRequest({ sessionId: B })), { base: point, resumed: false });
});

test('a commit that fails leaves the session open and can be sent again', async (t) => {
  const { store, port } = await make();
  await port.begin(beginRequest());
  store.before = async (call) => {
    if (call === 'commit')
      throw new StillpointError('store-full', { thing: 'store', reason: 'no space left' });
  };
  await t.throwsAsync(port.commit(A, commitRequest()), { code: 'store-full' });
  store.before = async () => undefined;
  await port.batch(A, 1, body(1));
  t.is((await port.commit(A, commitRequest({ batchCount: 1 }))).sequence, 1);
});

test('a point that an earlier commit made after all is not the answer to one of another state', async (t) => {
  const { store, port } = await make();
  for (const [id, change, code] of [
    [A, { root: 'd'.repeat(64) }, 'root-mismatch'],
    [B, { instant: '2027-01-01T00:00:00.000Z' }, 'session-closed'],
  ] as const) {
    await port.begin(beginRequest({ sessionId: id }));
    const capture = store.captures().find(({ description }) => description.sessionId === id);
    const commit = capture?.commit.bind(capture);
    if (capture !== undefined) capture.commit = async () => commit?.(commitRequest()) as Promise<Point>;
    await t.throwsAsync(port.commit(id, commitRequest(change)), { code });
    t.like(await port.status(id), { state: 'committed', point: { id } });
    t.like(await port.commit(id, commitRequest()), { id });
  }
});

test('a begin that arrives while the session is aborted waits and starts anew', async (t) => {
  const { store, port } = await make();
  await port.begin(beginRequest());
  await port.batch(A, 1, body(1));
  const { open, reached } = gate(store, 'abort');
  const abort = port.abort(A);
  await reached;
  await t.throwsAsync(port.batch(A, 2, body(2)), { code: 'session-unknown' });
  const begin = port.begin(beginRequest());
  open();
  await abort;
  t.like(await begin, { resumed: false, durableSequence: 0 });
});

test('an abort that the store fails can be repeated', async (t) => {
  const { store, port } = await make();
  await port.begin(beginRequest());
  store.before = async (call) => {
    if (call === 'abort') throw new StillpointError('store-io', { thing: 'capture', reason: 'EIO' });
  };
  await t.throwsAsync(port.abort(A), { code: 'store-io' });
  t.is((await port.status(A)).state, 'unknown');
  store.before = async () => undefined;
  await port.abort(A);
  t.is(store.captures().length, 0);
});

test('begins that race for one device leave one session open', async (t) => {
  const { store, port } = await make();
  const ids = [1, 2, 3, 4, 5].map(sessionId);
  await Promise.all(ids.map((id) => port.begin(beginRequest({ sessionId: id }))));
  t.is(store.captures().length, 1);
  const states = await Promise.all(ids.map((id) => port.status(id)));
  t.is(states.filter(({ state }) => state === 'open').length, 1);
});

test('a begin that races a commit builds on what was committed', async (t) => {
  for (let round = 0; round < 20; round += 1) {
    const { store, port } = await make();
    store.before = async () => {
      for (let i = 0; i < Math.random() * 4; i += 1) await new Promise((resolve) => setImmediate(resolve));
    };
    await port.begin(beginRequest());
    const commit = port.commit(A, commitRequest());
    const begin = await port.begin(beginRequest({ sessionId: B })).catch((error: StillpointError) => error);
    const point = await commit;
    if (begin instanceof StillpointError) t.is(begin.code, 'session-busy');
    else t.is(begin.base?.id, point.id);
  }
});

test('one id can’t be taken for two devices, or by two agents', async (t) => {
  const { service, port } = await make();
  const results = await Promise.allSettled(
    ['one', 'two'].map((device) => port.begin(beginRequest({ device }))),
  );
  t.deepEqual(results.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
  await t.throwsAsync(agentReceiver(service, 'other').begin(beginRequest()), { code: 'session-closed' });
  await port.commit(A, commitRequest());
  await t.throwsAsync(port.begin(beginRequest({ device: 'three' })), { code: 'session-closed' });
});

test('an agent may hold only so many sessions', async (t) => {
  const { service, port } = await make();
  const begin = (n: number) => port.begin(beginRequest({ device: `disk${n}`, sessionId: sessionId(n) }));
  for (let n = 1; n <= SESSIONS_PER_AGENT_MAX; n += 1) await begin(n);
  t.like(await t.throwsAsync(begin(1000)), { code: 'busy', permanent: false });
  await port.abort(sessionId(1));
  await t.notThrowsAsync(begin(1000));
  await t.notThrowsAsync(agentReceiver(service, 'other').begin(beginRequest({ sessionId: sessionId(2000) })));
});

test('a restarted receiver takes up its sessions', async (t) => {
  const { store, port } = await make();
  await port.begin(beginRequest());
  await port.batch(A, 1, body(1));
  await port.batch(A, 2, body(2));
  const again = agentReceiver(await ReceiverService.open(await store.reopen()), 'host');
  t.like(await again.status(A), { state: 'open', durableSequence: 2 });
  t.deepEqual(await again.begin(beginRequest()), {
    sessionId: A,
    base: null,
    resumed: true,
    durableSequence: 2,
    durableBlockEnd: 1,
  });
  t.is((await again.batch(A, 2, body(2))).durableSequence, 2);
  t.is((await again.batch(A, 3, body(3))).durableSequence, 3);
});

test('close waits for a begin that runs', async (t) => {
  const { store, service, port } = await make();
  const { open, reached } = gate(store, 'createCapture');
  const begin = port.begin(beginRequest());
  await reached;
  let isClosed = false;
  const close = service.close().then(() => {
    isClosed = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  t.false(isClosed);
  open();
  await Promise.all([begin, close]);
});

test('one verification at a time per agent', async (t) => {
  const { service, port } = await make();
  const first = port.verify()[Symbol.asyncIterator]();
  await first.next();
  await t.throwsAsync(port.verify()[Symbol.asyncIterator]().next(), { code: 'busy' });
  await t.notThrowsAsync(agentReceiver(service, 'other').verify()[Symbol.asyncIterator]().next());
  await first.return?.();
  await t.notThrowsAsync(port.verify()[Symbol.asyncIterator]().next());
});

test('a check of a point counts as a verification', async (t) => {
  const { port } = await make();
  await port.begin(beginRequest());
  const { id } = await port.commit(A, commitRequest());
  const check = () => port.check(id)[Symbol.asyncIterator]();
  const first = check();
  await first.next();
  await t.throwsAsync(check().next(), { code: 'busy' });
  await t.throwsAsync(port.verify()[Symbol.asyncIterator]().next(), { code: 'busy' });
  await first.return?.();
  await t.notThrowsAsync(check().next());
});

test('a few diffs at a time per agent', async (t) => {
  const { service, port } = await make();
  await port.begin(beginRequest());
  const { id } = await port.commit(A, commitRequest());
  const diff = () => port.diff(id, id)[Symbol.asyncIterator]();
  const running = Array.from({ length: DIFFS_PER_AGENT_MAX }, diff);
  for (const events of running) await events.next();
  await t.throwsAsync(diff().next(), { code: 'busy' });
  await t.throwsAsync(agentReceiver(service, 'other').diff(id, id)[Symbol.asyncIterator]().next(), {
    code: 'point-unknown',
  });
  await running[0]?.return?.();
  await t.notThrowsAsync(diff().next());
});

test('a block size that changed needs a chain of its own', async (t) => {
  const { port } = await make();
  await port.begin(beginRequest());
  await port.commit(A, commitRequest());
  const geometry = { ...GEOMETRY, blockSize: 4096 };
  await t.throwsAsync(port.begin(beginRequest({ sessionId: B, geometry })), { code: 'base-mismatch' });
  t.is((await port.begin(beginRequest({ sessionId: B, geometry, newChain: true }))).base, null);
});
