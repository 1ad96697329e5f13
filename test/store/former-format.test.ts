/**
 * Stores that former versions wrote (test/fixtures/README.md): read as they are, and brought to the
 * present format by who writes.
 */
import { execFile } from 'node:child_process';
import { chmod, readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../src/domain/base/limits.js';
import { agentReceiver } from '../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../src/receiver/sessions/service.js';
import { nodeDisk } from '../../src/store/disk/disk.js';
import { SEALED_VERSION } from '../../src/store/disk/sealed-text.js';
import { openStore, openStoreForReading } from '../../src/store/open.js';
import type { Store } from '../../src/store/port/store.js';
import { makeBatch } from '../helpers/bytes/hand-made-batch.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { FaultyDisk } from '../helpers/faults/disk.js';
import {
  change,
  commitRequest,
  describe,
  emptyState,
  holds,
  stampedBlock,
} from '../helpers/worlds/store-device.js';

const FIXTURE = fileURLToPath(new URL('../../../../test/fixtures/store-1.tar.gz', import.meta.url));
const [OPEN, ENDED] = ['3'.repeat(32), '4'.repeat(32)];
const geometry = { sizeBytes: 40 * 4 * KiB - 1000, blockSize: 4 * KiB };
const first = change(emptyState(geometry), [
  [0, 1],
  [5, 2],
  [39, 3],
]);
const second = change(first, [
  [5, 4],
  [6, 5],
  [39, null],
]);
/** A day after it was made: what it has of sessions is kept still. */
const now = () => new Date('2026-01-03T03:04:05.000Z');

async function formerStore(t: ExecutionContext): Promise<string> {
  const dir = await tempDir(t);
  await promisify(execFile)('tar', ['-xzf', FIXTURE, '-C', dir]);
  await chmod(dir, 0o700);
  return dir;
}

/** The first line of each sealed text. */
async function versions(dir: string): Promise<string[]> {
  const files = (await readdir(dir, { recursive: true })).filter((name) =>
    /(\.json|description|partial\/\w+|points\/.*\d{10})$/.test(name),
  );
  return Promise.all(
    files
      .sort()
      .map(async (name) => `${name}: ${/ (\d+) /.exec(await readFile(join(dir, name), 'latin1'))?.[1]}`),
  );
}

async function checkPoints(t: ExecutionContext, store: Store): Promise<void> {
  const points = await store.points({ agent: 'alpha' });
  t.is(points.length, 2);
  for (const [i, state] of [first, second].entries()) {
    const point = points[i];
    t.like(point, { sequence: i + 1, kind: 'idle', provider: 'offline', providerFacts: {} });
    t.true(point !== undefined && (await holds(store, point, state)));
  }
  for await (const event of store.verify({})) t.not(event.type, 'finding', JSON.stringify(event));
}

const SETS = [
  { device: 'disk', sessionId: OPEN, state: 'open', begunAt: '2026-01-02T03:04:16.000Z' },
  { device: 'other', sessionId: ENDED, state: 'ended', begunAt: null },
] as const;

async function checkSets(t: ExecutionContext, store: Store): Promise<void> {
  const sets = await store.partialSets({ agent: 'alpha' });
  t.deepEqual(
    sets.map(({ device, sessionId, state, begunAt }) => ({ device, sessionId, state, begunAt })),
    [...SETS],
  );
}

test('a reader reads a store of format 1, and leaves it as it is', async (t) => {
  const dir = await formerStore(t);
  const before = await versions(dir);
  t.true(before.length === 6 && before.every((line) => line.endsWith(': 1')), before.join());
  const logged: string[] = [];
  const store = await openStoreForReading(dir, { now, log: (message) => logged.push(message) });
  await checkPoints(t, store);
  await checkSets(t, store);
  await store.close();
  t.deepEqual(await versions(dir), before);
  t.deepEqual(
    logged.filter((message) => !message.startsWith('the index is not used')),
    [],
  );
});

test('nothing of the present format is written before store.json says so, though the store is opened', async (t) => {
  const dir = await formerStore(t);
  const former = await versions(dir);
  let isFull = true;
  const disk = new FaultyDisk(nodeDisk, ({ name, path }) =>
    isFull && name === 'rename' && path === join(dir, 'store.json') ? 'ENOSPC' : null,
  );
  const logged: string[] = [];
  const store = await openStore(dir, { now, disk, log: (message) => logged.push(message) });
  t.regex(logged.join(), /can't be written now/);
  await checkPoints(t, store);
  const open = store.captures().find(({ description }) => description.sessionId === OPEN);
  const third = change(second, [[0, 9]]);
  await t.throwsAsync(async () => open?.commit(commitRequest(third, 1)), { code: 'store-full' });
  await t.throwsAsync(store.createCapture(describe('third', first, null)), { code: 'store-full' });
  const isOfStore = (line: string) => line.startsWith('store-copy.json');
  t.deepEqual(
    (await versions(dir)).filter((line) => !isOfStore(line)),
    former.filter((line) => !isOfStore(line)),
  );
  isFull = false;
  const capture = await store.createCapture(describe('third', first, null));
  t.true((await versions(dir)).includes(`store.json: ${SEALED_VERSION}`));
  await capture.abort();
  await store.close();
});

test('who writes to a store of format 1 makes it one of the present format, and its open session goes on', async (t) => {
  const dir = await formerStore(t);
  const logged: string[] = [];
  const log = (message: string) => logged.push(message);
  let store = await openStore(dir, { now, log });
  await checkPoints(t, store);
  await checkSets(t, store);
  t.deepEqual(
    (await versions(dir)).filter((line) => line.includes('.json')),
    [`store-copy.json: ${SEALED_VERSION}`, `store.json: ${SEALED_VERSION}`],
  );
  t.regex(await readFile(join(dir, 'store.json'), 'utf8'), /"createdAt": "2026-01-02T03:04:06.000Z"/);

  const service = await ReceiverService.open(store);
  const port = agentReceiver(service, 'alpha');
  const identity = { type: 'image', path: '/images/disk.img', logicalSectorSize: 512 } as const;
  const request = { device: 'disk', identity, geometry, base: null, sessionId: OPEN };
  const answer = await port.begin({ ...request, acceptIdentity: false, newChain: false });
  t.like(answer, { resumed: true, durableSequence: 1, durableBlockEnd: 1 });
  t.is(answer.base?.sequence, 2);
  await port.batch(OPEN, 2, makeBatch(OPEN, 2, [{ blockIndex: 1, bytes: stampedBlock(7, 4 * KiB) }]));
  const third = change(second, [
    [0, 9],
    [1, 7],
  ]);
  const instant = '2026-01-03T04:05:06.000Z';
  const point = await port.commit(OPEN, commitRequest(third, 2, { instant, kind: 'crash', provider: 'tap' }));
  t.like(point, { sequence: 3, instant, kind: 'crash', provider: 'tap' });
  await service.close();
  await store.close();
  t.deepEqual(logged, []);
  t.deepEqual(await versions(dir), [
    `partial/${ENDED}: 1`,
    'points/alpha/disk/0000000001: 1',
    'points/alpha/disk/0000000002: 1',
    `points/alpha/disk/0000000003: ${SEALED_VERSION}`,
    `scrub.json: ${SEALED_VERSION}`,
    `store-copy.json: ${SEALED_VERSION}`,
    `store.json: ${SEALED_VERSION}`,
  ]);

  store = await openStore(dir, { now, log });
  t.true(await holds(store, point, third));
  for await (const event of store.verify({})) t.not(event.type, 'finding', JSON.stringify(event));
  await store.close();
});
