/**
 * What every ReceiverPort promises, whatever lies between agent and store. Run on each implementation; bad
 * inputs are in receiver/refusals.ts.
 */
import { randomBytes } from 'node:crypto';
import type { ExecutionContext } from 'ava';
import type { Point } from '../../src/domain/point/point.js';
import { native } from '../../src/native/index.js';
import type { ReceiverPort } from '../../src/protocol/port/receiver.js';
import { PROTOCOL_VERSION } from '../../src/protocol/schemas/messages.js';
import type { GroupRuns } from '../../src/receiver/groups/runs.js';
import type { OrderBook } from '../../src/receiver/orders/orders.js';
import { batchOf, encodeTestBatch, rootOf } from '../helpers/bytes/batches.js';
import { PLAIN } from '../helpers/bytes/digests.js';
import { beginRequest, commitRequest, GEOMETRY } from '../helpers/bytes/requests.js';
import { stampedBlock } from '../helpers/bytes/stamped-blocks.js';
import type { Tests } from '../helpers/in-turns.js';

/** One receiver with an empty store. */
export interface ReceiverWorld {
  /** An agent's port; enrolled at first use. */
  portFor(agent: string): Promise<ReceiverPort>;
  /** Of the receiver that runs. */
  orders(): OrderBook;
  runs(): GroupRuns;
  /** Ports from before are dead. */
  restart(): Promise<void>;
  /** The store's directory. */
  readonly dir: string;
}

export type MakeWorld = (t: Pick<ExecutionContext, 'teardown'>) => Promise<ReceiverWorld>;

export type Blocks = Map<number, Uint8Array>;

export const newSessionId = (): string => randomBytes(16).toString('hex');

export function block(blockIndex: number, generation: number, seed = 1): Buffer {
  return stampedBlock({ seed, blockIndex, generation }, GEOMETRY.blockSize);
}

export function blocksOf(indexes: readonly number[], generation: number, seed = 1): Blocks {
  return new Map(indexes.map((index) => [index, block(index, generation, seed)]));
}

/** A whole session: what `changes` holds is put over `state`. */
export async function backUp(
  port: ReceiverPort,
  state: Blocks,
  changes: Blocks,
  device = 'disk',
): Promise<Point> {
  const sessionId = newSessionId();
  await port.begin(beginRequest({ device, sessionId }));
  for (const [index, bytes] of changes) state.set(index, bytes);
  await port.batch(sessionId, 1, batchOf(sessionId, 1, changes));
  return port.commit(sessionId, commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, state) }));
}

/** Every block of the point, as `blocks` answers them, against the expected state. */
export async function checkContent(
  t: ExecutionContext,
  port: ReceiverPort,
  point: Point,
  state: Blocks,
): Promise<void> {
  let wanted = [...state.keys()].sort((a, b) => a - b);
  while (wanted.length > 0) {
    const body = await port.blocks(point.id, wanted);
    const bounds = { sessionId: point.id, sequence: 0, ...point.geometry, digester: PLAIN };
    const { blockIndexes } = await native.decodeBatch(body, bounds);
    const blocks = await native.decodeBlocks(body, bounds);
    t.deepEqual([...blockIndexes], wanted.slice(0, blockIndexes.length));
    for (const [i, bytes] of blocks.entries())
      t.true(bytes.equals(state.get(wanted[i] ?? -1) ?? Buffer.alloc(0)));
    wanted = wanted.slice(blockIndexes.length);
  }
}

export async function eventsOf<T>(events: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const event of events) all.push(event);
  return all;
}

export function receiverConformance(test: Tests, make: MakeWorld): void {
  test('an agent learns whose store it is', async (t) => {
    const world = await make(t);
    const info = await (await world.portFor('host')).info();
    t.regex(info.storeId, /^[0-9a-f]{32}$/);
    t.like(info, { agent: 'host', protocolVersion: PROTOCOL_VERSION });
  });

  test('a session becomes a point that gives its blocks back', async (t) => {
    const port = await (await make(t)).portFor('host');
    t.deepEqual(await port.points(), []);
    const state: Blocks = new Map();
    const point = await backUp(port, state, blocksOf([0, 3, 15], 1));
    t.like(point, {
      agent: 'host',
      device: 'disk',
      sequence: 1,
      baseSequence: null,
      kind: 'crash',
      geometry: GEOMETRY,
    });
    t.deepEqual(await port.points(), [point]);
    t.deepEqual(await port.points('disk'), [point]);
    t.deepEqual(await port.points('other'), []);
    await checkContent(t, port, point, state);
  });

  test('the last point of a device, or of each, is given without those before it', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    t.deepEqual(await port.points('disk', { last: true }), []);
    await backUp(port, state, blocksOf([0], 1));
    const last = await backUp(port, state, blocksOf([1], 2));
    t.is((await port.points('disk')).length, 2);
    t.deepEqual(await port.points('disk', { last: true }), [last]);
    t.deepEqual(await port.points(undefined, { last: true }), [last]);
    t.is((await port.points('disk', { last: false })).length, 2);
  });

  test('the next session sends differences, and both points stay', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    const first = await backUp(port, state, blocksOf([0, 1, 2], 1));
    const before: Blocks = new Map(state);
    const second = await backUp(port, state, blocksOf([1, 9], 2));
    t.like(second, { sequence: 2, baseSequence: 1 });
    await checkContent(t, port, first, before);
    await checkContent(t, port, second, state);
  });

  test('zero runs leave nothing behind but zeros', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    await backUp(port, state, blocksOf([0, 1, 2, 3], 1));
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    await port.batch(
      sessionId,
      1,
      encodeTestBatch({ sessionId, sequence: 1, entries: [{ blockIndex: 1, blockCount: 2, kind: 0 }] }),
    );
    for (const index of [1, 2]) state.delete(index);
    const point = await port.commit(
      sessionId,
      commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, state) }),
    );
    await checkContent(t, port, point, state);
  });

  test('within a session the later batch wins', async (t) => {
    const port = await (await make(t)).portFor('host');
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const [old, now] = [blocksOf([4], 1), blocksOf([4], 2)];
    await Promise.all([
      port.batch(sessionId, 1, batchOf(sessionId, 1, old)),
      port.batch(sessionId, 2, batchOf(sessionId, 2, now)),
    ]);
    const point = await port.commit(sessionId, commitRequest({ batchCount: 2, root: rootOf(GEOMETRY, now) }));
    await checkContent(t, port, point, now);
  });

  test('batches may overtake each other', async (t) => {
    const port = await (await make(t)).portFor('host');
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const state: Blocks = blocksOf([0, 1, 2, 3], 1);
    await Promise.all(
      [3, 0, 2, 1].map((index) => {
        const changes: Blocks = new Map([[index, block(index, 1)]]);
        return port.batch(sessionId, index + 1, batchOf(sessionId, index + 1, changes));
      }),
    );
    const point = await port.commit(
      sessionId,
      commitRequest({ batchCount: 4, root: rootOf(GEOMETRY, state) }),
    );
    await checkContent(t, port, point, state);
  });

  test('every message may be sent twice', async (t) => {
    const port = await (await make(t)).portFor('host');
    const request = beginRequest({ sessionId: newSessionId() });
    const { sessionId } = request;
    const state = blocksOf([0, 7], 1);
    const body = batchOf(sessionId, 1, state);
    t.like(await port.begin(request), { resumed: false, durableSequence: 0 });
    t.like(await port.begin(request), { resumed: true, durableSequence: 0 });
    t.deepEqual(await port.batch(sessionId, 1, body), { durableSequence: 1 });
    t.deepEqual(await port.batch(sessionId, 1, body), { durableSequence: 1 });
    t.like(await port.begin(request), { resumed: true, durableSequence: 1 });
    const commit = commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, state) });
    const point = await port.commit(sessionId, commit);
    t.deepEqual(await port.commit(sessionId, commit), point);
    t.deepEqual(await port.points(), [point]);
    await checkContent(t, port, point, state);
  });

  test('an aborted session leaves nothing visible, and may be aborted again', async (t) => {
    const port = await (await make(t)).portFor('host');
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    await port.batch(sessionId, 1, batchOf(sessionId, 1, blocksOf([0], 1)));
    await port.abort(sessionId);
    await port.abort(sessionId);
    t.deepEqual(await port.points(), []);
    t.deepEqual(await port.status(sessionId), {
      sessionId,
      state: 'unknown',
      durableSequence: 0,
      point: null,
    });
  });

  test('status tells where a session is', async (t) => {
    const port = await (await make(t)).portFor('host');
    const sessionId = newSessionId();
    t.like(await port.status(sessionId), { state: 'unknown', point: null });
    await port.begin(beginRequest({ sessionId }));
    await port.batch(sessionId, 1, batchOf(sessionId, 1, blocksOf([0], 1)));
    t.deepEqual(await port.status(sessionId), { sessionId, state: 'open', durableSequence: 1, point: null });
    const point = await port.commit(
      sessionId,
      commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, blocksOf([0], 1)) }),
    );
    t.like(await port.status(sessionId), { state: 'committed', point });
  });

  test('a session goes on where it was after a restart', async (t) => {
    const world = await make(t);
    const request = beginRequest({ sessionId: newSessionId() });
    const { sessionId } = request;
    const state = blocksOf([0, 1, 2], 1);
    const before = await world.portFor('host');
    await before.begin(request);
    await before.batch(sessionId, 1, batchOf(sessionId, 1, blocksOf([0, 1], 1)));
    await world.restart();
    const port = await world.portFor('host');
    t.like(await port.status(sessionId), { state: 'open', durableSequence: 1 });
    t.like(await port.begin(request), { resumed: true, durableSequence: 1 });
    await port.batch(sessionId, 2, batchOf(sessionId, 2, blocksOf([2], 1)));
    const point = await port.commit(
      sessionId,
      commitRequest({ batchCount: 2, root: rootOf(GEOMETRY, state) }),
    );
    await checkContent(t, port, point, state);
    await world.restart();
    const again = await world.portFor('host');
    t.deepEqual(await again.points(), [point]);
    t.like(await again.status(sessionId), { state: 'committed', point });
    await checkContent(t, again, point, state);
  });

  test('what the receiver holds for a device need not be sent', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    await backUp(port, state, blocksOf([0, 1], 1));
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const [known, unknown] = [PLAIN.leafDigest(block(1, 1)), PLAIN.leafDigest(block(5, 5))];
    const held = await port.have(sessionId, Buffer.concat([unknown, known, unknown]));
    t.deepEqual([...held], [0b010]);
    // The block moves: named by its digest, not sent.
    const entries = [{ blockIndex: 9, kind: 2, digest: known }];
    await port.batch(sessionId, 1, encodeTestBatch({ sessionId, sequence: 1, entries }));
    state.set(9, block(1, 1));
    const point = await port.commit(
      sessionId,
      commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, state) }),
    );
    await checkContent(t, port, point, state);
  });

  test('what a superseded session delivered stays held for its device', async (t) => {
    const port = await (await make(t)).portFor('host');
    const [old, now] = [newSessionId(), newSessionId()];
    await port.begin(beginRequest({ sessionId: old }));
    await port.batch(old, 1, batchOf(old, 1, blocksOf([0], 1)));
    await port.begin(beginRequest({ sessionId: now }));
    t.deepEqual([...(await port.have(now, PLAIN.leafDigest(block(0, 1))))], [1]);
  });

  test('the tree of a point can be fetched and proven', async (t) => {
    const port = await (await make(t)).portFor('host');
    const point = await backUp(port, new Map(), blocksOf([0, 5], 1));
    const answer = Buffer.from(await port.nodes(point.id, [{ level: 1, index: 0 }]));
    const length = answer.readUInt32LE(0);
    t.is(answer.length, 4 + length);
    t.is(PLAIN.nodeDigest(answer.subarray(4)).toString('hex'), point.top);
  });

  test('a device that grew or shrank continues its chain', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    await backUp(port, state, blocksOf([0, 1, 2], 1));
    for (const sizeBytes of [40 * GEOMETRY.blockSize, 2 * GEOMETRY.blockSize]) {
      const geometry = { ...GEOMETRY, sizeBytes };
      const sessionId = newSessionId();
      const { base } = await port.begin(beginRequest({ sessionId, geometry }));
      const changes = blocksOf([1], sizeBytes);
      await port.batch(sessionId, 1, batchOf(sessionId, 1, changes));
      for (const [index, bytes] of changes) state.set(index, bytes);
      for (const index of state.keys()) if (index * GEOMETRY.blockSize >= sizeBytes) state.delete(index);
      const point = await port.commit(
        sessionId,
        commitRequest({ batchCount: 1, root: rootOf(geometry, state) }),
      );
      t.is(point.baseSequence, base?.sequence ?? -1);
      t.deepEqual(point.geometry, geometry);
      await checkContent(t, port, point, state);
    }
  });

  test('verify reads everything again and finds nothing', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    const first = await backUp(port, state, blocksOf([0, 1], 1));
    await backUp(port, state, blocksOf([1], 2));
    t.like((await eventsOf(port.verify())).at(-1), { type: 'summary', pointCount: 2, findingCount: 0 });
    t.like((await eventsOf(port.verify(first.id))).at(-1), {
      type: 'summary',
      pointCount: 1,
      findingCount: 0,
    });
  });

  test('several agents are served side by side, each its own devices', async (t) => {
    const world = await make(t);
    const agents = ['one', 'two', 'three', 'four'];
    await Promise.all(
      agents.map(async (agent, seed) => {
        const port = await world.portFor(agent);
        const state: Blocks = new Map();
        for (let generation = 1; generation <= 4; generation += 1) {
          await backUp(port, state, blocksOf([0, generation, 15], generation, seed));
        }
        const points = await port.points();
        t.deepEqual(
          points.map((point) => [point.agent, point.sequence]),
          [1, 2, 3, 4].map((sequence) => [agent, sequence]),
        );
        const last = points.at(-1);
        if (last !== undefined) await checkContent(t, port, last, state);
      }),
    );
  });
}
