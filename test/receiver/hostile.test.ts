/**
 * While clients do their worst, over real connections, an honest agent backs up and restores. The bounds are
 * smaller than a receiver's own, so that a few hostile clients are enough.
 */
import { randomBytes } from 'node:crypto';
import { connect as connectPlain, type Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { connect, type TLSSocket } from 'node:tls';
import test from 'ava';
import { MiB, PIPELINED_REQUESTS_MAX, SMALL_BODY_BYTES_MAX } from '../../src/domain/base/limits.js';
import type { Enrolment } from '../../src/protocol/certificates/enrolment.js';
import { RETRY_DEFAULT, retryingPort } from '../../src/protocol/retry.js';
import { PROTOCOL_VERSION } from '../../src/protocol/schemas/messages.js';
import { initReceiver } from '../../src/receiver/access/identity.js';
import { createStore, openStore } from '../../src/store/open.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { makeBatch } from '../helpers/bytes/hand-made-batch.js';
import { levelTree } from '../helpers/bytes/level-tree.js';
import { beginRequest, commitRequest, sessionId } from '../helpers/bytes/requests.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { TlsReceiver } from '../helpers/worlds/tls-receiver.js';

/** Too large for the memory of small messages. */
const BYTES = randomBytes(2 * SMALL_BODY_BYTES_MAX);
const GEOMETRY = { sizeBytes: BYTES.length, blockSize: BYTES.length };
const ROOT = levelTree(GEOMETRY, new Map([[0, PLAIN.leafDigest(BYTES)]])).root;
const LIMITS = {
  connectionsMax: 40,
  addressUnprovenMax: 12,
  unprovenMax: 12,
  unprovenMs: 2_000,
  agentMax: 16,
};

const head = (path: string, length: number, more = '') =>
  `POST /v1${path} HTTP/1.1\r\nhost: x\r\nstillpoint-protocol: ${PROTOCOL_VERSION}\r\ncontent-length: ${length}\r\n${more}`;

test('an honest agent backs up and restores while others do their worst', async (t) => {
  t.timeout(180_000);
  const dir = await tempDir(t);
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, { openStore: (path) => openStore(path), connectionLimits: LIMITS });
  const sockets = new Set<Socket>();
  t.teardown(async () => {
    for (const socket of sockets) socket.destroy();
    await receiver.closeAll();
  });
  await receiver.start();
  const port = Number(new URL(receiver.url).port);
  const evil = await Promise.all(
    ['evil-1', 'evil-2', 'evil-3', 'evil-4'].map((name) => receiver.enroll(name)),
  );
  const honest = await receiver.enroll('honest');

  const keep = <S extends Socket>(socket: S): S => {
    sockets.add(socket);
    socket.on('error', () => undefined).on('close', () => sockets.delete(socket));
    return socket;
  };
  const plain = () => keep(connectPlain({ host: '127.0.0.1', port }));
  const tls = async (enrolment?: Enrolment): Promise<TLSSocket> => {
    const { key, certificate: cert } = enrolment ?? { key: undefined, certificate: undefined };
    const socket = keep(connect({ host: '127.0.0.1', port, rejectUnauthorized: false, key, cert }));
    await new Promise((resolve) => socket.once('secureConnect', resolve).once('close', resolve));
    return socket;
  };
  let count = 0;
  let isOver = false;
  /** Does it again, and again, as hostile clients do. */
  const forever = (everyMs: number, attack: () => Promise<unknown> | unknown) => {
    const run = async () => {
      while (!isOver) {
        count += 1;
        await attack();
        await sleep(everyMs);
      }
    };
    return run();
  };

  let id = 0;
  const works = async (what: string) => {
    id += 1;
    // Over connections of its own, which it must get.
    const client = receiver.client(honest, 2);
    const agent = retryingPort(client, {
      ...RETRY_DEFAULT,
      patienceMs: 15_000,
      pauseMs: 20,
      pauseMaxMs: 100,
    });
    await agent.begin(beginRequest({ sessionId: sessionId(id), geometry: GEOMETRY }));
    await agent.batch(sessionId(id), 1, makeBatch(sessionId(id), 1, [{ blockIndex: 0, bytes: BYTES }]));
    const commit = commitRequest({ batchCount: 1, root: ROOT });
    const point = await agent.commit(sessionId(id), commit);
    t.is(point.sequence, id, what);
    t.true((await agent.blocks(point.id, [0])).length > 0, what);
    await client.close();
  };
  await works('in peace');

  const attacks: Record<string, () => Promise<unknown>[]> = {
    'connections that send nothing': () => [forever(1, plain)],
    'handshakes byte by byte': () => [
      forever(5, () => {
        const socket = plain();
        const timer = setInterval(() => socket.write(Buffer.from([0x16])), 50).unref();
        socket.once('close', () => clearInterval(timer));
      }),
    ],
    'handshakes without a certificate, and heads byte by byte': () =>
      [1, 2].map(() =>
        forever(5, async () => {
          const socket = await tls();
          socket.write('POST /v1/enroll HTTP/1.1\r\nx: ');
          const timer = setInterval(() => socket.writable && socket.write('a'), 100).unref();
          socket.once('close', () => clearInterval(timer));
        }),
      ),
    'heads without an end': () => [
      forever(5, async () => (await tls()).write(`POST /v1/info HTTP/1.1\r\nx: ${'a'.repeat(MiB)}`)),
    ],
    'all connections of an agent': () => [forever(1, () => tls(evil[0]))],
    'requests without waiting for answers': () => [
      forever(5, async () => {
        const socket = await tls(evil[1]);
        socket.write(`${head('/points', 2)}\r\n{}`.repeat(10 * PIPELINED_REQUESTS_MAX));
        await sleep(20);
      }),
    ],
    'sessions begun over and over': () => {
      const client = receiver.client(evil[2] as Enrolment, 4);
      let begun = 1000;
      return [1, 2, 3, 4].map(() =>
        forever(0, () => {
          begun += 1;
          return client.begin(beginRequest({ sessionId: sessionId(begun) })).catch(() => undefined);
        }),
      );
    },
    'answers that nobody takes, and half of a request': () => [
      forever(5, async () => {
        const socket = await tls(evil[3]);
        socket.pause();
        socket.write(`${head('/points', 2)}\r\n{}${head('/points', 100)}\r\n{"dev`);
        await sleep(10);
        socket.destroy();
      }),
    ],
  };
  for (const [what, start] of Object.entries(attacks)) {
    isOver = false;
    count = 0;
    const running = start();
    while (count < 60) await sleep(5);
    await works(what);
    isOver = true;
    for (const socket of sockets) socket.destroy();
    await Promise.all(running);
  }

  // Bodies that trickle, of as many agents as can hold all of the memory for bodies.
  const bodies: TLSSocket[] = [];
  for (const enrolment of evil) {
    for (let i = 0; i < 4; i += 1) {
      const socket = await tls(enrolment);
      const session = `stillpoint-session: ${sessionId(9)}\r\nstillpoint-sequence: 1\r\n`;
      socket.write(
        `${head('/session/batch', 16 * MiB, session)}content-type: application/octet-stream\r\n\r\n`,
      );
      bodies.push(socket.resume());
    }
  }
  const dripping = setInterval(() => {
    for (const socket of bodies) if (socket.writable) socket.write('drip');
  }, 500);
  await works('bodies that trickle');
  const gaveWay = () => bodies.some(({ destroyed, readableEnded }) => destroyed || readableEnded);
  for (let i = 0; i < 600 && !gaveWay(); i += 1) await sleep(50);
  clearInterval(dripping);
  t.true(gaveWay(), 'some have given way');
});
