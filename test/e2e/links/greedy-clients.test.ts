/**
 * A client that sends large bodies on many connections, slowly and never to the end: the receiver stays
 * small and serves others.
 */
import { once } from 'node:events';
import { join } from 'node:path';
import { connect, type TLSSocket } from 'node:tls';
import { findEnrolment } from '../../../src/agent/state/enrolment.js';
import { BATCH_BYTES_MAX, KiB, MiB } from '../../../src/domain/base/limits.js';
import {
  HEADER_PROTOCOL,
  HEADER_SEQUENCE,
  HEADER_SESSION,
  PROTOCOL_VERSION,
  ROUTE_PREFIX,
} from '../../../src/protocol/schemas/messages.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { anonymousBytes, watchPeak } from '../../helpers/machines/memory.js';
import { enroll, startReceiver } from '../../helpers/machines/receiver.js';
import { backup, type Machine, makeMachine } from '../../helpers/machines/stillpoint.js';
import { testWith } from '../../helpers/requirements.js';

const CONNECTIONS = 48;
const PIECE = Buffer.alloc(MiB, 7);

/** Announces the largest body there may be and sends nearly all of it. */
async function sendAllButTheEnd(machine: Machine): Promise<TLSSocket> {
  const { url, authority, key, certificate } = await findEnrolment(machine.stateDirectory);
  const { hostname, port } = new URL(url);
  const socket = connect({
    host: hostname,
    port: Number(port),
    ca: authority,
    key,
    cert: certificate,
    checkServerIdentity: () => undefined,
  });
  await once(socket, 'secureConnect');
  socket.on('error', () => undefined);
  socket.write(
    [
      `POST ${ROUTE_PREFIX}/session/batch HTTP/1.1`,
      'host: receiver',
      `content-length: ${BATCH_BYTES_MAX}`,
      'content-type: application/octet-stream',
      `${HEADER_PROTOCOL}: ${PROTOCOL_VERSION}`,
      `${HEADER_SESSION}: ${'0'.repeat(32)}`,
      `${HEADER_SEQUENCE}: 1`,
      '\r\n',
    ].join('\r\n'),
  );
  // Not waited for: what the receiver does not take stays here.
  for (let sent = 0; sent < BATCH_BYTES_MAX - MiB; sent += MiB) socket.write(PIECE);
  return socket;
}

testWith([], 'memory is bounded whatever one agent sends, and another agent is served', async (t) => {
  const receiver = await startReceiver(t);
  const [greedy, modest] = [await makeMachine(t, 'greedy'), await makeMachine(t, 'modest')];
  await enroll(t, receiver, greedy, 'greedy');
  await enroll(t, receiver, modest, 'modest');
  const timedBackup = async (name: string, seed: number): Promise<number> => {
    const source = join(modest.directory, name);
    const blockIndexes = Array.from({ length: 200 }, (_, index) => index);
    await makeStampedImage(source, { sizeBytes: 16 * MiB, blockSize: 64 * KiB, seed, blockIndexes });
    const started = performance.now();
    await backup(t, modest, null, source, '--name', name);
    return performance.now() - started;
  };
  // What this machine takes for it, busy as it is.
  const aloneMs = await timedBackup('alone', 1);
  const pid = receiver.process?.pid ?? 0;
  const idleBytes = (await anonymousBytes(pid)) ?? 0;
  const peak = watchPeak(pid);
  const sockets = await Promise.all(Array.from({ length: CONNECTIONS }, () => sendAllButTheEnd(greedy)));
  t.teardown(() => {
    for (const socket of sockets) socket.destroy();
  });
  const besideMs = await timedBackup('beside', 2);
  t.true(besideMs < 20_000 + 5 * aloneMs, `it waits for the greedy one: ${besideMs} ms, alone ${aloneMs} ms`);
  const grownBytes = (await peak()) - idleBytes;
  // 48 bodies of 16 MiB would be 768 MiB.
  t.true(grownBytes < 320 * MiB, `${Math.round(grownBytes / MiB)} MiB more`);
});
