/** What differs between two points, as every ReceiverPort answers it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { DIFF_RANGES_MAX } from '../../../src/domain/base/limits.js';
import type { Geometry } from '../../../src/domain/blocks/geometry.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { DiffSummary } from '../../../src/domain/session/messages.js';
import type { DiffRange } from '../../../src/domain/tree/tree-diff.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { batchOf, encodeTestBatch, type TestEntry } from '../../helpers/bytes/batches.js';
import { beginRequest, commitRequest, GEOMETRY } from '../../helpers/bytes/requests.js';
import { stampedBlock } from '../../helpers/bytes/stamped-blocks.js';
import { listFiles } from '../../helpers/faults/disk.js';
import type { Tests } from '../../helpers/in-turns.js';
import { rootOf as rootOfState } from '../../helpers/worlds/store-device.js';
import { type Blocks, backUp, blocksOf, eventsOf, type MakeWorld, newSessionId } from '../receiver.js';

const SMALL = { sizeBytes: 3000 * 4096, blockSize: 4096 };

async function diffOf(
  port: ReceiverPort,
  from: Point,
  to: Point,
): Promise<{ ranges: DiffRange[]; summary: Omit<DiffSummary, 'type'> }> {
  const events = await eventsOf(port.diff(from.id, to.id));
  const last = events.at(-1);
  if (last?.type !== 'summary') throw new Error('the last event is no summary');
  const { type, ...summary } = last;
  return { ranges: events.flatMap((event) => (event.type === 'ranges' ? event.ranges : [])), summary };
}

function rootOf(geometry: Geometry, state: Blocks): string {
  return rootOfState({ geometry, blocks: new Map([...state].map(([i, bytes]) => [i, Buffer.from(bytes)])) });
}

/** A point of a device of its own geometry that holds exactly `state`, in one batch of whole entries. */
async function pointOf(
  port: ReceiverPort,
  device: string,
  geometry: Geometry,
  state: Blocks,
): Promise<Point> {
  const sessionId = newSessionId();
  await port.begin(beginRequest({ device, sessionId, geometry, newChain: true }));
  await port.batch(sessionId, 1, batchOf(sessionId, 1, state));
  return port.commit(sessionId, commitRequest({ batchCount: 1, root: rootOf(geometry, state) }));
}

const small = (indexes: readonly number[], generation: number): Blocks =>
  new Map(
    indexes.map((blockIndex) => [
      blockIndex,
      stampedBlock({ seed: 1, blockIndex, generation }, SMALL.blockSize),
    ]),
  );

async function flipInTreePacks(t: ExecutionContext, dir: string): Promise<void> {
  let flipped = 0;
  for (const name of await listFiles(join(dir, 'packs'))) {
    const path = join(dir, 'packs', name);
    const bytes = await readFile(path);
    for (let at = bytes.indexOf('SPR1'); at !== -1; at = bytes.indexOf('SPR1', at + 1)) {
      if (bytes[at + 4] !== 2) continue;
      bytes[at + 90] = (bytes[at + 90] ?? 0) ^ 1;
      flipped += 1;
    }
    await writeFile(path, bytes);
  }
  t.true(flipped > 0);
}

export function receiverDiff(test: Tests, make: MakeWorld): void {
  test('diff: what changed, what became zero, and nothing else', async (t) => {
    const port = await (await make(t)).portFor('host');
    const state: Blocks = new Map();
    const first = await backUp(port, state, blocksOf([0, 1, 2, 3, 9], 1));
    const second = await backUp(port, state, blocksOf([1, 2, 15], 2));
    const sessionId = newSessionId();
    await port.begin(beginRequest({ sessionId }));
    const entries: TestEntry[] = [{ blockIndex: 2, blockCount: 2, kind: 0 }];
    await port.batch(sessionId, 1, encodeTestBatch({ sessionId, sequence: 1, entries }));
    for (const index of [2, 3]) state.delete(index);
    const third = await port.commit(
      sessionId,
      commitRequest({ batchCount: 1, root: rootOf(GEOMETRY, state) }),
    );
    const { blockSize } = GEOMETRY;
    t.deepEqual(await diffOf(port, first, second), {
      ranges: [
        [1, 3, 0],
        [15, 16, 0],
      ],
      summary: { rangeCount: 2, blockCount: 3, changedBytes: 3 * blockSize, zeroBlockCount: 0 },
    });
    t.deepEqual(await diffOf(port, first, third), {
      ranges: [
        [1, 4, 2],
        [15, 16, 0],
      ],
      summary: { rangeCount: 2, blockCount: 4, changedBytes: 4 * blockSize, zeroBlockCount: 2 },
    });
    t.deepEqual((await diffOf(port, third, second)).ranges, [[2, 4, 0]]);
    t.deepEqual(await diffOf(port, first, first), {
      ranges: [],
      summary: { rangeCount: 0, blockCount: 0, changedBytes: 0, zeroBlockCount: 0 },
    });
  });

  test('diff: a device that grew, by content and by zeros, with a short end; trees of other height', async (t) => {
    const port = await (await make(t)).portFor('host');
    const { blockSize } = SMALL;
    const short = { sizeBytes: 60 * blockSize - 512, blockSize };
    const end = Buffer.from(stampedBlock({ seed: 1, blockIndex: 59, generation: 1 }, blockSize - 512));
    const one = await pointOf(port, 'small', short, new Map([...small([3], 1), [59, end]]));
    const whole = Buffer.concat([end, Buffer.alloc(512)]);
    const two = await pointOf(port, 'large', SMALL, new Map([...small([3, 2999], 1), [59, whole]]));
    t.deepEqual(await diffOf(port, one, two), {
      ranges: [
        [59, 60, 0],
        [2999, 3000, 0],
      ],
      summary: { rangeCount: 2, blockCount: 2, changedBytes: 2 * blockSize, zeroBlockCount: 0 },
    });
    t.like(await diffOf(port, two, one), { summary: { blockCount: 2, zeroBlockCount: 0 } });
  });

  test('diff: more ranges than one event may have', async (t) => {
    const port = await (await make(t)).portFor('host');
    const odd = Array.from({ length: 1500 }, (_, i) => 2 * i + 1);
    const empty = await pointOf(port, 'one', SMALL, new Map());
    const full = await pointOf(port, 'two', SMALL, small(odd, 1));
    const events = await eventsOf(port.diff(empty.id, full.id));
    t.true(events.every((event) => event.type !== 'ranges' || event.ranges.length <= DIFF_RANGES_MAX));
    t.deepEqual(
      (await diffOf(port, empty, full)).ranges,
      odd.map((block) => [block, block + 1, 0]),
    );
    t.deepEqual((await diffOf(port, full, empty)).summary, {
      rangeCount: 1500,
      blockCount: 1500,
      changedBytes: 1500 * SMALL.blockSize,
      zeroBlockCount: 1500,
    });
  });

  test('diff: points of another block size are refused by name', async (t) => {
    const port = await (await make(t)).portFor('host');
    const one = await backUp(port, new Map(), blocksOf([0], 1));
    const two = await pointOf(port, 'disk', SMALL, small([0], 1));
    await t.throwsAsync(eventsOf(port.diff(one.id, two.id)), {
      code: 'bad-geometry',
      message: /points disk@1 and disk@2: their blocks have 65536 and 4096 bytes/,
    } as object);
  });

  test('diff: a damaged node is an error that names it, never a difference', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const state: Blocks = new Map();
    const first = await backUp(port, state, blocksOf([0], 1));
    const second = await backUp(port, state, blocksOf([1], 2));
    await flipInTreePacks(t, world.dir);
    await world.restart();
    const again = await world.portFor('host');
    await t.throwsAsync(eventsOf(again.diff(first.id, second.id)), {
      code: 'store-damaged',
      message: /point disk@1: a node of its tree can't be read: .* offset \d+ of pack [0-9a-f]{32}/,
    } as object);
    // Without a look into the trees there is nothing to be wrong.
    t.deepEqual((await diffOf(again, first, first)).ranges, []);
  });
}
