/** The receiver goes on with others while it compares two points. */
import test from 'ava';
import type { Point } from '../../../src/domain/point/point.js';
import type { Tree } from '../../../src/domain/tree/digest-tree.js';
import { pointDiff } from '../../../src/store/points/diff.js';
import type { PointReader } from '../../../src/store/points/reader.js';
import { PLAIN } from '../../helpers/bytes/digests.js';

const FANOUT = 64;
const LEVELS = 3;
const BLOCK = 4096;
const geometry = { sizeBytes: FANOUT ** LEVELS * BLOCK, blockSize: BLOCK };

/** A device of one block over and over: few nodes, and all of them soon in memory. */
function repeated(byte: number): { tree: Tree; contents: Map<string, Buffer> } {
  const contents = new Map<string, Buffer>();
  let digest = PLAIN.leafDigest(Buffer.alloc(BLOCK, byte));
  for (let level = 0; level < LEVELS; level += 1) {
    const content = Buffer.concat(Array.from({ length: FANOUT }, () => digest));
    digest = PLAIN.nodeDigest(content);
    contents.set(digest.toString('hex'), content);
  }
  return { tree: { geometry, top: digest }, contents };
}

test('a diff of nodes that are in memory lets others have their turn', async (t) => {
  const [from, to] = [repeated(1), repeated(2)];
  const contents = new Map([...from.contents, ...to.contents]);
  const reader = {
    readNodesOf: () => async (digests: readonly Uint8Array[]) =>
      digests.map((digest) => contents.get(Buffer.from(digest).toString('hex')) ?? null),
  } as unknown as PointReader;
  const pointOf = ({ tree }: { tree: Tree }) =>
    ({ device: 'disk', sequence: 1, geometry, top: Buffer.from(tree.top).toString('hex') }) as Point;
  let turns = 0;
  let isOver = false;
  const turn = () => {
    turns += 1;
    if (!isOver) setImmediate(turn);
  };
  setImmediate(turn);
  let last: unknown = null;
  for await (const event of pointDiff(reader, pointOf(from), pointOf(to))) last = event;
  isOver = true;
  t.like(last, { type: 'summary', blockCount: FANOUT ** LEVELS });
  t.true(turns > 50, `${turns} turns`);
});
