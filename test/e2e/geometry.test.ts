/** Sector sizes, odd sizes, devices that grow and shrink, changed block sizes. */
import { open, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { makeStampedImage, writeStamped } from '../helpers/bytes/stamped-blocks.js';
import { contentDigest, copyImage, difference } from '../helpers/disks/images.js';
import { attachLoop, detachLoop } from '../helpers/disks/loop-device.js';
import { backup, type Machine, makeMachine, restore, run } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;

async function sourceImage(machine: Machine, sizeBytes: number): Promise<string> {
  const path = join(machine.directory, 'source');
  const blockIndexes = Array.from({ length: Math.ceil(sizeBytes / BLOCK) }, (_, index) => index);
  await makeStampedImage(path, {
    sizeBytes,
    blockSize: BLOCK,
    seed: sizeBytes,
    blockIndexes: blockIndexes.filter((index) => index % 5 !== 2),
  });
  return path;
}

async function change(path: string, blockIndexes: readonly number[], sizeBytes: number): Promise<void> {
  const file = await open(path, 'r+');
  for (const blockIndex of blockIndexes) {
    await writeStamped(file, { seed: sizeBytes, blockIndex, generation: 1 }, BLOCK, sizeBytes);
  }
  await file.close();
}

async function restoresTo(
  t: ExecutionContext,
  machine: Machine,
  point: string,
  expected: string,
): Promise<void> {
  const target = join(machine.directory, `restored-${point}`);
  await restore(t, machine, join(machine.directory, 'store'), point, target, '--verify');
  t.is(difference(target, expected), null, `${point} equals its source`);
  t.is(contentDigest(target), contentDigest(expected));
}

testWith(['root', 'loop'], 'a device with 4096-byte sectors', async (t) => {
  const machine = await makeMachine(t, 'sectors');
  const at = (name: string) => join(machine.directory, name);
  // A whole number of sectors, not of blocks.
  const sizeBytes = 16 * MiB + 3 * 4096;
  const image = await sourceImage(machine, sizeBytes);
  const device = attachLoop(t, image, { sectorSize: 4096 });
  const first = await backup(t, machine, at('store'), device, '--name', 'disk');
  t.is(first.identity.logicalSectorSize, 4096);
  t.is(first.geometry.sizeBytes, sizeBytes);
  await change(device, [0, 77, 256], sizeBytes);
  const second = await backup(t, machine, at('store'), device, '--name', 'disk');
  t.is(second.statistics.changedBytes, 2 * BLOCK + 3 * 4096, 'the last block is short');
  await restoresTo(t, machine, 'disk@2', image);

  const blank = at('blank');
  await makeStampedImage(blank, { sizeBytes, blockSize: BLOCK, seed: 99, blockIndexes: [1, 2, 3, 7] });
  const target = attachLoop(t, blank, { sectorSize: 4096 });
  await restore(t, machine, at('store'), 'disk@2', target, '--verify');
  t.is(difference(target, device), null);

  const smallSectors = at('small-sectors');
  await makeStampedImage(smallSectors, { sizeBytes, blockSize: BLOCK, seed: 1, blockIndexes: [4] });
  const wrong = attachLoop(t, smallSectors, { sectorSize: 512 });
  const digest = contentDigest(wrong);
  const refused = await run(machine, 'restore', 'disk@2', wrong, '--store', at('store'));
  t.not(refused.code, 0);
  t.regex(refused.stderr, /sector/);
  t.is(contentDigest(wrong), digest, 'a refused target is untouched');
});

testWith(['root', 'loop'], 'a device of 512-byte sectors whose size is no multiple of 4 KiB', async (t) => {
  const machine = await makeMachine(t, 'odd');
  const at = (name: string) => join(machine.directory, name);
  const sizeBytes = 8 * MiB + 512;
  const image = await sourceImage(machine, sizeBytes);
  const device = attachLoop(t, image);
  await backup(t, machine, at('store'), device, '--name', 'disk');
  await restoresTo(t, machine, 'disk@1', device);
  const blank = at('blank');
  await makeStampedImage(blank, { sizeBytes, blockSize: BLOCK, seed: 99, blockIndexes: [1, 128] });
  const target = attachLoop(t, blank);
  await restore(t, machine, at('store'), 'disk@1', target, '--verify');
  t.is(difference(target, device), null);
});

testWith([], 'images of odd sizes, down to one byte and none', async (t) => {
  const machine = await makeMachine(t, 'bytes');
  const at = (name: string) => join(machine.directory, name);
  for (const sizeBytes of [
    0,
    1,
    4095,
    BLOCK - 1,
    BLOCK,
    BLOCK + 1,
    64 * BLOCK,
    64 * BLOCK + 7,
    3 * MiB + 12_345,
  ]) {
    const path = await sourceImage(machine, sizeBytes);
    const point = await backup(t, machine, at('store'), path, '--name', `bytes-${sizeBytes}`);
    t.is(point.geometry.sizeBytes, sizeBytes);
    await restoresTo(t, machine, `bytes-${sizeBytes}@latest`, path);
  }
});

testWith(['root', 'loop'], 'a device that grows and shrinks goes on with its chain', async (t) => {
  const machine = await makeMachine(t, 'resize');
  const at = (name: string) => join(machine.directory, name);
  const sizes = [8 * MiB + 1024, 24 * MiB + 512, 24 * MiB + 32 * KiB, 5 * MiB + 512, 12 * MiB];
  const image = await sourceImage(machine, sizes[0] ?? 0);
  for (const [index, sizeBytes] of sizes.entries()) {
    await truncate(image, sizeBytes);
    await change(image, [index * 3], sizeBytes);
    const device = attachLoop(t, image);
    const point = await backup(t, machine, at('store'), device, '--name', 'disk');
    detachLoop(device);
    t.is(point.baseSequence, index === 0 ? null : index);
    t.is(point.geometry.sizeBytes, sizeBytes);
    if (index > 0)
      t.true(point.statistics.changedBytes <= 4 * BLOCK, `${point.statistics.changedBytes} bytes changed`);
    copyImage(image, at(`copy-${index}`));
  }
  for (const index of sizes.keys()) await restoresTo(t, machine, `disk@${index + 1}`, at(`copy-${index}`));
});

testWith([], 'a changed block size starts a new chain and says so', async (t) => {
  const machine = await makeMachine(t, 'block-size');
  const at = (name: string) => join(machine.directory, name);
  const sizeBytes = 4 * MiB + 100;
  const image = await sourceImage(machine, sizeBytes);
  await backup(t, machine, at('store'), image, '--name', 'disk', '--block-size', '64K');
  copyImage(image, at('copy-1'));
  await change(image, [3], sizeBytes);
  const second = await run(
    machine,
    'backup',
    image,
    '--store',
    at('store'),
    '--name',
    'disk',
    '--block-size',
    '16K',
  );
  t.is(second.code, 0, second.stderr);
  t.regex(second.stdout + second.stderr, /new chain/i);
  copyImage(image, at('copy-2'));
  await change(image, [9], sizeBytes);
  const third = await backup(t, machine, at('store'), image, '--name', 'disk', '--block-size', '16K');
  t.is(third.baseSequence, 2);
  t.is(third.geometry.blockSize, 16 * KiB);
  t.is(third.statistics.changedBytes, BLOCK);
  await restoresTo(t, machine, 'disk@1', at('copy-1'));
  await restoresTo(t, machine, 'disk@2', at('copy-2'));
  await restoresTo(t, machine, 'disk@3', image);
});
