/** What only raw HTTP can say: requests that no client of ours would send. */
import { once } from 'node:events';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest, type RequestOptions } from 'node:https';
import { connect as connectTcp } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { type ConnectionOptions, connect, type TLSSocket } from 'node:tls';
import test, { type ExecutionContext } from 'ava';
import { BATCH_BYTES_MAX, JSON_BYTES_MAX, MiB } from '../../src/domain/base/limits.js';
import type { Enrolment } from '../../src/protocol/certificates/enrolment.js';
import { PROTOCOL_VERSION, PROTOCOL_VERSION_OLDEST } from '../../src/protocol/schemas/messages.js';
import { makePoint } from '../helpers/bytes/points.js';
import { beginRequest, sessionId } from '../helpers/bytes/requests.js';
import { FaultyStore } from '../helpers/faults/store.js';
import { makeTlsReceiver, type TlsReceiver } from '../helpers/worlds/tls-receiver.js';

interface Answer {
  readonly status: number | undefined;
  readonly body: { code?: string; permanent?: boolean; message?: string };
}

interface Setup {
  readonly store: FaultyStore;
  readonly receiver: TlsReceiver;
  readonly enrolment: Enrolment;
}

async function setup(t: ExecutionContext): Promise<Setup> {
  const store = new FaultyStore();
  const timeouts = { idleMs: 300, totalMs: 1000 };
  const receiver = await makeTlsReceiver(t, { openStore: async () => store, timeouts });
  return { store, receiver, enrolment: await receiver.enroll('host') };
}

function tlsOptions({ enrolment }: Setup): RequestOptions {
  const { authority, key, certificate } = enrolment;
  return { ca: authority, key, cert: certificate, checkServerIdentity: () => undefined, agent: false };
}

const HEADERS = {
  'stillpoint-protocol': String(PROTOCOL_VERSION),
  'stillpoint-session': sessionId(1),
  'stillpoint-sequence': '1',
};

function send(
  s: Setup,
  path: string,
  headers: Record<string, string | number>,
  body: Buffer | string = '',
): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { ...tlsOptions(s), method: 'POST', headers: { ...HEADERS, ...headers } };
    const request = httpsRequest(s.receiver.url + path, options, (response) => {
      let text = '';
      response.on('data', (chunk: Buffer) => {
        text += chunk.toString();
      });
      response.on('end', () => resolve({ status: response.statusCode, body: JSON.parse(text) }));
    });
    request.on('error', reject);
    request.write(body);
    if (Buffer.byteLength(body) === Number(headers['content-length'] ?? 0)) request.end();
  });
}

const sized = (body: string | Buffer) => ({ 'content-length': Buffer.byteLength(body) });

/** After the refusal: the receiver serves, and the store is as it was. */
async function stillServes(t: ExecutionContext, { store, receiver, enrolment }: Setup): Promise<void> {
  t.is((await receiver.client(enrolment).info()).agent, 'host');
  t.is(store.captures().length, 0);
  t.is((await store.points({})).length, 0);
}

const REFUSED: readonly [
  what: string,
  path: string,
  headers: Record<string, string | number>,
  body: string,
  status: number,
  code: string,
][] = [
  ['no protocol version', '/v1/info', { 'stillpoint-protocol': '' }, '', 426, 'version'],
  ['an odd protocol version', '/v1/info', { 'stillpoint-protocol': '3.0' }, '', 426, 'version'],
  ['an unknown message', '/v1/session/steal', sized(''), '', 400, 'bad-message'],
  ['a path upwards', '/v1/../store.json', sized(''), '', 400, 'bad-message'],
  ['a body that is no JSON', '/v1/session/begin', sized('{"device":'), '{"device":', 400, 'bad-message'],
  ['JSON that is no object', '/v1/session/begin', sized('null'), 'null', 400, 'bad-message'],
  ['an empty begin', '/v1/session/begin', sized('{}'), '{}', 400, 'bad-message'],
  ['an empty enrolment', '/v1/enroll', sized('{}'), '{}', 400, 'bad-message'],
  ['a body where there is none', '/v1/info', sized('{}'), '{}', 413, 'too-large'],
  [
    'a batch without session',
    '/v1/session/batch',
    { 'stillpoint-session': '', ...sized('x') },
    'x',
    400,
    'bad-message',
  ],
  [
    'a batch of a path',
    '/v1/session/batch',
    { 'stillpoint-session': '../../x', ...sized('x') },
    'x',
    400,
    'bad-message',
  ],
  [
    'a batch without number',
    '/v1/session/batch',
    { 'stillpoint-sequence': '', ...sized('x') },
    'x',
    400,
    'bad-message',
  ],
  ['batch 0', '/v1/session/batch', { 'stillpoint-sequence': '0', ...sized('x') }, 'x', 400, 'bad-message'],
  ['batch -1', '/v1/session/batch', { 'stillpoint-sequence': '-1', ...sized('x') }, 'x', 400, 'bad-message'],
  ['half a digest', '/v1/session/have', sized('0123'), '0123', 400, 'bad-message'],
  ['no length', '/v1/session/batch', { 'transfer-encoding': 'chunked' }, 'x', 400, 'bad-message'],
  [
    'a batch that is announced too large',
    '/v1/session/batch',
    { 'content-length': BATCH_BYTES_MAX + 1 },
    '',
    413,
    'too-large',
  ],
  [
    'a begin that is announced too large',
    '/v1/session/begin',
    { 'content-length': JSON_BYTES_MAX + 1 },
    '',
    413,
    'too-large',
  ],
  [
    'an enrolment that is announced too large',
    '/v1/enroll',
    { 'content-length': 1_000_000 },
    '',
    413,
    'too-large',
  ],
  ['a body that stalls', '/v1/session/batch', { 'content-length': 100 }, 'x', 408, 'timeout'],
];

for (const [what, path, headers, body, status, code] of REFUSED) {
  test(`refused: ${what}`, async (t) => {
    const s = await setup(t);
    const answer = await send(s, path, headers, body);
    t.like(answer, { status, body: { code } });
    t.like(s.receiver.refusals, [{ code, address: '127.0.0.1', agent: 'host' }]);
    await stillServes(t, s);
  });
}

test('an agent of another version is told which side to update, whatever it asks', async (t) => {
  const s = await setup(t);
  for (const [version, remedy] of [
    [PROTOCOL_VERSION_OLDEST - 1, 'Update the agent.'],
    [PROTOCOL_VERSION + 1, 'Update the receiver; receivers are updated before agents.'],
  ] as const) {
    for (const path of ['/v1/info', '/v1/session/begin']) {
      const { status, body } = await send(s, path, { 'stillpoint-protocol': String(version) });
      t.is(status, 426);
      t.like(body, {
        ...{ code: 'version', permanent: true, remedy },
        reason: `the request is of version "${version}", and this receiver speaks ${PROTOCOL_VERSION_OLDEST} to ${PROTOCOL_VERSION}`,
      });
    }
  }
  await stillServes(t, s);
});

async function rawConnection(s: Setup): Promise<TLSSocket> {
  const { hostname, port } = new URL(s.receiver.url);
  const { ca, key, cert } = tlsOptions(s) as { ca: string; key: string; cert: string };
  const socket = connect({
    host: hostname,
    port: Number(port),
    ca,
    key,
    cert,
    checkServerIdentity: () => undefined,
  });
  socket.on('error', () => undefined);
  await once(socket, 'secureConnect');
  return socket;
}

const HEAD = `POST /v1/session/batch HTTP/1.1\r\nhost: x\r\nstillpoint-protocol: ${PROTOCOL_VERSION}\r\nstillpoint-session: ${sessionId(1)}\r\nstillpoint-sequence: 1\r\n`;

async function until(condition: () => boolean): Promise<void> {
  for (let i = 0; !condition() && i < 500; i += 1) await new Promise((resolve) => setTimeout(resolve, 10));
}

test('a body that breaks off reaches nobody', async (t) => {
  const s = await setup(t);
  await s.receiver.client(s.enrolment).begin(beginRequest());
  let appended = 0;
  s.store.before = async (call) => {
    if (call === 'append') appended += 1;
  };
  const socket = await rawConnection(s);
  socket.write(`${HEAD}content-length: 100\r\n\r\nhalf of it`);
  await new Promise((resolve) => setTimeout(resolve, 50));
  socket.destroy();
  await until(() => s.receiver.refusals.length > 0);
  t.like(s.receiver.refusals, [{ code: 'connection-lost', agent: 'host' }]);
  t.is(appended, 0);
});

test('a body that drags on is cut off', async (t) => {
  const s = await setup(t);
  const socket = await rawConnection(s);
  socket.write(`${HEAD}content-length: 100000\r\n\r\n`);
  const drip = setInterval(() => socket.write('x'), 50);
  await until(() => s.receiver.refusals.length > 0);
  clearInterval(drip);
  t.like(s.receiver.refusals, [{ code: 'timeout', agent: 'host' }]);
  socket.destroy();
  await stillServes(t, s);
});

test('contradicting lengths and oversized headers end the connection', async (t) => {
  const s = await setup(t);
  for (const rest of ['content-length: 1\r\ncontent-length: 2\r\n\r\n', `x: ${'y'.repeat(20_000)}\r\n\r\n`]) {
    const socket = await rawConnection(s);
    let answer = '';
    socket.on('data', (chunk: Buffer) => {
      answer += chunk.toString();
    });
    socket.write(HEAD + rest);
    await once(socket, 'close');
    t.regex(answer, /^HTTP\/1.1 4/);
  }
  await stillServes(t, s);
});

test('TLS 1.2 and plain HTTP are not spoken, and it is logged', async (t) => {
  const s = await setup(t);
  const { hostname, port } = new URL(s.receiver.url);
  const old = connect({
    host: hostname,
    port: Number(port),
    maxVersion: 'TLSv1.2',
    rejectUnauthorized: false,
  });
  await t.throwsAsync(once(old, 'secureConnect'), { code: 'ERR_SSL_TLSV1_ALERT_PROTOCOL_VERSION' });
  const plain = httpRequest({ host: hostname, port });
  plain.end();
  await t.throwsAsync(once(plain, 'response'));
  const mute = connectTcp(Number(port), hostname);
  await once(mute, 'connect');
  mute.destroy();
  await until(() => s.receiver.log.filter(({ msg }) => msg === 'TLS handshake refused').length >= 2);
  t.true(s.receiver.log.filter(({ msg }) => msg === 'TLS handshake refused').length >= 2);
  await stillServes(t, s);
});

test('a request without certificate is refused before its body is read', async (t) => {
  const s = await setup(t);
  const bare = { ...s, enrolment: { ...s.enrolment } };
  const options = { ...tlsOptions(bare), key: undefined, cert: undefined, method: 'POST' };
  const request = httpsRequest(`${s.receiver.url}/v1/session/batch`, {
    ...options,
    headers: { ...HEADERS, 'content-length': BATCH_BYTES_MAX },
  });
  request.on('error', () => undefined);
  request.flushHeaders();
  const [response] = await once(request, 'response');
  t.is(response.statusCode, 401);
  request.destroy();
  t.like(s.receiver.refusals, [{ code: 'not-enrolled', agent: null }]);
});

test('after a refusal that left a body unread, the rest is not taken for a request', async (t) => {
  const s = await setup(t);
  const socket = await rawConnection(s);
  let answer = '';
  socket.on('data', (chunk: Buffer) => {
    answer += chunk.toString();
  });
  const smuggled = `POST /v1/info HTTP/1.1\r\nhost: x\r\nstillpoint-protocol: ${PROTOCOL_VERSION}\r\ncontent-length: 0\r\n\r\n`;
  const head = HEAD.replace(`protocol: ${PROTOCOL_VERSION}`, 'protocol: 1');
  socket.write(`${head}content-length: ${smuggled.length + 1000}\r\n\r\n${smuggled}`);
  await once(socket, 'close');
  t.is(answer.match(/HTTP\/1.1/g)?.length, 1);
  t.regex(answer, /^HTTP\/1.1 426/);
});

test('an unknown error stays in the log', async (t) => {
  const s = await setup(t);
  s.store.before = async () => {
    throw new Error('secret detail');
  };
  const client = s.receiver.client(s.enrolment);
  const error = await t.throwsAsync(client.begin(beginRequest()), { code: 'internal' });
  t.false(error?.message.includes('secret detail'));
  t.true(s.receiver.log.some(({ msg }) => msg === 'request failed'));
});

test('close waits for a request in flight, and refuses new ones', async (t) => {
  const s = await setup(t);
  const client = s.receiver.client(s.enrolment);
  let open: () => void = () => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  let reach: () => void = () => undefined;
  const reached = new Promise<void>((resolve) => {
    reach = resolve;
  });
  s.store.before = async (call) => {
    if (call !== 'createCapture') return;
    reach();
    await opened;
  };
  const begin = client.begin(beginRequest());
  await reached;
  const stop = s.receiver.stop();
  await new Promise((resolve) => setTimeout(resolve, 50));
  open();
  t.false((await begin).resumed);
  await stop;
  await t.throwsAsync(client.info(), { code: 'unreachable' });
});

test('an agent that asks for blocks and takes none holds its share of memory for a while, no more', async (t) => {
  const s = await setup(t);
  const point = makePoint({ id: sessionId(2), geometry: { sizeBytes: 4096, blockSize: 4096 } });
  const askedAtMs: number[] = [];
  Object.assign(s.store, {
    point: async () => point,
    blocks: async () => {
      askedAtMs.push(performance.now());
      return Buffer.alloc(12 * MiB);
    },
  });
  const body = JSON.stringify({ pointId: point.id, blockIndexes: [0] });
  const head = Object.entries({ ...HEADERS, host: 'receiver', 'content-length': body.length })
    .map(([name, value]) => `${name}: ${value}\r\n`)
    .join('');
  const url = new URL(s.receiver.url);
  const sockets = Array.from({ length: 10 }, () => {
    const socket = connect({
      ...tlsOptions(s),
      host: url.hostname,
      port: Number(url.port),
    } as ConnectionOptions);
    socket.on('error', () => undefined);
    socket.write(`POST /v1/point/blocks HTTP/1.1\r\n${head}\r\n${body}`);
    return socket;
  });
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  while (askedAtMs.length < sockets.length) await sleep(10);
  // Half of 128 MiB for 12 MiB each: the others wait until the first are found to take nothing.
  const [first = 0] = askedAtMs;
  const together = askedAtMs.filter((atMs) => atMs < first + 250).length;
  t.true(together <= 5, `${together} at once`);
});

test('a stream that its agent leaves in the middle is over at the receiver, and does not keep others out', async (t) => {
  const s = await setup(t);
  const point = makePoint({ id: sessionId(2) });
  let running = 0;
  async function* endless() {
    running += 1;
    try {
      for (let doneBytes = 0; ; doneBytes += 1) {
        yield { type: 'progress', doneBytes, totalBytes: 1 };
        await sleep(1);
      }
    } finally {
      running -= 1;
    }
  }
  Object.assign(s.store, { point: async () => point, check: endless, diff: endless });
  const client = s.receiver.client(s.enrolment);
  for (const start of [() => client.check(point.id), () => client.diff(point.id, point.id)]) {
    for (let round = 0; round < 6; round += 1) {
      let seen = 0;
      for await (const _ of start()) {
        seen += 1;
        if (seen === 3) break;
      }
      t.is(seen, 3);
      await until(() => running === 0);
      t.is(running, 0);
    }
  }
});
