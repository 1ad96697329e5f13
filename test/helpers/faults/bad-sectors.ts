/**
 * A block device whose bad ranges fail with a real EIO: nbdkit serves an image, nbdfuse shows it as a
 * file, losetup as a device.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { attachLoop, detachLoop } from '../disks/loop-device.js';
import { NBD_FUSE_REQUIREMENTS, nbdFile } from '../disks/nbd-fuse.js';
import type { Requirement } from '../requirements.js';

const PLUGIN = fileURLToPath(
  new URL('../../../../../test/helpers/faults/bad-sector-device.sh', import.meta.url),
);

export const BAD_SECTOR_REQUIREMENTS: readonly Requirement[] = [
  ...NBD_FUSE_REQUIREMENTS,
  { program: 'nbdkit' },
];

export interface Range {
  readonly byteOffset: number;
  readonly byteLength: number;
}

export interface BadSectorDevice {
  /** `/dev/loopN`: changes with every `setBad`, since only a fresh device has nothing cached. */
  readonly path: string;
  /** Multiples of 4096: the grain of the page cache in between. */
  setBad(ranges: readonly Range[]): Promise<void>;
}

export async function badSectorDevice(
  t: ExecutionContext,
  directory: string,
  image: string,
): Promise<BadSectorDevice> {
  const badList = join(directory, 'bad-ranges');
  const server = ['--command', 'nbdkit', '-s', '--exit-with-parent', 'sh', PLUGIN];
  const env = { IMAGE: image, BAD: badList };
  const file = await nbdFile(t, join(directory, 'nbd'), server, { readOnly: true, env });
  let path = attachLoop(t, file.path, { readOnly: true });
  return {
    get path() {
      return path;
    },
    async setBad(ranges) {
      await rm(badList, { force: true });
      if (ranges.length > 0) {
        await writeFile(badList, ranges.map((range) => `${range.byteOffset} ${range.byteLength}\n`).join(''));
      }
      detachLoop(path);
      path = attachLoop(t, file.path, { readOnly: true });
    },
  };
}
