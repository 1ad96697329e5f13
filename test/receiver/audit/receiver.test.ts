/** A receiver over the network records who enrolled, backed up, restored and was refused. */
import test from 'ava';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import { readAudit, verifyAudit } from '../../../src/receiver/audit/read.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { levelTree } from '../../helpers/bytes/level-tree.js';
import { beginRequest, commitRequest, GEOMETRY, sessionId } from '../../helpers/bytes/requests.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { TlsReceiver } from '../../helpers/worlds/tls-receiver.js';

test('sessions, restores, enrolments and refusals are in the log', async (t) => {
  const dir = await tempDir(t);
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const receiver = new TlsReceiver(dir, { openStore: (path) => openStore(path) });
  t.teardown(() => receiver.closeAll());
  await receiver.start();
  const former = receiver.client(await receiver.enroll('host'));
  await former.begin(beginRequest());
  const client = receiver.client(await receiver.enroll('host'));
  await t.throwsAsync(former.info(), { code: 'unauthorized' });
  await client.begin(beginRequest());
  await client.begin(beginRequest({ sessionId: sessionId(2) }));
  await client.abort(sessionId(2));
  await client.begin(beginRequest({ sessionId: sessionId(3) }));
  const bytes = Buffer.alloc(GEOMETRY.blockSize, 1);
  const { root } = levelTree(GEOMETRY, new Map([[0, PLAIN.leafDigest(bytes)]]));
  await client.batch(sessionId(3), 1, makeBatch(sessionId(3), 1, [{ blockIndex: 0, bytes }]));
  const point = await client.commit(sessionId(3), commitRequest({ batchCount: 1, root }));
  await client.blocks(point.id, [0]);
  await client.blocks(point.id, [0]);
  await t.throwsAsync(client.begin(beginRequest({ sessionId: sessionId(3) })), { code: 'session-closed' });
  await receiver.stop();
  const entries = [];
  for await (const entry of readAudit(receiver.dir)) entries.push(entry);
  const from = { who: 'agent', agent: 'host', address: '127.0.0.1' };
  t.like(entries, [
    { ...from, what: 'enroll' },
    { ...from, what: 'session-begin', device: 'disk', session: sessionId(1) },
    { ...from, what: 'enroll' },
    { who: 'stranger', what: 'refused', address: '127.0.0.1' },
    { ...from, what: 'session-resume', session: sessionId(1) },
    { what: 'session-superseded', agent: 'host', session: sessionId(1) },
    { ...from, what: 'session-begin', session: sessionId(2) },
    { what: 'session-abort', agent: 'host', session: sessionId(2) },
    { ...from, what: 'session-begin', session: sessionId(3) },
    { what: 'session-commit', agent: 'host', session: sessionId(3), point: 'disk@1', bytes: 0 },
    { ...from, what: 'restore-begin', point: 'disk@1' },
    { who: 'agent', what: 'refused', agent: 'host' },
    { ...from, what: 'restore-end', point: 'disk@1' },
  ]);
  t.like(await verifyAudit(receiver.dir), { entries: 13, faults: [] });
});
