import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { fetchTree } from '../../../src/agent/tree/fetch-tree.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { NODES_REQUEST_MAX, TiB } from '../../../src/domain/base/limits.js';
import { blockCount, type Geometry } from '../../../src/domain/blocks/geometry.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { NodeRequest } from '../../../src/domain/session/messages.js';
import type { TreeFile } from '../../../src/native/index.js';
import type { NodeSource } from '../../../src/protocol/port/point.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { answerNodes, leafOf, makeTree } from '../../helpers/bytes/trees.js';
import { temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { fakePort } from '../../helpers/fakes/port.js';

const POINT_ID = 'ab'.repeat(16);

interface World {
  readonly directory: string;
  readonly tree: TreeFile;
  readonly point: Point;
  /** One entry a request: how many nodes. */
  readonly requests: number[];
  readonly receiver: NodeSource;
}

/** A receiver that holds one tree; `answer` may spoil what it says. */
async function world(
  t: ExecutionContext,
  geometry: Geometry,
  blockIndexes: readonly number[],
  answer: (tree: TreeFile, requests: readonly NodeRequest[]) => Uint8Array = answerNodes,
): Promise<World> {
  const directory = await temporaryDirectory(t, 'fetch-tree');
  const leaves = new Map(blockIndexes.map((blockIndex) => [blockIndex, leafOf(`block ${blockIndex}`)]));
  const tree = await makeTree(join(directory, 'remote'), geometry, leaves, POINT_ID);
  t.teardown(() => tree.close());
  const requests: number[] = [];
  const receiver = fakePort<NodeSource>({
    nodes: async (pointId, wanted) => {
      t.is(pointId, POINT_ID);
      requests.push(wanted.length);
      return answer(tree, wanted);
    },
  });
  const { root } = tree.generation;
  const point = makePoint({ id: POINT_ID, geometry, root, top: tree.top.toString('hex') });
  return { directory, tree, point, requests, receiver };
}

async function fetchAndCompare(t: ExecutionContext, geometry: Geometry, blockIndexes: readonly number[]) {
  const { directory, tree, point, requests, receiver } = await world(t, geometry, blockIndexes);
  const fetched = await fetchTree(receiver, point, PLAIN, join(directory, 'fetched'));
  t.deepEqual(fetched.generation, tree.generation);
  t.true(await fetched.verify());
  for (const blockIndex of blockIndexes) {
    t.deepEqual(fetched.leaves(blockIndex, 1), tree.leaves(blockIndex, 1), `block ${blockIndex}`);
  }
  await fetched.close();
  t.deepEqual(
    (await readdir(directory)).filter((name) => name.startsWith('fetched')),
    ['fetched'],
  );
  t.true(requests.every((count) => count <= NODES_REQUEST_MAX));
  return requests;
}

const BLOCK = 65_536;

for (const count of [0, 1, 63, 64, 65, 64 ** 2 - 1, 64 ** 2, 64 ** 2 + 1]) {
  test(`a tree of ${count} blocks arrives whole`, async (t) => {
    const sizeBytes = count === 0 ? 0 : (count - 1) * BLOCK + 1;
    await fetchAndCompare(t, { sizeBytes, blockSize: BLOCK }, [...Array(count).keys()]);
  });
}

test('a device of 16 TiB costs its differences from zero', async (t) => {
  const geometry = { sizeBytes: 16 * TiB, blockSize: BLOCK };
  const blockIndexes = [0, 1, 4095, 4096, 123_456_789, blockCount(geometry) - 1];
  const requests = await fetchAndCompare(t, geometry, blockIndexes);
  const nodes = requests.reduce((sum, count) => sum + count, 0);
  t.true(nodes <= 1 + 4 * blockIndexes.length, `${nodes} nodes`);
});

test('an all-zero device asks for nothing', async (t) => {
  t.deepEqual(await fetchAndCompare(t, { sizeBytes: 16 * TiB, blockSize: BLOCK }, []), []);
});

const spoilings: Record<string, (answer: Buffer) => Buffer> = {
  'a flipped bit': (answer) => {
    const spoiled = Buffer.from(answer);
    spoiled[20] = (spoiled[20] ?? 0) ^ 1;
    return spoiled;
  },
  'an answer cut short': (answer) => answer.subarray(0, answer.length - 1),
  'an answer too long': (answer) => Buffer.concat([answer, Buffer.from([0])]),
  'an empty answer': () => Buffer.alloc(0),
  'null nodes': (answer) => Buffer.alloc(answer.length),
  'a huge length': (answer) => {
    const spoiled = Buffer.from(answer);
    spoiled.writeUInt32LE(0xffff_ffff, 0);
    return spoiled;
  },
};

for (const [name, spoil] of Object.entries(spoilings)) {
  for (const level of [1, 2]) {
    test(`${name} on level ${level} is refused and leaves nothing`, async (t) => {
      const { directory, point, receiver } = await world(
        t,
        { sizeBytes: 300 * BLOCK, blockSize: BLOCK },
        [...Array(300).keys()],
        (tree, requests) => {
          const answer = answerNodes(tree, requests);
          return requests[0]?.level === level ? spoil(answer) : answer;
        },
      );
      const error = await t.throwsAsync(fetchTree(receiver, point, PLAIN, join(directory, 'fetched')), {
        instanceOf: StillpointError,
      });
      t.is((error as StillpointError | undefined)?.code, 'bad-digest');
      t.deepEqual(
        (await readdir(directory)).filter((file) => file.startsWith('fetched')),
        [],
      );
    });
  }
}

test('a top that does not give the root is refused before anything is asked', async (t) => {
  const { directory, point, receiver, requests } = await world(
    t,
    { sizeBytes: BLOCK, blockSize: BLOCK },
    [0],
  );
  const false_ = { ...point, root: '0'.repeat(64) };
  const error = await t.throwsAsync(fetchTree(receiver, false_, PLAIN, join(directory, 'fetched')));
  t.is(
    error?.message,
    'tree of point disk1@1: what the receiver sent does not prove it: its top node does not give its root. Check the store with "stillpoint verify".',
  );
  t.deepEqual(requests, []);
});

test('cancelled in the middle it leaves nothing', async (t) => {
  const abort = new AbortController();
  const { directory, point, receiver } = await world(
    t,
    { sizeBytes: 64 ** 2 * 2 * BLOCK, blockSize: BLOCK },
    [0, 64 ** 2],
    (tree, requests) => {
      abort.abort();
      return answerNodes(tree, requests);
    },
  );
  const error = await t.throwsAsync(
    fetchTree(receiver, point, PLAIN, join(directory, 'fetched'), abort.signal),
  );
  t.is((error as StillpointError | undefined)?.code, 'cancelled');
  t.deepEqual(
    (await readdir(directory)).filter((file) => file.startsWith('fetched')),
    [],
  );
});
