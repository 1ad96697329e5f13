/**
 * Random histories of an image, written in every way there is: each point, which was made of the known
 * changes, is compared byte by byte with the clone that it was made of.
 */
import { readFile, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { chooseProvider } from '../../../../src/capture/choice/choose.js';
import { NO_REST } from '../../../../src/capture/instant.js';
import { MiB } from '../../../../src/domain/base/limits.js';
import { run } from '../../../helpers/disks/loop-device.js';
import { programs, testWith } from '../../../helpers/requirements.js';
import { LONG, type Random, seededRandom } from '../../../helpers/seed.js';
import { BackupWorld } from '../../../helpers/worlds/backup.js';
import {
  type Cloning,
  type CloningOptions,
  makeCloningDisk,
  useImage,
} from '../../../helpers/worlds/reflink.js';

const SIZE_BYTES = 24 * MiB + 1000;
const BACKUPS = LONG ? 40 : 3;

/** Commands of xfs_io, which works on any file system. */
function change(random: Random): string[][] {
  const at = () => random.below(SIZE_BYTES - 300_000);
  const aligned = () => at() - (at() % 4096);
  const pages = () => 4096 * (1 + random.below(16));
  const pattern = () => String(1 + random.below(255));
  switch (random.below(8)) {
    case 0:
      return [
        ['-d', '-c', `pwrite -S ${pattern()} ${random.below(SIZE_BYTES / 4096 - 20) * 4096} ${pages()}`],
      ];
    case 1:
      return [['-c', `pwrite -S ${pattern()} ${at()} ${1 + random.below(200_000)}`]];
    case 2: {
      const [from, length] = [random.below(SIZE_BYTES / 4096 - 40) * 4096, pages()];
      return [['-c', `mmap -rw ${from} ${length}`, '-c', `mwrite -S ${pattern()} ${from} ${length}`]];
    }
    case 3:
      return [['-c', `fpunch ${at()} ${1 + random.below(200_000)}`]];
    case 4:
      return [['-c', `fzero -k ${at()} ${1 + random.below(200_000)}`]];
    case 5:
      return [['-c', `falloc -k ${at()} ${1 + random.below(100_000)}`]];
    case 6:
      // The same bytes from elsewhere in the image: shared within it.
      return [['-c', `reflink IMAGE ${random.below(2000) * 4096} ${random.below(3000) * 4096} ${pages()}`]];
    default:
      return [
        ['-c', `truncate ${SIZE_BYTES - random.below(400_000)}`],
        ['-c', `truncate ${SIZE_BYTES}`],
        ['-c', `pwrite -S ${pattern()} ${aligned()} 4096`],
      ];
  }
}

interface Kind extends CloningOptions {
  readonly title: string;
  readonly filesystem: Cloning;
}

const KINDS: readonly Kind[] = [
  { title: 'xfs', filesystem: 'xfs' },
  { title: 'btrfs', filesystem: 'btrfs' },
  { title: 'btrfs that compresses', filesystem: 'btrfs', mountOptions: 'compress-force=zstd' },
  { title: 'btrfs without copy-on-write', filesystem: 'btrfs', mountOptions: 'nodatacow' },
];

for (const { title, filesystem, ...options } of KINDS) {
  testWith(
    ['root', 'loop', ...programs(`mkfs.${filesystem}`, 'xfs_io')],
    `${title}: what the extents say is all that changed, however it was written`,
    async (t) => history(t, filesystem, options, title),
  );
}

async function history(
  t: ExecutionContext,
  filesystem: Cloning,
  options: CloningOptions,
  title: string,
): Promise<void> {
  const random = seededRandom(t);
  const disk = await makeCloningDisk(t, filesystem, options);
  const world = await BackupWorld.make(t);
  run('xfs_io', '-f', '-c', `pwrite -q -S 7 ${MiB} ${8 * MiB}`, '-c', `truncate ${SIZE_BYTES}`, disk.image);
  await useImage(t, disk);
  let readBytes = 0;
  for (let round = 0; round < BACKUPS; round += 1) {
    for (let step = 4 + random.below(12); step > 0 && round > 0; step -= 1)
      for (const args of change(random))
        run('xfs_io', ...args.map((arg) => arg.replace('IMAGE', disk.image)), disk.image);
    const { stateDirectory } = world;
    const { provider } = await chooseProvider({ path: disk.image, stateDirectory, rest: NO_REST });
    const { point, tracking } = await world.backup({ path: disk.image, provider });
    t.like(point, { provider: 'reflink', kind: 'crash', warnings: [] });
    t.is(tracking?.used, round > 0, tracking?.reason);
    t.deepEqual(await disk.clones(), [`.disk.img.stillpoint-${point.id}`]);
    const clone = join(disk.mountPoint, `.disk.img.stillpoint-${point.id}`);
    const [held, restored] = [await readFile(clone), await world.contents(point)];
    t.true(restored.equals(held), `${title}, backup ${round + 1}`);
    t.true(held.equals(await readFile(disk.image)), `${title}, clone ${round + 1}`);
    if (round > 0) readBytes += point.statistics.scannedBytes;
  }
  // Nothing was written: nothing is read but the sample.
  const { provider } = await chooseProvider({
    ...{ path: disk.image, stateDirectory: world.stateDirectory, rest: NO_REST },
  });
  const { point } = await world.backup({ path: disk.image, provider });
  t.is(point.statistics.changedBytes, 0);
  if (options.mountOptions?.startsWith('compress') !== true) {
    t.true(point.statistics.scannedBytes <= 64 * 65_536);
    t.true(readBytes < (BACKUPS - 1) * SIZE_BYTES);
  }
  await truncate(disk.image, SIZE_BYTES + 4096);
  const grown = await world.backup({ path: disk.image, provider });
  t.like(grown.tracking, { used: false, reason: 'its size has changed' });
  t.true((await world.contents(grown.point)).equals(await readFile(disk.image)));
}
