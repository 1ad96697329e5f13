import { mkdir, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  type Footprint,
  footprintOf,
  footprintUnder,
  overlaps,
} from '../../../src/devices/system/footprint.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { attachPartitioned } from '../../helpers/disks/partition-table.js';
import { programs, testWith } from '../../helpers/requirements.js';

const footprint = (same: string[], within: string[] = [], on: string[] = []): Footprint => ({
  same: new Set(same),
  within: new Set(within),
  on: new Set(on),
  images: [],
});

/**
 * A file system on a volume of a disk's first partition; the volume's sister; an image in it,
 * and in another file system.
 */
const FIRST = footprint(['volume 1'], ['partition 1', 'disk']);
const SECOND = footprint(['volume 2'], ['partition 1', 'disk']);
const OTHER = footprint(['partition 2'], ['disk']);
const IMAGE = footprint(['image'], [], ['volume 1', 'partition 1', 'disk']);
const DISK = footprint(['disk']);

test('who shares bytes with whom', (t) => {
  const cases: [written: Footprint, kept: Footprint, isHit: boolean][] = [
    [FIRST, FIRST, true],
    [FIRST, SECOND, false],
    [FIRST, OTHER, false],
    [footprint(['partition 1'], ['disk']), SECOND, true],
    [DISK, SECOND, true],
    [DISK, IMAGE, true],
    [FIRST, IMAGE, true],
    [SECOND, IMAGE, false],
    [OTHER, IMAGE, false],
    // The file system decides where an image's bytes are: writing to it harms nothing else.
    [IMAGE, FIRST, false],
    [IMAGE, IMAGE, true],
    [IMAGE, DISK, false],
    // A file system on the whole disk, in spite of a table.
    [OTHER, DISK, true],
    [footprint([]), footprint([]), false],
  ];
  for (const [index, [written, kept, isHit]] of cases.entries())
    t.is(overlaps(written, kept), isHit, `case ${index}`);
});

testWith(
  ['root', 'loop', ...programs('mkfs.ext4', 'addpart')],
  'partitions, loop devices, images and mounts as the kernel shows them',
  async (t) => {
    const directory = await temporaryDirectory(t, 'footprint');
    const disk = join(directory, 'disk');
    await writeFile(disk, '');
    await truncate(disk, 48 * 1024 * 1024);
    const loop = await attachPartitioned(t, disk, 5, [
      { start: 2048, length: 40_000 },
      { start: 43_008, length: 40_000 },
    ]);
    run('mkfs.ext4', '-q', `${loop}p1`);
    await mount(t, `${loop}p1`, join(directory, 'mount'));
    await mkdir(join(directory, 'mount/kept'));
    const inner = join(directory, 'mount/inner');
    await writeFile(inner, '');
    await truncate(inner, 1024 * 1024);
    const kept = await footprintUnder(join(directory, 'mount/kept'));
    const hits = async (path: string) => overlaps(await footprintOf(path), kept);
    for (const path of [disk, loop, `${loop}p1`]) t.true(await hits(path), path);
    for (const path of [`${loop}p2`, inner, attachLoop(t, inner)]) t.false(await hits(path), path);
    t.deepEqual((await footprintOf(`${loop}p2`)).images, [disk]);
    t.true(overlaps(await footprintOf(loop), await footprintOf(inner)));
    t.false(overlaps(await footprintOf(join(directory, 'nothing')), kept));
  },
);

testWith(
  ['root', 'loop', ...programs('mkfs.btrfs')],
  'each device of a btrfs file system, and what an overlay writes to',
  async (t) => {
    const directory = await temporaryDirectory(t, 'footprint');
    const at = (name: string) => join(directory, name);
    const loops: string[] = [];
    for (const name of ['one', 'two']) {
      await writeFile(at(name), '');
      await truncate(at(name), 128 * 1024 * 1024);
      loops.push(attachLoop(t, at(name)));
    }
    run('mkfs.btrfs', '--quiet', '--data', 'raid1', ...loops);
    await mount(t, loops[0] ?? '', at('mount'), `device=${loops[1]}`);
    for (const name of ['lower', 'mount/upper', 'mount/work']) await mkdir(at(name));
    await mount(
      t,
      'overlay',
      at('overlay'),
      `lowerdir=${at('lower')},upperdir=${at('mount/upper')},workdir=${at('mount/work')}`,
      'overlay',
    );
    for (const place of ['mount', 'overlay']) {
      const kept = await footprintUnder(at(place));
      for (const path of [...loops, at('one'), at('two')]) {
        t.true(overlaps(await footprintOf(path), kept), `${place}: ${path}`);
      }
      t.false(overlaps(await footprintOf(at('lower')), kept));
    }
  },
);
