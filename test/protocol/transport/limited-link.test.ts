/**
 * A client that is held to a rate, both ways, and one that meters its link: against a
 * receiver on the loopback.
 */
import { randomBytes } from 'node:crypto';
import test, { type ExecutionContext } from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { LinkMeter } from '../../../src/domain/session/link-meter.js';
import { type ClientOptions, receiverClient } from '../../../src/protocol/client.js';
import { Pacer } from '../../../src/protocol/transport/pacer.js';
import { beginRequest, commitRequest } from '../../helpers/bytes/requests.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { makeTlsReceiver } from '../../helpers/worlds/tls-receiver.js';

async function clientWith(t: ExecutionContext, options: ClientOptions) {
  const store = new MemoryStore();
  const receiver = await makeTlsReceiver(t, { openStore: async () => store });
  const { url, receiverId, authority, key, certificate } = await receiver.enroll('host');
  const client = receiverClient({ url, receiverId, authority, credentials: { key, certificate } }, options);
  t.teardown(() => client.close());
  return { client, store };
}

async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const startMs = performance.now();
  await work();
  return (performance.now() - startMs) / 1000;
}

test('all connections of a client share one rate; a window that begins meanwhile counts at once', async (t) => {
  let rate: number | null = 256 * KiB;
  const { client } = await clientWith(t, { pacer: new Pacer({ limit: () => rate }) });
  await client.info();
  // Refused for what it is, after all of it has come.
  const send = () => client.batch('0'.repeat(32), 1, randomBytes(128 * KiB)).catch(() => undefined);
  const seconds = await secondsOf(() => Promise.all([send(), send(), send(), send()]));
  t.true(seconds >= 1.8, `${seconds} s for 512 KiB at 256 KiB/s`);
  rate = 4000;
  const slow = send();
  await new Promise((resolve) => setTimeout(resolve, 500));
  rate = null;
  t.true((await secondsOf(() => slow)) < 5, 'half a minute at the rate that it began with');
});

test('a body in many pieces leaves no listeners behind', async (t) => {
  const warnings: string[] = [];
  const warned = ({ name }: Error) => warnings.push(name);
  process.on('warning', warned);
  t.teardown(() => process.off('warning', warned));
  const { client } = await clientWith(t, { pacer: new Pacer({ limit: () => 8 * MiB }) });
  await client.info();
  // More than the sockets on the way take at once: writing has to wait often.
  await client.batch('0'.repeat(32), 1, randomBytes(12 * MiB)).catch(() => undefined);
  t.deepEqual(warnings, []);
});

test('an answer is read at the rate', async (t) => {
  let rate: number | null = null;
  const { client, store } = await clientWith(t, { pacer: new Pacer({ limit: () => rate }) });
  const request = beginRequest();
  await client.begin(request);
  const point = await client.commit(request.sessionId, commitRequest({ batchCount: 0 }));
  Object.assign(store, { blocks: async () => randomBytes(MiB) });
  rate = 512 * KiB;
  let answer: Uint8Array = Buffer.alloc(0);
  const seconds = await secondsOf(async () => {
    answer = await client.blocks(point.id, [0]);
  });
  t.is(answer.length, MiB);
  t.true(seconds >= 1.5, `${seconds} s for 1 MiB at 512 KiB/s`);
});

test('bulky messages and connections are metered, small messages are not', async (t) => {
  const meter = new LinkMeter({ now: () => performance.now() });
  const { client, store } = await clientWith(t, { meter });
  const info = await client.greet();
  t.is(await client.info(), info, 'it is asked for once');
  t.false(meter.speed.isMeasured);
  t.true((meter.speed.roundTripMs ?? 1e9) < 1e4);
  const request = beginRequest();
  await client.begin(request);
  await t.throwsAsync(client.batch('0'.repeat(32), 1, randomBytes(MiB)));
  t.false(meter.speed.isMeasured, 'it was refused');
  const point = await client.commit(request.sessionId, commitRequest({ batchCount: 0 }));
  await client.nodes(point.id, [{ level: 1, index: 0 }]);
  t.false(meter.speed.isMeasured, 'so few bytes tell nothing');
  Object.assign(store, { blocks: async () => randomBytes(2 * MiB) });
  await client.blocks(point.id, [0]);
  t.true(meter.speed.isMeasured);
});
