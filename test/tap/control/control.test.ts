/** Server and client of the control socket, over a fake tap. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { connectTap, type TapControl } from '../../../src/tap/control/client.js';
import type { ControlHoldOptions } from '../../../src/tap/control/messages.js';
import { ControlServer } from '../../../src/tap/control/server.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { FakeTap } from '../../helpers/fakes/tap.js';
import { holdAtOnce } from '../../helpers/machines/hold-at-once.js';
import { refused } from '../../helpers/refused.js';
import { SILENT } from '../../helpers/worlds/taps.js';

const SESSION = '0123456789abcdef'.repeat(2);
const HOLD: ControlHoldOptions = {
  ...{
    sessionId: SESSION,
    basePointId: null,
    full: true,
    readBlockSize: 65_536,
    sampleBlocks: [],
  },
};
const PRESERVE = { preserveDirectory: '/preserve', preserveMaxBytes: 4096, whenFull: 'fail' } as const;

interface Scene {
  readonly tap: FakeTap;
  readonly server: ControlServer;
  readonly path: string;
  readonly stops: number[];
  connect(): Promise<TapControl>;
}

async function scene(t: ExecutionContext): Promise<Scene> {
  const directory = await temporaryDirectory(t, 'control');
  const path = join(directory, 'control.sock');
  const tap = new FakeTap({ path: '/disk', blockSize: 65_536, mapPath: null, identity: 'disk' });
  const stops: number[] = [];
  const server = await ControlServer.listen(path, {
    ...{ tap, name: 'disk', snapshotAddress: 'unix:/snapshot.sock', log: SILENT },
    report: async () => ({
      ...{ name: 'disk', processId: 1, startedAt: '', listen: ['unix:/nbd.sock'], exportName: 'disk' },
      attachment: { device: null, problem: null },
      status: tap.status(),
    }),
    holdSettings: async () => PRESERVE,
    onStop: () => stops.push(1),
  });
  let isClosed = false;
  const close = async (): Promise<void> => {
    if (!isClosed) await server.close();
    isClosed = true;
  };
  t.teardown(close);
  return { tap, server, path, stops, connect: () => connectTap(path) };
}

/** Waits until it is so, or fails. */
async function until(t: ExecutionContext, what: string, condition: () => boolean): Promise<void> {
  for (let tries = 0; tries < 200; tries += 1) {
    if (condition()) return;
    await sleep(20);
  }
  t.fail(what);
}

test('a session: status, hold, status, commit, status', async (t) => {
  const { tap, connect, path } = await scene(t);
  t.is((await stat(path)).mode & 0o777, 0o600);
  const control = await connect();
  t.is((await control.status()).status.hold, null);
  const hold = await holdAtOnce(control, { ...HOLD, sampleBlocks: [3] });
  t.like(hold, { exportName: SESSION, snapshotAddress: 'unix:/snapshot.sock', mapUsed: false });
  t.deepEqual(tap.holds, [{ ...HOLD, sampleBlocks: [3], ...PRESERVE }]);
  t.is((await control.status()).status.hold?.state, 'held');
  await control.commit();
  t.is((await control.status()).status.hold, null);
  await control.voidMap('a sample differed');
  t.is((await control.status()).status.map.reason, 'a sample differed');
  control.close();
  t.deepEqual(tap.calls, ['hold', 'commit', 'voidMap']);
});

test('only one holds, and others can not end it', async (t) => {
  const { tap, connect } = await scene(t);
  const [first, second] = [await connect(), await connect()];
  await holdAtOnce(first, HOLD);
  await refused(t, holdAtOnce(second, HOLD), 'session-busy', /tap disk: another backup holds its snapshot/);
  await refused(t, second.commit(), 'session-closed', /holds no snapshot/);
  await second.abort();
  second.close();
  t.is((await first.status()).status.hold?.state, 'held');
  await first.abort();
  t.deepEqual(tap.calls, ['hold', 'abort']);
  const third = await connect();
  await holdAtOnce(third, HOLD);
  first.close();
  t.is((await third.status()).status.hold?.state, 'held');
  third.close();
});

test('two that ask at the same moment: one gets it, whatever it takes', async (t) => {
  const { tap, connect } = await scene(t);
  tap.beforeHold = () => sleep(100);
  const controls = await Promise.all([connect(), connect(), connect()]);
  const results = await Promise.allSettled(controls.map((control) => holdAtOnce(control, HOLD)));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
  for (const control of controls) control.close();
});

test('who asks while the hold of one that was cancelled is being given back gets it after that', async (t) => {
  const { tap, connect } = await scene(t);
  const [first, second] = [await connect(), await connect()];
  tap.beforeHold = () => sleep(300);
  await refused(t, holdAtOnce(first, HOLD, AbortSignal.timeout(50)), 'cancelled', /cancelled/);
  tap.beforeHold = async () => undefined;
  await holdAtOnce(second, HOLD);
  t.is((await second.status()).status.hold?.state, 'held');
  second.close();
});

test('a hold that fails leaves nothing: the next one may', async (t) => {
  const { tap, connect } = await scene(t);
  const control = await connect();
  const fail = (code: string) => async () => {
    throw Object.assign(new Error('because'), { code });
  };
  for (const [code, expected, text] of [
    ['EBUSY', 'session-busy', /another backup/],
    ['EIO', 'device-io', /because/],
  ] as const) {
    tap.beforeHold = fail(code);
    await refused(t, holdAtOnce(control, HOLD), expected, text);
  }
  tap.beforeHold = async () => undefined;
  tap.beforeClose = fail('barrier-timeout');
  await refused(t, holdAtOnce(control, HOLD), 'device-changed', /in flight/);
  tap.beforeClose = async () => undefined;
  await refused(t, control.cut(), 'device-changed', /had to let writes go on/);
  await control.abort();
  await holdAtOnce(control, HOLD);
  control.close();
});

test('an agent that is killed while it holds leaves nothing behind', async (t) => {
  const { tap, path, connect } = await scene(t);
  const child = fork(fileURLToPath(new URL('../children/hold.js', import.meta.url)), [path]);
  t.deepEqual(await once(child, 'message'), ['held', undefined]);
  t.not(tap.status().hold, null);
  child.kill('SIGKILL');
  await until(t, 'the hold is aborted', () => tap.status().hold === null);
  t.deepEqual(tap.calls, ['hold', 'abort']);
  const next = await connect();
  await holdAtOnce(next, HOLD);
  next.close();
});

test('one that goes while its hold is being made does not keep it', async (t) => {
  const { tap, connect } = await scene(t);
  let asked = false;
  tap.beforeHold = async () => {
    asked = true;
    await sleep(100);
  };
  const control = await connect();
  const canceller = new AbortController();
  const holding = holdAtOnce(control, HOLD, canceller.signal);
  await until(t, 'the hold is asked for', () => asked);
  canceller.abort();
  await refused(t, holding, 'cancelled');
  await until(t, 'it is aborted', () => tap.calls.includes('abort'));
  t.is(tap.status().hold, null);
  await refused(t, control.status(), 'cancelled');
});

test('one that goes while its gate waits for writes in flight ends the wait', async (t) => {
  const { tap, connect: join_ } = await scene(t);
  let abort = (): void => undefined;
  tap.beforeClose = () =>
    new Promise((_, reject) => {
      abort = () => reject(Object.assign(new Error('the wait was ended'), { code: 'cancelled' }));
    });
  let aborts = 0;
  const giveBack = tap.abort.bind(tap);
  tap.abort = async () => {
    aborts += 1;
    abort();
    await giveBack();
  };
  const control = await join_();
  holdAtOnce(control, HOLD).catch(() => undefined);
  await sleep(100);
  t.is(aborts, 0);
  control.close();
  await until(t, 'the wait is ended', () => aborts > 0);
  tap.beforeClose = async () => undefined;
  const next = await join_();
  t.is((await holdAtOnce(next, HOLD)).exportName, SESSION);
  next.close();
});

test('one that goes while its commit is under way does not end the hold of the next one', async (t) => {
  const { tap, connect } = await scene(t);
  const [first, second] = [await connect(), await connect()];
  await holdAtOnce(first, HOLD);
  let committed = (): void => undefined;
  const commit = tap.commit.bind(tap);
  tap.commit = async () => {
    await new Promise<void>((resolve) => {
      committed = resolve;
    });
    await commit();
  };
  let aborts = 0;
  const abort = tap.abort.bind(tap);
  // It waits for the commit, and for a thread.
  tap.abort = async () => {
    aborts += 1;
    await sleep(300);
    await abort();
  };
  const committing = first.commit().catch(() => undefined);
  await sleep(100);
  first.close();
  await until(t, 'it is given back', () => aborts > 0);
  committed();
  await committing;
  await until(t, 'it is committed', () => tap.calls.includes('commit'));
  await holdAtOnce(second, HOLD);
  await sleep(400);
  t.is((await second.status()).status.hold?.state, 'held');
  second.close();
});

test('a hold that is cancelled before it is asked for never is', async (t) => {
  const { tap, connect } = await scene(t);
  const control = await connect();
  await refused(t, holdAtOnce(control, HOLD, AbortSignal.abort()), 'cancelled');
  await sleep(50);
  t.deepEqual(tap.calls, []);
});

test('the holder is told once that its snapshot was given up, and can not commit it', async (t) => {
  const { tap, connect } = await scene(t);
  const control = await connect();
  const reasons: string[] = [];
  control.onInvalid((reason) => reasons.push(reason));
  await holdAtOnce(control, HOLD);
  tap.giveUp('the preserve area is full');
  await until(t, 'it is told', () => reasons.length > 0);
  await sleep(600);
  t.deepEqual(reasons, ['the preserve area is full']);
  await refused(t, control.commit(), 'session-closed', /preserve area is full/);
  await control.abort();
  t.is(tap.status().hold, null);
  control.close();
});

test('the steps of a hold are for who prepared it; the gate opens when that one goes', async (t) => {
  const { tap, connect } = await scene(t);
  const [first, second] = [await connect(), await connect()];
  const limits = { barrierMs: 1000, closedMs: 10_000 };
  for (const step of [second.closeGate(limits), second.openGate(), second.cut()])
    await refused(t, step, 'session-closed', /prepared no snapshot/);
  await first.prepare(HOLD);
  t.is(await first.closeGate(limits), 0);
  t.is(tap.gate, 'closed');
  await refused(t, second.openGate(), 'session-closed');
  await first.openGate();
  t.is(tap.gate, 'open');
  await first.closeGate(limits);
  first.close();
  await until(t, 'the gate is open', () => tap.gate === 'open');
  second.close();
});

test('a server that stops aborts the hold and tells its owner', async (t) => {
  const { tap, server, connect, path } = await scene(t);
  const control = await connect();
  const reasons: string[] = [];
  control.onInvalid((reason) => reasons.push(reason));
  await holdAtOnce(control, HOLD);
  await server.close();
  t.deepEqual(tap.calls, ['hold', 'abort']);
  await until(t, 'it is told', () => reasons.length > 0);
  t.deepEqual(reasons, ['the tap was stopped']);
  await refused(t, control.status(), 'connection-lost');
  await refused(t, connectTap(path), 'unreachable', /no tap answers/);
});

test('stop is answered, then done', async (t) => {
  const { stops, connect } = await scene(t);
  const control = await connect();
  await control.stop();
  await until(t, 'it is passed on', () => stops.length > 0);
  t.is(stops.length, 1);
  control.close();
});

/** Sends bytes as they are. @returns all that is answered until the other side closes. */
async function send(path: string, ...pieces: (string | Buffer)[]): Promise<string> {
  const socket = connect({ path });
  let answers = '';
  // The tap does not read the rest of what is too long: to write it fails, beside the answer.
  socket.on('error', () => undefined).on('data', (chunk) => (answers += String(chunk)));
  for (const piece of pieces) socket.write(piece);
  await new Promise((resolve) => socket.once('close', resolve));
  return answers;
}

test('a line that is no request gets its reason, and ends the connection', async (t) => {
  const { path, connect } = await scene(t);
  for (const [text, code] of [
    ['nonsense\n', 'bad-message'],
    ['{"v":1,"id":1,"op":"explode"}\n', 'bad-message'],
    ['{"v":9,"id":1,"op":"status"}\n', 'version'],
    ['\n', 'bad-message'],
    ['x'.repeat(2 * 1024 * 1024), 'bad-message'],
  ] as const) {
    t.like(JSON.parse(await send(path, text)), { v: 1, id: null, error: { code } }, text.slice(0, 40));
  }
  const control = await connect();
  t.is((await control.status()).name, 'disk');
  control.close();
});

test('requests may come in pieces, and many at once', async (t) => {
  const { path } = await scene(t);
  const request = (id: number): string => `{"v":1,"id":${id},"op":"status"}\n`;
  const half = request(1);
  const answers = await send(path, half.slice(0, 9), half.slice(9) + request(2) + request(3), 'end\n');
  const ids = answers
    .trimEnd()
    .split('\n')
    .map((line) => (JSON.parse(line) as { id: unknown }).id);
  t.deepEqual(ids, [1, 2, 3, null]);
});
