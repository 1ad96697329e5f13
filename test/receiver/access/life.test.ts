/** The life of an agent at a receiver with a real store: shut out, renamed, removed, held to its quota. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { z } from 'zod';
import { writeStateFile } from '../../../src/config/state-file.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { ReceiverClient } from '../../../src/protocol/client.js';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import { writeQuota } from '../../../src/receiver/access/quotas.js';
import { readAudit } from '../../../src/receiver/audit/read.js';
import { askReceiver } from '../../../src/receiver/control/client.js';
import { agentViewsSchema, type ControlWish } from '../../../src/receiver/control/messages.js';
import {
  readAddresses,
  readSchedules,
  writeAddress,
  writeSchedule,
} from '../../../src/receiver/orders/remote-settings.js';
import { type RoundsSource, roundsOfDirectory } from '../../../src/receiver/orders/rounds-source.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { levelTree } from '../../helpers/bytes/level-tree.js';
import { beginRequest, commitRequest, GEOMETRY, sessionId } from '../../helpers/bytes/requests.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { TlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const BYTES = Buffer.alloc(GEOMETRY.blockSize, 1);
const ROOT = levelTree(GEOMETRY, new Map([[0, PLAIN.leafDigest(BYTES)]])).root;

async function make(t: ExecutionContext, roundsOf: (dir: string) => RoundsSource = roundsOfDirectory) {
  const dir = await tempDir(t);
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, {
    openStore: (path) => openStore(path),
    rounds: roundsOf(dir),
  });
  t.teardown(() => receiver.closeAll());
  await receiver.start();
  const ask = (wish: ControlWish) => askReceiver(dir, wish, { signal: new AbortController().signal });
  return { dir, receiver, ask };
}

async function backUp(client: ReceiverClient, id: number, device = 'disk'): Promise<Point> {
  const begun = await client.begin(beginRequest({ sessionId: sessionId(id), device }));
  if (begun.base === null)
    await client.batch(sessionId(id), 1, makeBatch(sessionId(id), 1, [{ blockIndex: 0, bytes: BYTES }]));
  return client.commit(sessionId(id), commitRequest({ batchCount: begun.base === null ? 1 : 0, root: ROOT }));
}

test('a revoked agent is cut off and told why, over a restart, until it is invited again', async (t) => {
  const { dir, receiver, ask } = await make(t);
  const client = receiver.client(await receiver.enroll('web'));
  const other = receiver.client(await receiver.enroll('db'));
  const point = await backUp(client, 1);
  await client.begin(beginRequest({ sessionId: sessionId(2) }));
  const unused = await receiver.invite('web');
  const question = { devices: ['disk'], running: [], ordersMax: 1, waitMs: 60_000 };
  const waiting = t.throwsAsync(client.awaitOrder(question), { code: 'agent-revoked' });
  await new Promise((resolve) => setTimeout(resolve, 100));
  await ask({ op: 'revoke', agent: 'web', reason: 'stolen' });
  await waiting;
  const told = {
    code: 'agent-revoked',
    message: /revoked at .* \(stolen\)\. If that was wrong, .*invite web/,
  };
  await t.throwsAsync(client.info(), told);
  await t.throwsAsync(client.batch(sessionId(2), 1, Buffer.alloc(10)), told);
  await t.notThrowsAsync(other.info());
  const { enroll } = await import('../../../src/protocol/enroll.js');
  await t.throwsAsync(enroll(receiver.url, unused), { code: 'invite-invalid' });
  await receiver.stop();
  await receiver.start();
  const again = receiver.client(await receiver.enroll('db2'));
  await t.notThrowsAsync(again.info());
  const views = agentViewsSchema.parse(await ask({ op: 'agents' }));
  t.like(
    views.find(({ agent }) => agent === 'web'),
    { state: 'revoked', revoked: { reason: 'stolen' }, isConnected: false },
  );
  await receiver.invite('new');
  t.like(
    agentViewsSchema.parse(await ask({ op: 'agents' })).find(({ agent }) => agent === 'new'),
    { state: 'invited', certificateExpiresAt: null },
  );
  // It goes on with its session.
  const present = receiver.client(await receiver.enroll('web'));
  t.is((await present.status(sessionId(2))).state, 'open');
  t.deepEqual(
    (await present.points()).map(({ id }) => id),
    [point.id],
  );
  const acts = [];
  for await (const { what, result, agent, detail } of readAudit(dir))
    if (what === 'revoke') acts.push({ result, agent, detail });
  t.deepEqual(
    acts.map(({ result }) => result),
    ['begun', 'done'],
  );
  t.is(acts[1]?.detail, 'stolen');
});

test('a renamed agent goes on with its certificate, points, sets and settings', async (t) => {
  const { dir, receiver, ask } = await make(t);
  const enrolment = await receiver.enroll('web');
  const client = receiver.client(enrolment);
  await receiver.enroll('db');
  const point = await backUp(client, 1);
  await client.begin(beginRequest({ sessionId: sessionId(2) }));
  await client.batch(
    sessionId(2),
    1,
    makeBatch(sessionId(2), 1, [{ blockIndex: 3, bytes: Buffer.alloc(GEOMETRY.blockSize, 3) }]),
  );
  await writeAddress(dir, 'web', { host: '127.0.0.1', port: 1 });
  const setAt = new Date().toISOString();
  await writeSchedule(dir, {
    ...{ name: 'default', at: 'every 1d', retries: 0, agents: ['db', 'web'], parallel: 1, waitMs: 0 },
    ...{ groups: null, setAt },
  });
  await writeQuota(dir, 'web', { points: 7 });
  const policy = { keepLast: 3 };
  await ask({ op: 'retention', wish: { to: 'set', scope: { agent: 'web', device: null }, policy } });
  for (const to of ['db', 'DB', 'Web', 'local'])
    await t.throwsAsync(ask({ op: 'rename', agent: 'web', to }), { code: 'bad-name' });
  await t.throwsAsync(ask({ op: 'rename', agent: 'nobody', to: 'x' }), { code: 'usage' });
  t.deepEqual(await ask({ op: 'rename', agent: 'web', to: 'www' }), { points: 1 });
  t.is((await client.info()).agent, 'www');
  t.deepEqual(await client.points(), [{ ...point, agent: 'www' }]);
  t.is((await client.status(sessionId(2))).state, 'unknown');
  t.is((await client.partialSets()).length, 1);
  t.deepEqual([...(await readAddresses(dir)).keys()], ['www']);
  t.deepEqual((await readSchedules(dir))[0]?.agents, ['db', 'www']);
  t.is((await backUp(client, 3)).sequence, 2);
  const kept = z.object({ policies: z.array(z.object({ agent: z.string().nullable() })) });
  const { policies } = kept.parse(await ask({ op: 'retention', wish: { to: 'show' } }));
  t.deepEqual(
    policies.map(({ agent }) => agent),
    ['www'],
  );
  await receiver.stop();

  // A receiver that died in the middle: the next one finishes it before it serves.
  await writeStateFile(
    join(dir, 'receiver', 'rename.json'),
    {
      ...{ format: 'stillpoint-rename', version: 1 },
      schema: z.strictObject({ from: z.string(), to: z.string() }),
    },
    { from: 'www', to: 'web3' },
  );
  await receiver.start();
  const after = receiver.client({ ...enrolment, url: receiver.url });
  t.is((await after.info()).agent, 'web3');
  t.is((await after.points()).length, 2);
  t.like(await ask({ op: 'use', agent: 'web3' }), { points: 2, sessions: 0, devices: 1 });
  await t.throwsAsync(rm(join(dir, 'receiver', 'rename.json')), { code: 'ENOENT' });
});

test('a rename that fails half-way is served under no name, and is finished before the next one', async (t) => {
  let failures = 2;
  const { receiver, ask } = await make(t, (dir) => {
    const rounds = roundsOfDirectory(dir);
    const renameAgent = async (from: string, to: string | null) => {
      failures -= 1;
      if (failures >= 0)
        throw new StillpointError('store-full', { thing: 'dial-out.json', reason: 'the disk is full' });
      await rounds.renameAgent(from, to);
    };
    return { ...rounds, renameAgent };
  });
  const web = receiver.client(await receiver.enroll('web'));
  await receiver.enroll('db');
  await backUp(web, 1);
  const old = await receiver.invite('web');
  await receiver.invite('new');
  await t.throwsAsync(ask({ op: 'rename', agent: 'web', to: 'new' }), { code: 'bad-name' }, 'it is invited');
  await t.throwsAsync(ask({ op: 'rename', agent: 'web', to: 'www' }), { message: /the disk is full/ });
  await t.throwsAsync(web.info(), { code: 'busy' });
  await t.throwsAsync(ask({ op: 'rename', agent: 'db', to: 'db2' }), { message: /the disk is full/ });
  t.deepEqual(await ask({ op: 'rename', agent: 'web', to: 'www' }), { points: 1 });
  t.is((await web.info()).agent, 'www');
  const { enroll } = await import('../../../src/protocol/enroll.js');
  await t.throwsAsync(enroll(receiver.url, old), { code: 'invite-invalid' });
  const both = await Promise.allSettled(['db2', 'db3'].map((to) => ask({ op: 'rename', agent: 'db', to })));
  t.deepEqual(both.map(({ status }) => status).sort(), ['fulfilled', 'rejected']);
});

test('a removed agent is gone with its points, or without them', async (t) => {
  const { receiver, ask } = await make(t);
  const [web, db] = [
    receiver.client(await receiver.enroll('web')),
    receiver.client(await receiver.enroll('db')),
  ];
  await backUp(web, 1);
  await backUp(web, 2, 'other');
  await backUp(db, 3);
  await db.begin(beginRequest({ sessionId: sessionId(4) }));
  t.deepEqual(await ask({ op: 'remove', agent: 'web', keepPoints: false }), { points: 2 });
  t.deepEqual(await ask({ op: 'remove', agent: 'db', keepPoints: true }), { points: 0 });
  for (const client of [web, db])
    await t.throwsAsync(client.info(), {
      code: 'unauthorized',
      message: /no longer enrolled.*receiver invite/,
    });
  t.deepEqual(agentViewsSchema.parse(await ask({ op: 'agents' })), []);
  t.deepEqual(await receiver.client(await receiver.enroll('web')).points(), []);
  t.is((await receiver.client(await receiver.enroll('db')).points()).length, 1);
});

test('an agent at its quota is refused with nothing half-done, and others are not', async (t) => {
  const { dir, receiver, ask } = await make(t);
  const [web, db] = [
    receiver.client(await receiver.enroll('web')),
    receiver.client(await receiver.enroll('db')),
  ];
  await backUp(web, 1);
  const set = async (changes: Parameters<typeof writeQuota>[2]) => {
    await writeQuota(dir, 'web', null);
    await writeQuota(dir, 'web', changes);
    await ask({ op: 'reload' });
  };
  const begin = (client: ReceiverClient, device: string, id: number) =>
    client.begin(beginRequest({ sessionId: sessionId(id), device }));
  await set({ points: 1 });
  await t.throwsAsync(begin(web, 'disk', 2), { code: 'quota', message: /it has 1 points, and may have 1/ });
  await set({ devices: 1 });
  await t.throwsAsync(begin(web, 'other', 2), { code: 'quota', message: /names of devices/ });
  await t.notThrowsAsync(begin(web, 'disk', 2));
  await set({ sessions: 1 });
  await t.throwsAsync(begin(web, 'other', 3), { code: 'quota', message: /open sessions/ });
  // One that takes the place of another is not one more.
  await t.notThrowsAsync(begin(web, 'disk', 4));
  const [point] = await web.points();
  await set({ storedBytes: (point?.storedBytes ?? 0) + 1000 });
  const batch = (id: number, sequence: number, seed: number) => {
    const bytes = Buffer.alloc(GEOMETRY.blockSize, seed);
    for (let at = 0; at < bytes.length; at += 4)
      bytes.writeUInt32LE(Math.imul(at + seed, 2654435761) >>> 0, at);
    return makeBatch(sessionId(id), sequence, [{ blockIndex: 2, bytes }]);
  };
  await t.throwsAsync(web.batch(sessionId(4), 1, batch(4, 1, 7)), {
    code: 'quota',
    message: /bytes in the store/,
  });
  t.is((await web.status(sessionId(4))).durableSequence, 0);
  await begin(db, 'disk', 5);
  await t.notThrowsAsync(db.batch(sessionId(5), 1, batch(5, 1, 7)));
  await set({ storedBytes: null });
  await t.notThrowsAsync(web.batch(sessionId(4), 1, batch(4, 1, 7)));
  const used = z
    .object({ storedBytes: z.number(), sessions: z.number() })
    .parse(await ask({ op: 'use', agent: 'web' }));
  t.true(used.storedBytes > (point?.storedBytes ?? 0) + 60_000);
  t.is(used.sessions, 1);
});
