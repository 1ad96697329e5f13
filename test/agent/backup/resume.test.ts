/**
 * A backup that ended in the middle, and the next one: the same session where nothing was written
 * meanwhile, else another instant.
 */
import { open, readFile, stat, utimes, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { SnapshotProvider } from '../../../src/capture/ports.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { BATCH_RAW_BYTES_TARGET, BATCH_WINDOW } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { BeginAnswer } from '../../../src/domain/session/messages.js';
import { createMemoryDevice, type MemoryDevice } from '../../../src/native/testing.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { stampedBlock, writeStamped } from '../../helpers/bytes/stamped-blocks.js';
import { attachLoop } from '../../helpers/disks/loop-device.js';
import { testWith } from '../../helpers/requirements.js';
import { BackupWorld, BLOCK, providerOf } from '../../helpers/worlds/backup.js';

const PER_BATCH = BATCH_RAW_BYTES_TARGET / BLOCK;
const BLOCKS = 12 * PER_BATCH;
const SIZE = BLOCKS * BLOCK - 12_800;
const ALL = Array.from({ length: BLOCKS }, (_, index) => index);

/** Watches what a backup begins and sends, and cuts its link for good after some batches. */
class Watched {
  readonly begins: BeginAnswer[] = [];
  batchBytes = 0;
  batches = 0;
  largestBatch = 0;
  get sessionId(): string {
    return this.begins[0]?.sessionId ?? '';
  }
  readonly receiver: ReceiverPort;

  constructor(inner: ReceiverPort, batchesMax = Number.POSITIVE_INFINITY, cutsCommit = false) {
    const lost = () =>
      new StillpointError('connection-lost', { thing: 'receiver', reason: 'gone', permanent: false });
    this.receiver = new Proxy(inner, {
      get: (target, name: keyof ReceiverPort) => {
        if (name === 'begin') {
          return async (request: Parameters<ReceiverPort['begin']>[0]) => {
            const answer = await target.begin(request);
            this.begins.push(answer);
            return answer;
          };
        }
        if (name === 'batch') {
          return async (sessionId: string, sequence: number, body: Uint8Array) => {
            if (this.batches >= batchesMax) throw lost();
            this.batches += 1;
            this.batchBytes += body.length;
            this.largestBatch = Math.max(this.largestBatch, body.length);
            return target.batch(sessionId, sequence, body);
          };
        }
        if (name === 'commit' && cutsCommit) {
          return async () => {
            throw lost();
          };
        }
        const method = target[name] as (...args: unknown[]) => unknown;
        return method.bind(target);
      },
    });
  }
}

async function world(t: ExecutionContext): Promise<BackupWorld> {
  const made = await BackupWorld.make(t);
  await made.makeImage(SIZE, ALL);
  return made;
}

/** A backup whose link is cut after some batches, as if the agent had been killed: nothing is tidied up. */
async function cut(t: ExecutionContext, made: BackupWorld, batches: number, options = {}): Promise<Watched> {
  const watched = new Watched(made.receiver, batches);
  const error = await t.throwsAsync(made.backup({ receiver: watched.receiver, patienceMs: 0, ...options }), {
    instanceOf: StillpointError,
  });
  t.is((error as StillpointError).code, 'connection-lost');
  t.is((await made.points()).length, 0);
  return watched;
}

async function holdsImage(t: ExecutionContext, made: BackupWorld, point: Point, label = ''): Promise<void> {
  t.true((await made.contents(point)).equals(await readFile(made.image)), label);
}

test('where nothing was written since, the session goes on, and what was durable is not sent again', async (t) => {
  const clean = await BackupWorld.make(t);
  await clean.makeImage(SIZE, ALL);
  const reference = new Watched(clean.receiver);
  await clean.backup({ receiver: reference.receiver });

  for (const batches of [0, 1, 5, 11]) {
    const made = await world(t);
    const first = await cut(t, made, batches);
    const before = await stat(made.image);
    const second = new Watched(made.receiver);
    const { point } = await made.backup({ receiver: second.receiver });
    t.like(second.begins, [{ resumed: true, sessionId: first.sessionId }]);
    t.is(point.id, first.sessionId);
    t.is(point.statistics.scannedBytes, SIZE, 'all of it is read again');
    await holdsImage(t, made, point, `${batches} batches`);
    t.is((await stat(made.image)).mtimeMs, before.mtimeMs);
    const twice = first.batchBytes + second.batchBytes - reference.batchBytes;
    t.true(twice <= BATCH_WINDOW * reference.largestBatch, `${twice} bytes twice`);
    if (batches > 0)
      t.regex(made.notices().join(), /nothing was written since .*the session of that instant continues/);
  }
});

test('an agent that dies again and again comes to an end, in one session', async (t) => {
  const made = await world(t);
  const sessions = new Set<string>();
  let sent = 0;
  for (let round = 0; round < 3; round += 1) {
    const watched = await cut(t, made, 3);
    for (const { sessionId } of watched.begins) sessions.add(sessionId);
    sent += watched.batches;
  }
  const last = new Watched(made.receiver);
  const { point } = await made.backup({ receiver: last.receiver });
  t.deepEqual([...sessions], [point.id]);
  t.is(sent + last.batches, 12, 'each batch once');
  await holdsImage(t, made, point);
});

test('only the commit was missing', async (t) => {
  const made = await world(t);
  const first = new Watched(made.receiver, Number.POSITIVE_INFINITY, true);
  await t.throwsAsync(made.backup({ receiver: first.receiver, patienceMs: 0 }));
  const second = new Watched(made.receiver);
  const { point } = await made.backup({ receiver: second.receiver });
  t.is(point.id, first.sessionId);
  t.is(second.batches, 0);
  await holdsImage(t, made, point);
  t.is((await made.backup()).point.statistics.changedBytes, 0, 'the local tree is that of the point');
});

const CHANGES: readonly (readonly [what: string, blockIndex: number])[] = [
  ['that was sent', 3],
  ['that was not sent yet', BLOCKS - 2],
];

for (const [what, blockIndex] of CHANGES) {
  test(`a write to a part ${what} makes it another instant; what is held is not sent again`, async (t) => {
    const made = await world(t);
    const first = await cut(t, made, 5);
    await made.change(2, [blockIndex], SIZE);
    const second = new Watched(made.receiver);
    const { point } = await made.backup({ receiver: second.receiver });
    t.not(point.id, first.sessionId);
    t.like(second.begins, [{ resumed: false, durableBlockEnd: 0 }]);
    await holdsImage(t, made, point);
    t.true(second.batchBytes < first.batchBytes * (9 / 5), `${second.batchBytes} after ${first.batchBytes}`);
  });

  testWith(['root', 'loop'], `the same of a loop device ${what}, through it or past it`, async (t) => {
    for (const way of ['device', 'file'] as const) {
      const made = await world(t);
      await writeFile(
        join(made.directory, 'aligned'),
        (await readFile(made.image)).subarray(0, SIZE - (SIZE % 512)),
      );
      const image = join(made.directory, 'aligned');
      const path = attachLoop(t, image);
      const first = await cut(t, made, 5, { path });
      const unchanged = await cut(t, made, 1, { path });
      t.like(unchanged.begins, [{ resumed: true, sessionId: first.sessionId }], 'nothing changed yet');
      const file = await open(way === 'device' ? path : image, 'r+');
      await writeStamped(file, { seed: 1, blockIndex, generation: 2 }, BLOCK);
      await file.close();
      const second = new Watched(made.receiver);
      const { point } = await made.backup({ path, receiver: second.receiver });
      t.not(point.id, first.sessionId, way);
      t.true((await made.contents(point)).equals(await readFile(image)), way);
    }
  });
}

test("times set back don't hide a write", async (t) => {
  const made = await world(t);
  const { atime, mtime } = await stat(made.image);
  const first = await cut(t, made, 5);
  await made.change(2, [3], SIZE);
  await utimes(made.image, atime, mtime);
  const { point } = await made.backup();
  t.not(point.id, first.sessionId);
  await holdsImage(t, made, point);
});

test('a write during the second attempt gives no point, whatever was read by then', async (t) => {
  const made = await world(t);
  const first = await cut(t, made, 5);
  const watched = new Watched(made.receiver);
  const receiver = new Proxy(watched.receiver, {
    get: (target, name: keyof ReceiverPort) => {
      const method = target[name] as (...args: unknown[]) => unknown;
      if (name !== 'batch') return method.bind(target);
      return async (...args: unknown[]) => {
        await made.change(3, [1, BLOCKS - 1], SIZE);
        return method.apply(target, args);
      };
    },
  });
  const error = await t.throwsAsync(made.backup({ receiver }), { instanceOf: StillpointError });
  t.is((error as StillpointError).code, 'device-changed');
  t.is(watched.sessionId, first.sessionId);
  t.is((await made.points()).length, 0);
  const { point } = await made.backup();
  t.not(point.id, first.sessionId);
  await holdsImage(t, made, point);
});

test('another block size, name of the session gone, or damaged file: a new session', async (t) => {
  for (const spoil of ['size', 'abort', 'damage', 'gone'] as const) {
    const made = await world(t);
    const first = await cut(t, made, 5);
    const sessionId = first.sessionId;
    const file = join(made.deviceState, 'session');
    if (spoil === 'abort') await made.receiver.abort(sessionId);
    if (spoil === 'damage')
      await writeFile(file, (await readFile(file, 'utf8')).replace('instant', 'instanT'));
    if (spoil === 'gone') await made.forgetState();
    const { point } = await made.backup(spoil === 'size' ? { blockSize: 2 * BLOCK } : {});
    t.not(point.id, sessionId, spoil);
    await holdsImage(t, made, point, spoil);
  }
});

// ---- bad sectors ------------------------------------------------------------------------------------------

/** A device in memory whose view stands from one backup to the next. */
async function memoryWorld(
  t: ExecutionContext,
): Promise<{ made: BackupWorld; device: MemoryDevice; provider: SnapshotProvider }> {
  const made = await BackupWorld.make(t);
  const device = createMemoryDevice(BLOCKS * BLOCK);
  t.teardown(() => device.close());
  for (const blockIndex of ALL) {
    if (blockIndex % 7 === 6) continue;
    await device.write(blockIndex * BLOCK, stampedBlock({ seed: 3, blockIndex, generation: 1 }, BLOCK));
  }
  const inner = providerOf(device);
  const provider: SnapshotProvider = {
    name: inner.name,
    hold: async (path, options) => ({ ...(await inner.hold(path, options)), continuity: 'as it was' }),
  };
  return { made, device, provider };
}

const SECTOR = 512;
/** In the sent part and in the other one, of blocks with content and of zeros. */
const BAD = [2, 6, 40, BLOCKS - 3, BLOCKS - 12];

test('sectors that can be read at one attempt only: the root holds, whichever session goes on', async (t) => {
  for (const badAt of ['first', 'second', 'both'] as const) {
    const { made, device, provider } = await memoryWorld(t);
    const spoil = () => {
      for (const blockIndex of BAD) device.addBadRange(blockIndex * BLOCK + SECTOR, SECTOR);
    };
    if (badAt !== 'second') spoil();
    const first = await cut(t, made, 9, { provider });
    if (badAt === 'first') device.clearFaults();
    if (badAt === 'second') spoil();
    const { point } = await made.backup({ provider });
    t.is(point.id === first.sessionId, badAt !== 'first', badAt);
    if (badAt === 'first') t.regex(made.notices().join(), /a new session begins: .*gives? root/);
    t.is(point.badRanges.length, badAt === 'first' ? 0 : BAD.length, badAt);
    const contents = await made.contents(point);
    for (const blockIndex of ALL.filter((index) => badAt === 'first' || !BAD.includes(index))) {
      const expected =
        blockIndex % 7 === 6
          ? Buffer.alloc(BLOCK)
          : stampedBlock({ seed: 3, blockIndex, generation: 1 }, BLOCK);
      if (!contents.subarray(blockIndex * BLOCK, (blockIndex + 1) * BLOCK).equals(expected))
        return t.fail(`${badAt}: block ${blockIndex}`);
    }
    t.is((await made.backup({ provider })).point.root, point.root, badAt);
  }
});

test("a block that is bad now and was changed at the first attempt keeps the last point's content", async (t) => {
  const { made, device, provider } = await memoryWorld(t);
  await made.backup({ provider });
  const changed = ALL.filter((index) => index % 2 === 0);
  for (const blockIndex of changed)
    await device.write(blockIndex * BLOCK, stampedBlock({ seed: 3, blockIndex, generation: 2 }, BLOCK));
  const watched = new Watched(made.receiver, 3);
  await t.throwsAsync(made.backup({ provider, receiver: watched.receiver, patienceMs: 0 }));
  // Whole blocks: their content is that of the base point, from which they differ in nothing.
  for (const blockIndex of [2, 4]) device.addBadRange(blockIndex * BLOCK, BLOCK);
  const { point } = await made.backup({ provider });
  t.is(point.id, watched.sessionId);
  const contents = await made.contents(point);
  for (const blockIndex of [0, 1, 2, 4, 8]) {
    const generation = [0, 8].includes(blockIndex) ? 2 : 1;
    const expected = stampedBlock({ seed: 3, blockIndex, generation }, BLOCK);
    t.true(contents.subarray(blockIndex * BLOCK, (blockIndex + 1) * BLOCK).equals(expected), `${blockIndex}`);
  }
});
