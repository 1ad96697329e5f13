/** What every ReceiverPort promises of sessions that came to no point, and of going on with one. */
import { batchOf, encodeTestBatch, rootOf } from '../helpers/bytes/batches.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { beginRequest, commitRequest, GEOMETRY } from '../helpers/bytes/requests.js';
import type { Tests } from '../helpers/in-turns.js';
import { block, blocksOf, checkContent, type MakeWorld, newSessionId } from './receiver.js';

export function partialSetsConformance(test: Tests, make: MakeWorld): void {
  test('a begin that goes on says how far the durable batches reach, also after a restart', async (t) => {
    const world = await make(t);
    let port = await world.portFor('host');
    const request = beginRequest({ sessionId: newSessionId() });
    const { sessionId } = request;
    t.like(await port.begin(request), { resumed: false, durableSequence: 0, durableBlockEnd: 0 });
    await port.batch(sessionId, 1, batchOf(sessionId, 1, blocksOf([0, 5], 1)));
    t.like(await port.begin(request), { resumed: true, durableSequence: 1, durableBlockEnd: 6 });
    // A single block below, as a bad one is sent, does not take it back; a run of zeros reaches to its end.
    await port.batch(sessionId, 2, batchOf(sessionId, 2, blocksOf([3], 2)));
    t.like(await port.begin(request), { resumed: true, durableSequence: 2, durableBlockEnd: 6 });
    const zeros = { sessionId, sequence: 3, entries: [{ blockIndex: 8, blockCount: 4, kind: 0 }] };
    await port.batch(sessionId, 3, encodeTestBatch(zeros));
    await world.restart();
    port = await world.portFor('host');
    t.like(await port.begin(request), { resumed: true, durableSequence: 3, durableBlockEnd: 12 });
  });

  test('batches of a former process that are whole become durable, the others are refused', async (t) => {
    const port = await (await make(t)).portFor('host');
    const request = beginRequest({ sessionId: newSessionId() });
    const { sessionId } = request;
    await port.begin(request);
    const body = (sequence: number) => batchOf(sessionId, sequence, blocksOf([sequence], 1));
    const stuck = t.throwsAsync(port.batch(sessionId, 3, body(3)), { code: 'out-of-order' });
    await port.batch(sessionId, 1, body(1));
    t.like(await port.begin(request), { resumed: true, durableSequence: 1, durableBlockEnd: 2 });
    await stuck;
    // The new process cuts the device in another way: its batches count.
    const state = blocksOf([1, 7, 8], 1);
    await port.batch(sessionId, 2, batchOf(sessionId, 2, blocksOf([7], 1)));
    await port.batch(sessionId, 3, batchOf(sessionId, 3, blocksOf([8], 1)));
    const commit = commitRequest({ batchCount: 3, root: rootOf(GEOMETRY, state) });
    await checkContent(t, port, await port.commit(sessionId, commit), state);
  });

  test('partial sets: open and ended ones, of the agent alone, also after a restart', async (t) => {
    const world = await make(t);
    let [port, stranger] = [await world.portFor('host'), await world.portFor('stranger')];
    t.deepEqual(await port.partialSets(), []);
    const [first, second, other] = [newSessionId(), newSessionId(), newSessionId()];
    const beforeMs = Date.now();
    await port.begin(beginRequest({ sessionId: first }));
    await port.batch(first, 1, batchOf(first, 1, blocksOf([0, 1], 1)));
    const [open, ...none] = await port.partialSets();
    t.deepEqual(none, []);
    t.like(open, { device: 'disk', sessionId: first, state: 'open' });
    const begunMs = Date.parse(open?.begunAt ?? '');
    t.true(beforeMs <= begunMs && begunMs <= Date.now(), 'by the receiver’s clock');
    t.true((open?.durableBytes ?? 0) > 0);
    t.is(Date.parse(open?.expiresAt ?? '') - Date.parse(open?.lastActivityAt ?? ''), 7 * 24 * 3_600_000);

    await port.begin(beginRequest({ sessionId: second }));
    await port.begin(beginRequest({ sessionId: other, device: 'other' }));
    await port.batch(other, 1, batchOf(other, 1, blocksOf([4], 1)));
    await port.abort(other);
    const listed = await port.partialSets();
    t.deepEqual(
      listed.map(({ sessionId, state }) => [sessionId, state]),
      [
        [first, 'ended'],
        [second, 'open'],
        [other, 'ended'],
      ],
    );
    t.is(listed[0]?.durableBytes, open?.durableBytes);
    t.is(listed[0]?.begunAt, open?.begunAt);
    t.deepEqual(await port.partialSets('other'), listed.slice(2));
    t.deepEqual(await stranger.partialSets(), []);
    await t.throwsAsync(port.partialSets('../x'), { name: 'StillpointError' });

    await world.restart();
    [port, stranger] = [await world.portFor('host'), await world.portFor('stranger')];
    t.deepEqual(
      (await port.partialSets()).map(({ sessionId, state, durableBytes }) => [
        sessionId,
        state,
        durableBytes,
      ]),
      listed.map(({ sessionId, state, durableBytes }) => [sessionId, state, durableBytes]),
    );
    t.deepEqual(await stranger.partialSets(), []);
    // Held still, and no part of a point by itself.
    t.deepEqual([...(await port.have(second, PLAIN.leafDigest(block(0, 1))))], [1]);
    const point = await port.commit(
      second,
      commitRequest({ batchCount: 0, root: rootOf(GEOMETRY, new Map()) }),
    );
    await checkContent(t, port, point, new Map());
    t.deepEqual(
      (await port.partialSets('disk')).map(({ sessionId }) => sessionId),
      [first],
    );
  });
}
