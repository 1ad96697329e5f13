/**
 * Holes stay holes, zeros are really written where something else was, and standard output gets every byte.
 */
import { open, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { GiB, KiB, MiB } from '../../src/domain/base/limits.js';
import { makeStampedImage } from '../helpers/bytes/stamped-blocks.js';
import { allocatedBytes, contentDigest, difference } from '../helpers/disks/images.js';
import { attachLoop } from '../helpers/disks/loop-device.js';
import { backup, makeMachine, outcome, restore, run, start } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;

testWith([], 'an image full of holes is restored full of holes', async (t) => {
  const machine = await makeMachine(t, 'holes');
  const at = (name: string) => join(machine.directory, name);
  const blockIndexes = [0, 1, 999, 1000, 8191, 16_000, 16_383];
  await makeStampedImage(at('source'), { sizeBytes: GiB, blockSize: BLOCK, seed: 5, blockIndexes });
  const point = await backup(t, machine, at('store'), at('source'), '--name', 'image');
  t.is(point.statistics.changedBytes, blockIndexes.length * BLOCK, 'holes are no changes');
  await restore(t, machine, at('store'), 'image@latest', at('restored'), '--verify');
  t.is(difference(at('restored'), at('source')), null);
  const [source, restored] = [await allocatedBytes(at('source')), await allocatedBytes(at('restored'))];
  t.true(restored <= source + MiB, `${restored} bytes allocated for ${source}`);
});

testWith([], 'written zeros are no data either: blocks of zeros ship nothing', async (t) => {
  const machine = await makeMachine(t, 'zeros');
  const at = (name: string) => join(machine.directory, name);
  await writeFile(at('source'), Buffer.alloc(8 * MiB + 777));
  const point = await backup(t, machine, at('store'), at('source'), '--name', 'zeros');
  t.is(point.statistics.changedBytes, 0);
  await restore(t, machine, at('store'), 'zeros@latest', at('restored'));
  t.is(difference(at('restored'), at('source')), null);
  t.true((await allocatedBytes(at('restored'))) <= 64 * KiB);
});

testWith(['root', 'loop'], 'a device that is not empty is really zeroed', async (t) => {
  const machine = await makeMachine(t, 'zeroing');
  const at = (name: string) => join(machine.directory, name);
  const sizeBytes = 24 * MiB + 512;
  const all = Array.from({ length: Math.ceil(sizeBytes / BLOCK) }, (_, index) => index);
  await makeStampedImage(at('source'), {
    sizeBytes,
    blockSize: BLOCK,
    seed: 6,
    blockIndexes: all.filter((index) => index % 7 === 0),
  });
  await backup(t, machine, at('store'), at('source'), '--name', 'image');
  await makeStampedImage(at('occupied'), { sizeBytes, blockSize: BLOCK, seed: 7, blockIndexes: all });
  const target = attachLoop(t, at('occupied'));
  await restore(t, machine, at('store'), 'image@latest', target, '--verify');
  t.is(difference(target, at('source')), null);

  // A larger image: what lies behind the end of the point is not the restore's to touch, or is cut with the
  // size; here it is a device.
  await makeStampedImage(at('larger'), {
    sizeBytes: 32 * MiB,
    blockSize: BLOCK,
    seed: 8,
    blockIndexes: [...Array(512).keys()],
  });
  const larger = attachLoop(t, at('larger'));
  const file = await open(at('larger'));
  const tail = Buffer.alloc(32 * MiB - sizeBytes);
  await file.read(tail, 0, tail.length, sizeBytes);
  await restore(t, machine, at('store'), 'image@latest', larger, '--verify');
  const tailAfter = Buffer.alloc(tail.length);
  await file.read(tailAfter, 0, tail.length, sizeBytes);
  await file.close();
  t.deepEqual(tailAfter, tail, 'bytes behind the point stay');
});

testWith(
  [],
  'an existing image file is overwritten only when told so, and then is the point exactly',
  async (t) => {
    const machine = await makeMachine(t, 'overwrite');
    const at = (name: string) => join(machine.directory, name);
    await makeStampedImage(at('source'), {
      sizeBytes: 4 * MiB,
      blockSize: BLOCK,
      seed: 5,
      blockIndexes: [3, 40],
    });
    await backup(t, machine, at('store'), at('source'), '--name', 'image');
    await makeStampedImage(at('target'), {
      sizeBytes: 4 * MiB,
      blockSize: BLOCK,
      seed: 9,
      blockIndexes: [...Array(64).keys()],
    });
    const digest = contentDigest(at('target'));
    const refused = await run(machine, 'restore', 'image@latest', at('target'), '--store', at('store'));
    t.not(refused.code, 0);
    t.is(contentDigest(at('target')), digest, 'a refused target is untouched');
    await restore(t, machine, at('store'), 'image@latest', at('target'), '--overwrite', '--verify');
    t.is(difference(at('target'), at('source')), null);
  },
);

testWith([], 'restore to standard output', async (t) => {
  const machine = await makeMachine(t, 'stdout');
  const at = (name: string) => join(machine.directory, name);
  const sizeBytes = 40 * MiB + 4321;
  const blockIndexes = Array.from({ length: 600 }, (_, index) => index).filter((index) => index % 3 !== 1);
  await makeStampedImage(at('source'), { sizeBytes, blockSize: BLOCK, seed: 5, blockIndexes });
  await backup(t, machine, at('store'), at('source'), '--name', 'image');
  const output = await open(at('output'), 'w');
  const result = await outcome(
    start(machine, ['restore', 'image@latest', '-', '--store', at('store')], output.fd),
  );
  await output.close();
  t.is(result.code, 0, result.stderr);
  t.is(contentDigest(at('output')), contentDigest(at('source')));
});
