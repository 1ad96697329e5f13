/**
 * A device with real bad sectors: the point says which, keeps what it can, and never
 * passes zeros off as data.
 */
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB } from '../../src/domain/base/limits.js';
import type { BadRange } from '../../src/domain/point/point.js';
import { makeStampedImage, writeStamped } from '../helpers/bytes/stamped-blocks.js';
import { readRange } from '../helpers/disks/images.js';
import { BAD_SECTOR_REQUIREMENTS, badSectorDevice, type Range } from '../helpers/faults/bad-sectors.js';
import {
  backup,
  backupExpecting,
  EXIT_WARNINGS,
  makeMachine,
  points,
  restore,
  restoreExpecting,
  run,
} from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;
const BLOCKS = 128;
const SIZE = BLOCKS * BLOCK;
const SEED = 11;

/** One page inside a block, one across two blocks, one at the end of the device. */
const BAD: readonly Range[] = [
  { byteOffset: 5 * BLOCK + 8 * KiB, byteLength: 4 * KiB },
  { byteOffset: 40 * BLOCK - 4 * KiB, byteLength: 8 * KiB },
  { byteOffset: SIZE - 4 * KiB, byteLength: 4 * KiB },
];

function isInBad(byteOffset: number): boolean {
  return BAD.some((bad) => byteOffset >= bad.byteOffset && byteOffset < bad.byteOffset + bad.byteLength);
}

/** Ranges as one set of bytes, however they are cut. */
function merged(ranges: readonly Range[]): Range[] {
  const result: Range[] = [];
  for (const { byteOffset, byteLength } of ranges) {
    const last = result.at(-1);
    if (last !== undefined && last.byteOffset + last.byteLength === byteOffset) {
      result[result.length - 1] = { byteOffset: last.byteOffset, byteLength: last.byteLength + byteLength };
    } else result.push({ byteOffset, byteLength });
  }
  return result;
}

function contents(ranges: readonly BadRange[]): string[] {
  return [...new Set(ranges.map((range) => range.content))];
}

/** A machine with a stamped image as a device, of which nothing is bad yet. */
async function failingMachine(t: ExecutionContext, name: string) {
  const machine = await makeMachine(t, name);
  const at = (file: string) => join(machine.directory, file);
  const blockIndexes = Array.from({ length: BLOCKS }, (_, index) => index);
  await makeStampedImage(at('source'), { sizeBytes: SIZE, blockSize: BLOCK, seed: SEED, blockIndexes });
  return { machine, at, device: await badSectorDevice(t, machine.directory, at('source')) };
}

testWith(
  BAD_SECTOR_REQUIREMENTS,
  'bad sectors in a first backup are named and filled with a marker',
  async (t) => {
    const { machine, at, device } = await failingMachine(t, 'bad-first');
    await device.setBad(BAD);

    const point = await backupExpecting(
      t,
      machine,
      EXIT_WARNINGS,
      at('store'),
      device.path,
      '--name',
      'failing',
    );
    t.deepEqual(merged(point.badRanges), BAD);
    t.deepEqual(contents(point.badRanges), ['filler']);
    t.true(point.warnings.length > 0);
    const [listed] = await points(t, machine, at('store'));
    t.deepEqual(listed, point);
    const text = await run(machine, 'points', '--store', at('store'));
    t.regex(text.stdout + text.stderr, /warning|bad|unreadable/i, 'a person sees it too');

    await restoreExpecting(
      t,
      machine,
      EXIT_WARNINGS,
      at('store'),
      'failing@latest',
      at('restored'),
      '--verify',
    );
    const [restored, source] = [
      await readRange(at('restored'), 0, SIZE),
      await readRange(at('source'), 0, SIZE),
    ];
    for (let byteOffset = 0; byteOffset < SIZE; byteOffset += 4 * KiB) {
      const got = restored.subarray(byteOffset, byteOffset + 4 * KiB);
      if (isInBad(byteOffset)) {
        t.notDeepEqual(got, source.subarray(byteOffset, byteOffset + 4 * KiB));
        for (let cell = 0; cell < got.length; cell += 512) {
          t.true(
            got.subarray(cell, cell + 512).some((byte) => byte !== 0),
            `sector at ${byteOffset + cell} is zeros`,
          );
        }
      } else if (!got.equals(source.subarray(byteOffset, byteOffset + 4 * KiB))) {
        t.fail(`readable bytes at ${byteOffset} differ`);
      }
    }
  },
);

testWith(BAD_SECTOR_REQUIREMENTS, 'sectors that go bad later keep their last good content', async (t) => {
  const { machine, at, device } = await failingMachine(t, 'bad-later');
  const before = await readRange(at('source'), 0, SIZE);
  await backup(t, machine, at('store'), device.path, '--name', 'failing');

  // Block 5 changes around its bad page and in it; block 60 changes and is readable.
  const source = await open(at('source'), 'r+');
  for (const blockIndex of [5, 60]) {
    await writeStamped(source, { seed: SEED, blockIndex, generation: 1 }, BLOCK, SIZE);
  }
  await source.close();
  await device.setBad(BAD);
  const point = await backupExpecting(
    t,
    machine,
    EXIT_WARNINGS,
    at('store'),
    device.path,
    '--name',
    'failing',
    '--accept-identity',
  );
  t.is(point.sequence, 2);
  t.deepEqual(merged(point.badRanges), BAD);
  t.deepEqual(contents(point.badRanges), ['previous']);
  t.true(point.statistics.changedBytes <= 4 * BLOCK, 'bad blocks whose content is kept are no changes');

  await restoreExpecting(t, machine, EXIT_WARNINGS, at('store'), 'failing@2', at('restored'), '--verify');
  const [restored, after] = [
    await readRange(at('restored'), 0, SIZE),
    await readRange(at('source'), 0, SIZE),
  ];
  for (let byteOffset = 0; byteOffset < SIZE; byteOffset += 4 * KiB) {
    const expected = (isInBad(byteOffset) ? before : after).subarray(byteOffset, byteOffset + 4 * KiB);
    if (!restored.subarray(byteOffset, byteOffset + 4 * KiB).equals(expected))
      t.fail(`bytes at ${byteOffset} differ`);
  }

  // Healed, the device is backed up whole again, without a warning.
  await device.setBad([]);
  const healed = await backup(t, machine, at('store'), device.path, '--name', 'failing', '--accept-identity');
  t.deepEqual(healed.badRanges, []);
  await restore(t, machine, at('store'), 'failing@latest', at('healed'));
  t.true(after.equals(await readRange(at('healed'), 0, SIZE)));
});
