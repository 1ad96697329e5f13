/**
 * Which blocks of a point a receiver can still give, recomputed from its stored bytes, as every
 * ReceiverPort answers it.
 */
import { rm } from 'node:fs/promises';
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { CheckDamage, CheckSummary } from '../../../src/domain/session/messages.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../../src/native/index.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { batchOf } from '../../helpers/bytes/batches.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { beginRequest, commitRequest } from '../../helpers/bytes/requests.js';
import { stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import { findRecords, flipRecords } from '../../helpers/faults/pack-damage.js';
import type { Tests } from '../../helpers/in-turns.js';
import { rootOf } from '../../helpers/worlds/store-device.js';
import { type Blocks, checkContent, eventsOf, type MakeWorld, newSessionId } from '../receiver.js';

/** Three levels of tree below the root, a short last block. */
const GEOMETRY = { sizeBytes: 5000 * 4096 - 512, blockSize: 4096 };
const LAST = 4999;
/** Two full nodes, zeros, one block, zeros, the end. */
const FILLED = [...Array.from({ length: 128 }, (_, i) => i), 2000, LAST];

function contentOf(blockIndex: number, seed = 1): Buffer {
  const length = blockIndex === LAST ? GEOMETRY.blockSize - 512 : GEOMETRY.blockSize;
  return Buffer.from(stampedBlock({ seed, blockIndex, generation: 1 }, length));
}

const STATE = new Map(FILLED.map((blockIndex) => [blockIndex, contentOf(blockIndex)]));
const leafOf = (blockIndex: number) => PLAIN.leafDigest(contentOf(blockIndex));

/** Digest of the level-1 node that the block is under. */
function nodeOf(blockIndex: number): Buffer {
  const first = blockIndex - (blockIndex % 64);
  const leaves = Array.from({ length: 64 }, (_, i) =>
    STATE.has(first + i) ? leafOf(first + i) : Buffer.alloc(32),
  );
  return PLAIN.nodeDigest(Buffer.concat(leaves));
}

async function backUp(port: ReceiverPort, state: Blocks = STATE, device = 'disk'): Promise<Point> {
  const sessionId = newSessionId();
  await port.begin(beginRequest({ device, sessionId, geometry: GEOMETRY }));
  await port.batch(sessionId, 1, batchOf(sessionId, 1, state));
  const blocks = new Map([...state].map(([index, bytes]) => [index, Buffer.from(bytes)]));
  const root = rootOf({ geometry: GEOMETRY, blocks });
  return port.commit(sessionId, commitRequest({ batchCount: 1, root }));
}

interface Checked {
  readonly damaged: readonly CheckDamage[];
  readonly ranges: readonly BlockRange[];
  readonly summary: Omit<CheckSummary, 'type'>;
}

async function check(port: ReceiverPort, point: Point, ranges?: readonly BlockRange[]): Promise<Checked> {
  const events = await eventsOf(port.check(point.id, ranges));
  const last = events.at(-1);
  if (last?.type !== 'summary') throw new Error('the last event is no summary');
  const damaged = events.filter((event) => event.type === 'damaged');
  return {
    damaged,
    ranges: damaged.map(({ start, end }) => [start, end]),
    summary: { blockCount: last.blockCount, damagedBlocks: last.damagedBlocks },
  };
}

export function receiverCheck(test: Tests, make: MakeWorld): void {
  test('check: a whole point has no damage, all of it or ranges', async (t) => {
    const port = await (await make(t)).portFor('host');
    const point = await backUp(port);
    t.deepEqual(await check(port, point), {
      damaged: [],
      ranges: [],
      summary: { blockCount: FILLED.length, damagedBlocks: 0 },
    });
    const { summary } = await check(port, point, [
      [0, 3],
      [3, 4],
      [60, 70],
      [1999, 2000],
      [LAST, LAST + 1],
    ]);
    t.deepEqual(summary, { blockCount: 3 + 1 + 10 + 1, damagedBlocks: 0 });
    const progress = (await eventsOf(port.check(point.id, [[LAST - 1, LAST + 1]]))).at(-2);
    t.deepEqual(progress, { type: 'progress', doneBytes: 2 * 4096 - 512, totalBytes: 2 * 4096 - 512 });
    const empty = await backUp(port, new Map(), 'empty');
    t.deepEqual((await check(port, empty)).summary, { blockCount: 0, damagedBlocks: 0 });
  });

  test('check: a flipped bit in a data pack is the block’s, found although the index and the tree are right, and healed by the next session', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const point = await backUp(port);
    for (const block of [5, 6, 100, LAST]) await flipRecords(world.dir, RECORD_KIND_BLOCK, leafOf(block));
    t.deepEqual((await check(port, point, [[7, 100]])).ranges, []);
    t.is(
      (await port.begin(beginRequest({ sessionId: newSessionId(), geometry: GEOMETRY }))).base?.id,
      point.id,
    );

    const { damaged, ranges, summary } = await check(port, point);
    t.deepEqual(ranges, [
      [5, 7],
      [100, 101],
      [LAST, LAST + 1],
    ]);
    t.deepEqual(summary, { blockCount: FILLED.length, damagedBlocks: 4 });
    for (const { reason } of damaged) t.regex(reason, /record at offset \d+ of pack [0-9a-f]{32} is damaged/);
    t.deepEqual((await check(port, point)).ranges, ranges, 'again, now that it is known');

    const sessionId = newSessionId();
    t.is((await port.begin(beginRequest({ sessionId, geometry: GEOMETRY }))).base, null);
    const held = await port.have(sessionId, Buffer.concat([5, 7, 100].map(leafOf)));
    t.deepEqual([...held], [0b010]);
    const healing = await backUp(port);
    t.deepEqual((await check(port, healing)).ranges, []);
    t.deepEqual((await check(port, point)).ranges, [], 'what came back is the earlier point’s too');
    await checkContent(t, port, point, STATE);
  });

  test('check: all blocks under a damaged node are damaged, clipped to what is asked for', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const point = await backUp(port);
    // A receiver that has a node in memory must look at its pack all the same.
    await port.nodes(point.id, [{ level: 1, index: 1 }]);
    await flipRecords(world.dir, RECORD_KIND_NODE, nodeOf(64));
    await flipRecords(world.dir, RECORD_KIND_NODE, nodeOf(LAST));
    await flipRecords(world.dir, RECORD_KIND_BLOCK, leafOf(3));
    const { damaged, ranges, summary } = await check(port, point);
    t.deepEqual(ranges, [
      [3, 4],
      [64, 128],
      [4992, 5000],
    ]);
    t.deepEqual(summary, { blockCount: 65, damagedBlocks: 1 + 64 + 8 });
    t.regex(damaged[1]?.reason ?? '', /a node of the tree of disk@1 can't be read: .*offset \d+ of pack/);
    const some: BlockRange[] = [
      [0, 2],
      [70, 80],
      [100, 101],
      [127, 2001],
    ];
    t.deepEqual((await check(port, point, some)).ranges, [
      [70, 80],
      [100, 101],
      [127, 128],
    ]);
    t.is((await port.begin(beginRequest({ sessionId: newSessionId(), geometry: GEOMETRY }))).base, null);
    await backUp(port);
    t.deepEqual((await check(port, point)).ranges, []);
  });

  test('check: without the top of the tree nothing is had', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const point = await backUp(port);
    await flipRecords(world.dir, RECORD_KIND_NODE, Buffer.from(point.top, 'hex'));
    t.deepEqual((await check(port, point)).ranges, [[0, 5000]]);
    t.deepEqual((await check(port, point, [[9, 4990]])).summary, { blockCount: 0, damagedBlocks: 4981 });
  });

  test('check: a pack that is lost, while the receiver runs and after', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const point = await backUp(port);
    const [record] = await findRecords(world.dir, RECORD_KIND_BLOCK, leafOf(0));
    await rm(record?.path ?? '');
    const { damaged, ranges, summary } = await check(port, point);
    t.deepEqual(ranges, [
      [0, 128],
      [2000, 2001],
      [LAST, LAST + 1],
    ]);
    t.deepEqual(summary, { blockCount: FILLED.length, damagedBlocks: FILLED.length });
    t.regex(damaged[0]?.reason ?? '', /of pack [0-9a-f]{32} is damaged: .*ENOENT/);
    await world.restart();
    const again = await world.portFor('host');
    t.deepEqual((await check(again, point)).ranges, ranges);
    await backUp(again);
    t.deepEqual((await check(again, point)).ranges, []);
  });

  test('check: another agent’s points are unknown, and damage is told to who needs the block', async (t) => {
    const world = await make(t);
    const [port, stranger] = [await world.portFor('host'), await world.portFor('stranger')];
    const point = await backUp(port);
    await t.throwsAsync(eventsOf(stranger.check(point.id)), { code: 'point-unknown' } as object);
    const others = await backUp(stranger, new Map([[7, contentOf(7, 9)]]));
    await flipRecords(world.dir, RECORD_KIND_BLOCK, leafOf(7));
    t.deepEqual((await check(stranger, others)).ranges, []);
    t.deepEqual((await check(port, point)).ranges, [[7, 8]]);
  });
}
