/**
 * Who ends sessions that nobody goes on with, and when: a receiver that serves, now and then; a store without
 * network, when it is closed.
 */

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { findSettings, initReceiver } from '../../src/receiver/access/identity.js';
import { openEmbeddedReceiver } from '../../src/receiver/embedded.js';
import { agentReceiver } from '../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../src/receiver/sessions/service.js';
import { createStore, openStore } from '../../src/store/open.js';
import { blocksOf } from '../conformance/receiver.js';
import { batchOf, rootOf } from '../helpers/bytes/batches.js';
import { beginRequest, commitRequest, GEOMETRY, sessionId } from '../helpers/bytes/requests.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { listFiles } from '../helpers/faults/disk.js';
import { FaultyStore } from '../helpers/faults/store.js';
import { TlsReceiver } from '../helpers/worlds/tls-receiver.js';

const HOUR_MS = 3_600_000;
const [A, B] = [sessionId(1), sessionId(2)];
const BLOCKS = blocksOf([0, 1], 1);

async function newStore(t: ExecutionContext): Promise<string> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  return dir;
}

const packs = async (dir: string) => (await listFiles(dir)).filter((name) => name.startsWith('packs/'));

test('without network: at the close after its time, and not before', async (t) => {
  const dir = await newStore(t);
  let nowMs = Date.parse('2026-01-01T00:00:00.000Z');
  const open = () =>
    openEmbeddedReceiver(dir, { openStore: (path) => openStore(path, { now: () => new Date(nowMs) }) });
  const first = await open();
  await first.begin(beginRequest({ sessionId: A }));
  await first.batch(A, 1, batchOf(A, 1, BLOCKS));
  await first.close();
  nowMs += 7 * 24 * HOUR_MS - 1000;
  const second = await open();
  t.like(await second.partialSets(), [
    { sessionId: A, state: 'open', expiresAt: '2026-01-08T00:00:00.000Z' },
  ]);
  await second.close();
  nowMs += 1000;
  const third = await open();
  t.like(await third.status(A), { state: 'open', durableSequence: 1 });
  await third.close();
  t.deepEqual(await packs(dir), []);
  const fourth = await open();
  t.deepEqual(await fourth.partialSets(), []);
  t.like(await fourth.status(A), { state: 'unknown' });
  await fourth.close();
});

test('a receiver that serves collects by itself, for as long as it was told', async (t) => {
  const dir = await newStore(t);
  await initReceiver(dir, { listen: '127.0.0.1:0', keepPartialMs: 2 * HOUR_MS });
  let nowMs = Date.now();
  const kept: number[] = [];
  const receiver = new TlsReceiver(dir, {
    collectIntervalMs: 20,
    openStore: (path, _log, settings) => {
      kept.push(settings.keepPartialMs);
      return openStore(path, { ...settings, now: () => new Date(nowMs) });
    },
  });
  await receiver.start();
  t.teardown(() => receiver.closeAll());
  t.deepEqual(kept, [2 * HOUR_MS]);
  const port = receiver.client({ ...(await receiver.enroll('host')), url: receiver.url });
  await port.begin(beginRequest({ sessionId: A }));
  await port.batch(A, 1, batchOf(A, 1, BLOCKS));
  await port.begin(beginRequest({ sessionId: B, device: 'other' }));
  await sleep(100);
  t.is((await port.partialSets()).length, 2);
  nowMs += 2 * HOUR_MS - 1;
  // B goes on.
  await port.have(B, Buffer.alloc(32, 1));
  nowMs += 1;
  const deadline = Date.now() + 20_000;
  while ((await port.partialSets()).length > 1 && Date.now() < deadline) await sleep(20);
  // Its pack goes first, its record last.
  t.deepEqual(await packs(dir), []);
  t.like(await port.partialSets(), [{ sessionId: B, state: 'open' }]);
  const point = await port.commit(B, commitRequest({ batchCount: 0, root: rootOf(GEOMETRY, new Map()) }));
  t.is(point.sequence, 1);
});

test('a session that is being committed is not ended for its age', async (t) => {
  const store = new FaultyStore();
  const service = await ReceiverService.open(store);
  const port = agentReceiver(service, 'host');
  await port.begin(beginRequest({ sessionId: A }));
  await port.begin(beginRequest({ sessionId: B, device: 'other' }));
  let release: () => void = () => undefined;
  const held = new Promise<void>((resolve) => {
    release = resolve;
  });
  store.before = async (call) => (call === 'commit' ? held : undefined);
  const commit = port.commit(A, commitRequest());
  store.expired.add(A).add(B);
  await service.collect();
  t.like(await port.status(B), { state: 'unknown' });
  release();
  t.is((await commit).id, A);
});

test('the time is a setting of the receiver; what is not named stays', async (t) => {
  const dir = await newStore(t);
  await initReceiver(dir, { listen: '127.0.0.1:1' });
  t.is((await findSettings(dir))?.keepPartialMs, undefined);
  await initReceiver(dir, { keepPartialMs: 24 * HOUR_MS });
  await initReceiver(dir, { url: 'https://backup.example.net:1' });
  t.like(await findSettings(dir), {
    listen: '127.0.0.1:1',
    url: 'https://backup.example.net:1',
    keepPartialMs: 24 * HOUR_MS,
  });
});
