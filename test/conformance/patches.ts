/**
 * Pieces of a base's blocks, and batches with patches, on each ReceiverPort; bad ones are
 * in the tables of bad-*.ts.
 */
import { PIECE_BYTES } from '../../src/domain/base/limits.js';
import { splitPieces } from '../../src/domain/blocks/pieces.js';
import { ENTRY_PATCH } from '../../src/native/index.js';
import { batchOf, encodeTestBatch, encodeTestRecord, rootOf } from '../helpers/bytes/batches.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { changePieces, encodeTestPatch } from '../helpers/bytes/patches.js';
import { beginRequest, commitRequest, GEOMETRY } from '../helpers/bytes/requests.js';
import type { Tests } from '../helpers/in-turns.js';
import {
  type Blocks,
  backUp,
  block,
  blocksOf,
  checkContent,
  type MakeWorld,
  newSessionId,
} from './receiver.js';

const PIECES = GEOMETRY.blockSize / PIECE_BYTES;

/** Digests of a block's pieces, as hex, from an answer about blocks of the usual length. */
function digestsOf(answer: Uint8Array, count: number): string[][] {
  const parts = splitPieces(
    answer,
    Array.from({ length: count }, () => GEOMETRY.blockSize),
  );
  if (parts === null) throw new Error('the answer is not one to the question');
  return parts.map((part) => Buffer.from(part.subarray(2)).toString('hex').match(/.{16}/g) ?? []);
}

/** A batch of patches, each with these pieces of the block. */
function patchBatch(
  sessionId: string,
  sequence: number,
  blocks: ReadonlyMap<number, Uint8Array>,
  pieces: readonly number[],
): Buffer {
  const ascending = [...blocks].sort(([a], [b]) => a - b);
  return encodeTestBatch({
    ...{ sessionId, sequence },
    entries: ascending.map(([blockIndex, bytes]) => ({
      ...{ blockIndex, kind: ENTRY_PATCH, digest: PLAIN.leafDigest(bytes) },
    })),
    patches: ascending.map(([, bytes]) => encodeTestPatch({ block: bytes, pieces })),
  });
}

export function patchConformance(test: Tests, make: MakeWorld): void {
  test('digests of pieces tell which pieces of a block are the base’s', async (t) => {
    const port = await (await make(t)).portFor('host');
    const base = block(3, 1);
    const twin = changePieces(base, [2, 15]);
    await backUp(
      port,
      new Map(),
      new Map([
        [3, base],
        [4, twin],
      ]),
    );
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const [first = [], second = []] = digestsOf(await port.pieces(sessionId, [3, 4]), 2);
    t.is(first.length, PIECES);
    const different = first.flatMap((digest, piece) => (digest === second[piece] ? [] : [piece]));
    t.deepEqual(different, [2, 15]);
    t.deepEqual(await port.pieces(sessionId, [3, 4]), await port.pieces(sessionId, [3, 4]));

    const other = newSessionId();
    await port.begin(beginRequest({ sessionId: other }));
    const [again = []] = digestsOf(await port.pieces(other, [3]), 1);
    t.deepEqual(
      again.filter((digest) => first.includes(digest)),
      [],
    );
  });

  test('of what the base has not there are no digests', async (t) => {
    const port = await (await make(t)).portFor('host');
    const sizeBytes = 3 * GEOMETRY.blockSize + 5000;
    const geometry = { ...GEOMETRY, sizeBytes };
    const last = block(3, 1).subarray(0, 5000);
    const blocks: Blocks = new Map([...blocksOf([0], 1), [3, last]]);
    const first = newSessionId();
    await port.begin(beginRequest({ sessionId: first, geometry }));
    t.deepEqual(digestsOf(await port.pieces(first, [0, 2]), 2), [[], []]);
    await port.batch(first, 1, batchOf(first, 1, blocks));
    t.deepEqual(digestsOf(await port.pieces(first, [0]), 1), [[]], 'what the session sent is no base');
    await port.commit(first, commitRequest({ batchCount: 1, root: rootOf(geometry, blocks) }));

    const same = newSessionId();
    await port.begin(beginRequest({ sessionId: same, geometry }));
    const short = splitPieces(await port.pieces(same, [0, 1, 3]), [65_536, 65_536, 5000]);
    t.deepEqual(
      short?.map((part) => part.length),
      [2 + PIECES * 8, 2, 2 + 2 * 8],
    );
    // Grown: the short block is another one now, and behind it nothing was.
    const grown = newSessionId();
    await port.begin(beginRequest({ sessionId: grown }));
    const digests = digestsOf(await port.pieces(grown, [0, 1, 3, 9]), 4);
    t.deepEqual(
      digests.map(({ length }) => length),
      [PIECES, 0, 0, 0],
    );
  });

  test('a patched block is stored whole', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state = blocksOf([0, 1, 2, 3], 1);
    const first = await backUp(port, new Map(), state);
    const before: Blocks = new Map(state);
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const patched = new Map([1, 3].map((index) => [index, changePieces(block(index, 1), [0, 7])] as const));
    const whole = block(2, 2);
    const entryOf = (blockIndex: number, bytes: Uint8Array, kind: number) => ({
      ...{ blockIndex, kind, digest: PLAIN.leafDigest(bytes) },
    });
    const body = encodeTestBatch({
      ...{ sessionId, sequence: 1 },
      entries: [
        { blockIndex: 0, kind: 0 },
        ...[...patched].slice(0, 1).map(([index, bytes]) => entryOf(index, bytes, ENTRY_PATCH)),
        entryOf(2, whole, 1),
        ...[...patched].slice(1).map(([index, bytes]) => entryOf(index, bytes, ENTRY_PATCH)),
      ],
      records: [encodeTestRecord(whole)],
      patches: [...patched.values()].map((bytes) => encodeTestPatch({ block: bytes, pieces: [0, 7] })),
    });
    t.deepEqual(await port.batch(sessionId, 1, body), { durableSequence: 1 });
    t.deepEqual(await port.batch(sessionId, 1, body), { durableSequence: 1 });
    state.delete(0);
    state.set(2, whole);
    for (const [index, bytes] of patched) state.set(index, bytes);
    const held = await port.have(sessionId, PLAIN.leafDigest(patched.get(3) ?? whole));
    t.deepEqual([...held], [1], 'held like any other block');
    const root = rootOf(GEOMETRY, state);
    const point = await port.commit(sessionId, commitRequest({ batchCount: 1, root }));
    await checkContent(t, port, first, before);
    await checkContent(t, port, point, state);
  });

  test('patches side by side, out of order and sent twice at once', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state = blocksOf([0, 1, 2, 3], 1);
    await backUp(port, new Map(), state);
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    await Promise.all(
      [3, 0, 2, 1, 3, 0].map((index) => {
        const now = changePieces(block(index, 1), [index]);
        state.set(index, now);
        return port.batch(
          sessionId,
          index + 1,
          patchBatch(sessionId, index + 1, new Map([[index, now]]), [index]),
        );
      }),
    );
    const root = rootOf(GEOMETRY, state);
    await checkContent(t, port, await port.commit(sessionId, commitRequest({ batchCount: 4, root })), state);
  });

  test('a patch is over the base’s block, whatever the session sent for it before', async (t) => {
    const port = await (await make(t)).portFor('host');
    await backUp(port, new Map(), blocksOf([5], 1));
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    await port.batch(sessionId, 1, batchOf(sessionId, 1, blocksOf([5], 2)));
    const state: Blocks = new Map([[5, changePieces(block(5, 1), [1])]]);
    await port.batch(sessionId, 2, patchBatch(sessionId, 2, state, [1]));
    const root = rootOf(GEOMETRY, state);
    await checkContent(t, port, await port.commit(sessionId, commitRequest({ batchCount: 2, root })), state);
  });

  test('after a restart the base is known, and its digests are the same', async (t) => {
    const world = await make(t);
    const before = await world.portFor('host');
    const state = blocksOf([0, 1], 1);
    await backUp(before, new Map(), state);
    const request = beginRequest({ sessionId: newSessionId() });
    const { sessionId } = request;
    await before.begin(request);
    const [first, second] = [0, 1].map((index) => changePieces(block(index, 1), [4])) as [Buffer, Buffer];
    const answer = await before.pieces(sessionId, [0, 1]);
    await before.batch(sessionId, 1, patchBatch(sessionId, 1, new Map([[0, first]]), [4]));
    await world.restart();
    const port = await world.portFor('host');
    t.like(await port.begin(request), { resumed: true, durableSequence: 1 });
    t.deepEqual(Buffer.from(await port.pieces(sessionId, [0, 1])), Buffer.from(answer));
    await port.batch(sessionId, 2, patchBatch(sessionId, 2, new Map([[1, second]]), [4]));
    state.set(0, first).set(1, second);
    const root = rootOf(GEOMETRY, state);
    await checkContent(t, port, await port.commit(sessionId, commitRequest({ batchCount: 2, root })), state);
  });

  test('a patch that gives another block is refused, and the session goes on with the whole one', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state = blocksOf([0, 1], 1);
    await backUp(port, new Map(), state);
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const now: Blocks = new Map([
      [0, changePieces(block(0, 1), [2])],
      [1, changePieces(block(1, 1), [2, 3])],
    ]);
    const error = await t.throwsAsync(port.batch(sessionId, 1, patchBatch(sessionId, 1, now, [2])), {
      code: 'bad-patch',
    });
    t.regex(error?.message ?? '', /block 1: .*Nothing of the batch was kept/s);
    t.deepEqual([...(await port.have(sessionId, PLAIN.leafDigest(now.get(0) ?? block(0, 1))))], [0]);
    t.like(await port.status(sessionId), { durableSequence: 0 });
    await port.batch(sessionId, 1, batchOf(sessionId, 1, now));
    for (const [index, bytes] of now) state.set(index, bytes);
    const root = rootOf(GEOMETRY, state);
    await checkContent(t, port, await port.commit(sessionId, commitRequest({ batchCount: 1, root })), state);
  });

  test('refused: patches of a session without a base', async (t) => {
    const port = await (await make(t)).portFor('host');
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const now = blocksOf([0], 1);
    await t.throwsAsync(port.batch(sessionId, 1, patchBatch(sessionId, 1, now, [0])), { code: 'bad-patch' });
    t.like(await port.status(sessionId), { state: 'open', durableSequence: 0 });
  });
}
