/**
 * Patches as an agent sends them: what they spare, when they are asked for, and that what is
 * restored is what was there.
 */
import { open, readFile } from 'node:fs/promises';
import test, { type ExecutionContext } from 'ava';
import type { BackupOptions } from '../../../src/agent/backup/options.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { pieceCount } from '../../../src/domain/blocks/pieces.js';
import { LinkMeter } from '../../../src/domain/session/link-meter.js';
import type { PatchMode } from '../../../src/domain/session/patching.js';
import { native } from '../../../src/native/index.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { batchOf } from '../../helpers/bytes/block-batch.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { type Random, seededRandom } from '../../helpers/seed.js';
import { BackupWorld, BLOCK } from '../../helpers/worlds/backup.js';

const BLOCKS = 300;
const SIZE = BLOCKS * BLOCK - 12_800;

const noise = (random: Random, length: number): Buffer =>
  Buffer.from(Array.from({ length }, () => random.below(256)));

/** Random bytes at random places, 4 to 8 KiB each. */
async function scatter(made: BackupWorld, random: Random, count: number): Promise<number[]> {
  const file = await open(made.image, 'r+');
  const blockIndexes = random.sample([...Array(BLOCKS - 1).keys()], count);
  for (const blockIndex of blockIndexes) {
    const bytes = noise(random, 4 * KiB + random.below(4 * KiB));
    await file.write(bytes, 0, bytes.length, blockIndex * BLOCK + random.below(BLOCK - bytes.length));
  }
  await file.close();
  return blockIndexes;
}

/** A receiver that counts questions about pieces. */
function counting(receiver: ReceiverPort): { readonly port: ReceiverPort; readonly asked: number[][] } {
  const asked: number[][] = [];
  const port = intercept(receiver, async (sessionId, blockIndexes) => {
    asked.push([...blockIndexes]);
    return receiver.pieces(sessionId, blockIndexes);
  });
  return { port, asked };
}

function intercept(receiver: ReceiverPort, pieces: ReceiverPort['pieces']): ReceiverPort {
  return new Proxy(receiver, {
    get: (target, name: keyof ReceiverPort) => (name === 'pieces' ? pieces : target[name]?.bind(target)),
  });
}

/** An image of random bytes and one point of it. */
async function world(t: ExecutionContext, random: Random): Promise<BackupWorld> {
  const made = await BackupWorld.make(t);
  await made.makeImage(SIZE, [...Array(BLOCKS).keys()]);
  await scatter(made, random, BLOCKS - 1);
  await made.backup();
  return made;
}

async function lastIsImage(t: ExecutionContext, made: BackupWorld): Promise<void> {
  const last = (await made.points()).at(-1);
  if (last === undefined) return t.fail();
  t.true((await made.contents(last)).equals(await readFile(made.image)));
}

test('of blocks of which little changed only that is sent, and they are stored whole', async (t) => {
  const random = seededRandom(t);
  const made = await world(t, random);
  for (let round = 0; round < 3; round += 1) {
    const changed = await scatter(made, random, 40);
    const { point, wireBytes } = await made.backup({ patch: 'always' });
    t.is(point.statistics.changedBytes, changed.length * BLOCK);
    // At most three pieces each, of noise that does not compress.
    t.true(wireBytes < 40 * (3 * 4 * KiB + 400) + 4 * KiB, `${wireBytes}`);
    t.true(wireBytes > 40 * 4 * KiB, `${wireBytes}`);
    await lastIsImage(t, made);
  }
  await made.forgetState();
  await scatter(made, random, 10);
  const { base, wireBytes } = await made.backup({ patch: 'always' });
  t.is(base.start, 'compare');
  t.true(wireBytes < 10 * 3 * 4 * KiB + BLOCKS * 36 + 8 * KiB, `${wireBytes}`);
  await lastIsImage(t, made);
});

/** A link whose speed is known before anything was sent. */
function meterOf(bytesPerSecond: number | null): LinkMeter {
  const meter = new LinkMeter({ now: () => performance.now(), limit: () => bytesPerSecond });
  if (bytesPerSecond !== null) meter.suppose({ bytesPerSecond, roundTripMs: null });
  return meter;
}

test('auto asks where the link is slow or not known, never without a link or on a fast one', async (t) => {
  const random = seededRandom(t);
  const made = await world(t, random);
  const cases: [Partial<BackupOptions>, boolean][] = [
    [{}, false],
    [{ meter: meterOf(2e6) }, true],
    [{ meter: meterOf(null) }, true],
    [{ meter: meterOf(1e9) }, false],
    [{ meter: meterOf(2e6), patch: 'never' }, false],
  ];
  for (const [options, isAsked] of cases) {
    await scatter(made, random, 5);
    const { port, asked } = counting(made.receiver);
    await made.backup({ receiver: port, patch: 'auto', ...options });
    t.is(asked.length > 0, isAsked, JSON.stringify(options));
    await lastIsImage(t, made);
  }
});

test('only blocks that the base has are asked about', async (t) => {
  const made = await BackupWorld.make(t);
  await made.makeImage(SIZE, [0, 1]);
  const first = counting(made.receiver);
  await made.backup({ receiver: first.port, patch: 'always' });
  t.deepEqual(first.asked, []);
  await made.change(2, [1, 2, 3], SIZE);
  const { port, asked } = counting(made.receiver);
  await made.backup({ receiver: port, patch: 'always' });
  t.deepEqual(asked, [[1]]);
  await lastIsImage(t, made);
});

for (const blockSize of [4 * KiB, 8 * KiB, 256 * KiB, 4 * MiB]) {
  test(`blocks of ${blockSize / KiB} KiB, a device that grows and shrinks`, async (t) => {
    const random = seededRandom(t);
    const made = await world(t, random);
    const options = { patch: 'always' as PatchMode, blockSize };
    await made.backup(options);
    for (const sizeBytes of [SIZE, SIZE + 9 * MiB + 777, SIZE - 3 * MiB - 333]) {
      const file = await open(made.image, 'r+');
      await file.truncate(sizeBytes);
      await file.write(noise(random, 700), 0, 700, sizeBytes - 700);
      await file.close();
      const before = await made.backup(options);
      t.is(before.point.geometry.blockSize, blockSize);
      const changed = await open(made.image, 'r+');
      await changed.write(noise(random, 500), 0, 500, 5 * MiB);
      await changed.write(noise(random, 500), 0, 500, sizeBytes - 500);
      await changed.close();
      const { port, asked } = counting(made.receiver);
      const { wireBytes } = await made.backup({ ...options, receiver: port });
      t.is(asked.flat().length, blockSize === 4 * KiB ? 0 : 2);
      t.true(wireBytes < 4 * 4 * KiB + 2 * 8 * pieceCount(blockSize) + 5000, `${wireBytes}`);
      await lastIsImage(t, made);
    }
  });
}

test('where every block is wholly new the questions stop', async (t) => {
  const made = await BackupWorld.make(t);
  const blocks = [...Array(1000).keys()];
  await made.makeImage(1000 * BLOCK, blocks);
  await made.backup();
  await made.change(2, blocks);
  const { port, asked } = counting(made.receiver);
  await made.backup({ receiver: port, patch: 'auto', meter: meterOf(12e6) });
  // Of some 32 chunks.
  t.true(asked.length > 0 && asked.length < 8, `${asked.length}`);
  await lastIsImage(t, made);
});

test('a wrong patch is refused, and a new session sends whole blocks', async (t) => {
  const random = seededRandom(t);
  const made = await world(t, random);
  const changed = await scatter(made, random, 4);
  const now = await readFile(made.image);
  const questions: string[] = [];
  // As if two pieces had the same digest: one that changed is said to be as it was.
  const port = intercept(made.receiver, async (sessionId, blockIndexes) => {
    questions.push(sessionId);
    const blocks = new Map(blockIndexes.map((i) => [i, now.subarray(i * BLOCK, (i + 1) * BLOCK)]));
    const bodies = [await batchOf('0'.repeat(32), blocks)];
    const base = { bodies, pointId: '0'.repeat(32), sizeBytes: SIZE, blockSize: BLOCK };
    const truth = Buffer.from(await made.receiver.pieces(sessionId, blockIndexes));
    const digests = await native.pieceDigests(base, sessionId, PLAIN);
    const at = [...Array(pieceCount(BLOCK)).keys()].find(
      (piece) =>
        !truth.subarray(2 + piece * 8, 10 + piece * 8).equals(digests.subarray(piece * 8, piece * 8 + 8)),
    );
    if (at === undefined) throw new Error('nothing has changed');
    truth.set(digests.subarray(at * 8, at * 8 + 8), 2 + at * 8);
    const other = [...Array(pieceCount(BLOCK)).keys()].find((piece) => piece !== at) ?? 0;
    truth.fill(0xee, 2 + other * 8, 10 + other * 8);
    return truth;
  });
  const { point } = await made.backup({ receiver: port, patch: 'always' });
  t.is(point.sequence, 2);
  t.is(point.statistics.changedBytes, changed.length * BLOCK);
  t.is(new Set(questions).size, 1, 'the second session asks nothing');
  t.not(questions[0], point.id);
  t.true(made.notices().some((text) => /A new session sends whole blocks/.test(text)));
  await lastIsImage(t, made);
});

test('an answer that is none ends the backup', async (t) => {
  const random = seededRandom(t);
  const made = await world(t, random);
  await scatter(made, random, 4);
  for (const answer of [Buffer.alloc(0), Buffer.alloc(7), Buffer.alloc(10_000, 1)]) {
    const port = intercept(made.receiver, async () => answer);
    await t.throwsAsync(made.backup({ receiver: port, patch: 'always' }), { code: 'bad-message' });
  }
  await made.backup({ patch: 'always' });
  await lastIsImage(t, made);
});
