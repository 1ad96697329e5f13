/**
 * Sessions that ship in passes: a block comes again with other bytes, and the instant is known at the end.
 */
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { nodeDisk } from '../../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import { createStore, openStore } from '../../../src/store/open.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makeBatch } from '../../helpers/bytes/hand-made-batch.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { FaultyDisk, PowerLossDisk } from '../../helpers/faults/disk.js';
import { FaultyObjectStore } from '../../helpers/faults/object-store.js';
import {
  backUp,
  change,
  changesBetween,
  commitRequest,
  describe,
  emptyState,
  holds,
  sendChanges,
  stampedBlock,
} from '../../helpers/worlds/store-device.js';

const BLOCK = 4 * KiB;
const SESSION = 'e'.repeat(32);
const base = change(emptyState({ sizeBytes: 40 * BLOCK, blockSize: BLOCK }), [
  [0, 1],
  [1, 2],
  [2, 3],
]);
const passOne = change(base, [
  [0, 11],
  [1, 12],
  [2, 13],
  [9, 14],
]);
/** Block 0 changed again, 1 is what it was in the base, 2 is zero; 9 is as it came. */
const passTwo = change(passOne, [
  [0, 21],
  [1, 2],
  [2, null],
]);

async function newStoreDir(t: ExecutionContext): Promise<string> {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  return dir;
}

async function begin(store: Store): Promise<Capture> {
  const point = await backUp(store, 'disk', null, base);
  return store.createCapture(describe('disk', base, point.id, SESSION));
}

test('the last pass counts, whatever dies between the passes and in the middle of one', async (t) => {
  // From the start of pass 2 on, power fails before each durable step in turn.
  for (let dying = 1, hasEnded = false; !hasEnded; dying += 1) {
    const dir = await newStoreDir(t);
    const power = new PowerLossDisk(await tempDir(t));
    let steps = Number.NEGATIVE_INFINITY;
    const disk = new FaultyDisk(power, () => {
      steps += 1;
      return steps === dying ? 'crash' : null;
    });
    const dyingStore = await openStore(dir, { disk });
    const capture = await begin(dyingStore);
    t.is(await sendChanges(capture, changesBetween(base, passOne), 2), 2);
    steps = 0;
    await sendChanges(capture, changesBetween(passOne, passTwo), 1, 3).catch(() => undefined);
    hasEnded = !disk.hasCrashed;
    await dyingStore.close().catch(() => undefined);
    if (disk.hasCrashed) await power.losePower(0.5, () => 0.5);

    const store = await openStore(dir);
    const found = store.captures()[0] as Capture;
    const { durableSequence } = await found.resume();
    t.true(durableSequence >= 2, `what pass 1 sent is durable when it dies at step ${dying}`);
    const rest = changesBetween(passOne, passTwo).slice(durableSequence - 2);
    const batchCount = Math.max(await sendChanges(found, rest, 1, durableSequence + 1), durableSequence);
    const instant = '2026-05-06T07:08:09.000Z';
    const point = await found.commit(commitRequest(passTwo, batchCount, { instant, kind: 'filesystem' }));
    t.like(point, { instant, kind: 'filesystem' });
    t.true(await holds(store, point, passTwo), `step ${dying}`);
    for await (const event of store.verify({})) t.not(event.type, 'finding', JSON.stringify(event));
    await store.close();
    t.true(dying < 100);
  }
});

test('a pass that a full pack separates from the one before it', async (t) => {
  const store = await openStore(await newStoreDir(t), { packBytesTarget: 1 });
  const capture = await begin(store);
  let sequence = await sendChanges(capture, changesBetween(base, passOne), 1);
  sequence = await sendChanges(capture, changesBetween(passOne, passTwo), 1, sequence + 1);
  // All that came is held, what is not of the last pass too.
  const digests = [11, 12, 13, 21].map((seed) => PLAIN.leafDigest(stampedBlock(seed, BLOCK)));
  t.deepEqual([...(await capture.have(Buffer.concat(digests)))], [0, 1, 2, 3]);
  // A last pass names by its digest what an earlier one sent.
  const last = change(passTwo, [[5, 12]]);
  const held = { blockIndex: 5, held: PLAIN.leafDigest(stampedBlock(12, BLOCK)) };
  sequence += 1;
  await capture.append(sequence, makeBatch(SESSION, sequence, [held]));
  const point = await capture.commit(commitRequest(last, sequence));
  t.true(await holds(store, point, last));
  await store.close();
});

test('what is stored counts every pass, what changed is the agent’s word', async (t) => {
  const store = await openStore(await newStoreDir(t));
  const capture = await begin(store);
  const statistics = { scannedBytes: 9, changedBytes: 4 * BLOCK, wireBytes: 100_000, durationMs: 5 };
  const item = (seed: number) => [{ blockIndex: 30, bytes: stampedBlock(seed, BLOCK) }];
  await capture.append(1, makeBatch(SESSION, 1, item(31)));
  const { durableBytes: once = 0 } = (await store.partialSets({ agent: 'alpha' }))[0] ?? {};
  await capture.append(2, makeBatch(SESSION, 2, item(32)));
  const { durableBytes: twice = 0 } = (await store.partialSets({ agent: 'alpha' }))[0] ?? {};
  await capture.append(3, makeBatch(SESSION, 3, item(31)));
  t.true(once > 0 && twice > 1.5 * once);
  t.like(await store.partialSets({ agent: 'alpha' }), [{ durableBytes: twice }], 'the third time it is held');
  const point = await capture.commit(commitRequest(change(base, [[30, 31]]), 3, { statistics }));
  t.deepEqual(point.statistics, statistics);
  t.true(point.storedBytes >= twice);
  await store.close();
});

test('a commit that failed after its point was there is answered with that point, whatever the next pass sent', async (t) => {
  const dir = await newStoreDir(t);
  let isLate = false;
  const objects = new FaultyObjectStore(new LocalObjectStore(nodeDisk, dir), ({ name }) =>
    isLate && name === 'put' ? { late: 'EIO' } : null,
  );
  const store = await openStore(dir, { objects });
  const capture = await begin(store);
  const sent = await sendChanges(capture, changesBetween(base, passOne));
  isLate = true;
  await t.throwsAsync(capture.commit(commitRequest(passOne, sent)), { code: 'store-io' });
  isLate = false;
  const all = await sendChanges(capture, changesBetween(passOne, passTwo), 8, sent + 1);
  const point = await capture.commit(commitRequest(passTwo, all, { instant: '2027-01-01T00:00:00.000Z' }));
  t.like(point, { id: SESSION, sequence: 2, instant: commitRequest(passOne, 0).instant });
  t.true(await holds(store, point, passOne));
  t.is((await store.points({ agent: 'alpha' })).length, 2);
  await store.close();
});
