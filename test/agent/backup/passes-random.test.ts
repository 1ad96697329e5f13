/** Passes in random order, against a disk that knows what it held at each instant. */
import test, { type ExecutionContext } from 'ava';
import { filler } from '../../../src/domain/point/bad-blocks.js';
import type { Point } from '../../../src/domain/point/point.js';
import { PATCH_MODES } from '../../../src/domain/session/patching.js';
import type { LateDisk } from '../../helpers/fakes/late-disk.js';
import { type Random, seededRandom } from '../../helpers/seed.js';
import { BLOCK } from '../../helpers/worlds/backup.js';
import { ALL, passesWorld } from '../../helpers/worlds/passes.js';

/** Some writes, as users make them. */
async function disturb(random: Random, disk: LateDisk, former: readonly Buffer[]): Promise<void> {
  const count = random.pick([0, 1, 3, 8, 30]);
  for (const blockIndex of random.sample(ALL, count)) {
    const kind = random.below(5);
    const old = former[blockIndex];
    if (kind === 0) await disk.stamp(blockIndex, 0);
    else if (kind === 1 && old !== undefined) await disk.write(blockIndex, old);
    else if (kind === 2)
      await disk.write(blockIndex, Buffer.alloc(4096, random.below(256)), 4096 * random.below(16));
    else await disk.stamp(blockIndex, 1 + random.below(4));
  }
}

test('random writes between passes and during them: the point is the device at its instant', async (t) => {
  const random = seededRandom(t);
  for (let round = 0; round < 5; round += 1) {
    const { made, disk, backup } = await passesWorld(t, { heldMax: random.pick([0, 3, 10]) });
    let former: readonly Buffer[] = [];
    let last: Held | null = null;
    for (let number = 1; number <= 4; number += 1) {
      const label = `round ${round}, point ${number}`;
      const passesMax = random.below(5);
      const flip = () => {
        for (const blockIndex of random.sample(ALL, random.pick([0, 0, 2])))
          disk.setBad(blockIndex, random.below(2) === 0);
      };
      const late: Promise<void>[] = [];
      disk.beforePass = async () => {
        await Promise.all(late);
        flip();
      };
      disk.duringPass = (pass) => {
        if (pass <= passesMax) late.push(disturb(random, disk, former));
      };
      disk.beforeCut = async () => {
        await Promise.all(late);
        flip();
        if (random.below(2) === 0) await disturb(random, disk, former);
        if (random.below(4) === 0) throw new Error('somebody else was first');
      };
      disk.sample = random.sample(ALL, 3);
      await disturb(random, disk, former);
      if (number === 3 && random.below(2) === 0) await made.forgetState();
      const point = await backup({ patch: random.pick(PATCH_MODES) });
      const contents = await made.contents(point);
      checkPoint(t, disk, { point, contents }, last, label);
      t.is(point.statistics.changedBytes, changedBytes(contents, last?.contents), label);
      last = { point, contents };
      former = ALL.map((blockIndex) => contents.subarray(blockIndex * BLOCK, (blockIndex + 1) * BLOCK));
    }
  }
});

interface Held {
  readonly point: Point;
  readonly contents: Buffer;
}

function changedBytes(contents: Buffer, before: Buffer = Buffer.alloc(contents.length)): number {
  const of = (bytes: Buffer, blockIndex: number) =>
    bytes.subarray(blockIndex * BLOCK, (blockIndex + 1) * BLOCK);
  return ALL.filter((blockIndex) => !of(contents, blockIndex).equals(of(before, blockIndex))).length * BLOCK;
}

/** Outside of what could not be read it is the device; there it is the last point or the filler. */
function checkPoint(
  t: ExecutionContext,
  disk: LateDisk,
  { point, contents }: Held,
  last: Held | null,
  label: string,
): void {
  const bad = point.badRanges.map(({ byteOffset }) => Math.floor(byteOffset / BLOCK));
  t.deepEqual(
    bad,
    [...disk.badlyRead].sort((a, b) => a - b),
    label,
  );
  const expected = Buffer.from(disk.atInstant);
  for (const { byteOffset, byteLength, content } of point.badRanges) {
    const end = byteOffset + byteLength;
    const bytes =
      content === 'filler' ? filler(byteOffset, byteLength) : last?.contents.subarray(byteOffset, end);
    expected.set(bytes ?? [], byteOffset);
  }
  for (const blockIndex of ALL) {
    const [start, end] = [blockIndex * BLOCK, (blockIndex + 1) * BLOCK];
    t.true(
      contents.subarray(start, end).equals(expected.subarray(start, end)),
      `${label}, block ${blockIndex}`,
    );
  }
}
