/** Where a point has content, from the top of its tree: bounded for huge devices, exact for small ones. */
import test from 'ava';
import { findContent, readHead } from '../../../src/agent/map/content.js';
import type { Point } from '../../../src/domain/point/point.js';
import { encodeNodes } from '../../../src/protocol/codecs/nodes-codec.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { levelTree } from '../../helpers/bytes/level-tree.js';
import { makePoint } from '../../helpers/bytes/points.js';

const TiB = 2 ** 40;
const NOTHING = Buffer.alloc(0);

function source(sizeBytes: number, blockSize: number, blocks: readonly number[]) {
  const geometry = { sizeBytes, blockSize };
  const leaf = PLAIN.leafDigest(Buffer.from('content'));
  const tree = levelTree(geometry, new Map(blocks.map((block) => [block, leaf])));
  const point: Point = makePoint({ geometry, root: tree.root, top: tree.top.toString('hex') });
  const asked: number[] = [];
  const receiver = {
    nodes: async (_: string, requests: readonly { level: number; index: number }[]) => {
      asked.push(requests.length);
      return encodeNodes(requests.map(({ level, index }) => tree.nodes.get(level)?.get(index) ?? NOTHING));
    },
    blocks: async () => NOTHING,
  };
  return { point, receiver, asked };
}

async function content({ point, receiver }: ReturnType<typeof source>, nodesMax?: number) {
  const ranges: [number, number][] = [];
  const resolution = await findContent({
    ...{ point, receiver, digester: PLAIN, signal: new AbortController().signal },
    ...(nodesMax === undefined ? {} : { nodesMax }),
    onContent: (start, end) => ranges.push([start, end]),
  });
  return { ranges, resolution };
}

test('all of a small device is looked at, and nothing below zeros', async (t) => {
  const device = source(300 * 4096, 4096, [0, 5, 299]);
  t.deepEqual(await content(device), {
    ranges: [
      [0, 1],
      [5, 6],
      [299, 300],
    ],
    resolution: 1,
  });
  t.deepEqual(device.asked, [1, 2]);
  const empty = source(300 * 4096, 4096, []);
  t.deepEqual(await content(empty), { ranges: [], resolution: 1 });
  t.deepEqual(empty.asked, []);
});

test('of 16 TiB in blocks of 4 KiB no more nodes are asked for than are allowed', async (t) => {
  const everyEighth = Array.from({ length: 2048 }, (_, i) => i * 2 ** 21);
  const device = source(16 * TiB, 4096, everyEighth);
  const { ranges, resolution } = await content(device, 300);
  t.is(ranges.length, 2048, 'pieces of 1 GiB, from the 256 nodes above them');
  t.is(resolution, 64 ** 3);
  t.true(
    device.asked.every((count) => count <= 300),
    device.asked.join(),
  );
  t.true(
    everyEighth.every((block) => ranges.some(([start, end]) => start <= block && block < end)),
    'no content is missed',
  );
  t.is((await content(device)).ranges.length, 2048, 'few blocks are found exactly, wherever they are');
});

test('what is not proven is refused', async (t) => {
  const device = source(300 * 4096, 4096, [0, 5]);
  const other = source(300 * 4096, 4096, [0, 6]);
  const swapped = { ...device, receiver: other.receiver };
  await t.throwsAsync(content(swapped), { code: 'bad-digest' });
  const forged = { ...device, point: { ...device.point, top: other.point.top } };
  await t.throwsAsync(content(forged), { code: 'bad-digest' });
  const short = { ...device, receiver: { ...device.receiver, nodes: async () => Buffer.from([1]) } };
  await t.throwsAsync(content(short), { code: 'bad-digest' });
  const head = { point: device.point, digester: PLAIN, signal: new AbortController().signal };
  await t.throwsAsync(readHead({ ...head, receiver: device.receiver }, 4096), { code: 'bad-digest' });
});
