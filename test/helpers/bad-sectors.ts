/** A block device whose bad ranges fail with a real EIO: nbdkit serves an image, nbdfuse shows it as a file, losetup as a device. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { attachLoop, detachLoop, run } from './loop-device.js';
import type { Requirement } from './requirements.js';

const PLUGIN = fileURLToPath(new URL('../../../../test/helpers/bad-sector-device.sh', import.meta.url));

export const BAD_SECTOR_REQUIREMENTS: readonly Requirement[] = [
  'root',
  'loop',
  { program: 'nbdkit' },
  { program: 'nbdfuse' },
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
  const mountPoint = join(directory, 'nbd');
  const badList = join(directory, 'bad-ranges');
  await mkdir(mountPoint);
  const server = spawn(
    'nbdfuse',
    ['--readonly', join(mountPoint, 'disk'), '--command', 'nbdkit', '-s', '--exit-with-parent', 'sh', PLUGIN],
    { env: { ...process.env, IMAGE: image, BAD: badList }, stdio: 'ignore' },
  );
  const ended = once(server, 'exit');
  t.teardown(async () => {
    try {
      run('umount', '--lazy', mountPoint);
    } catch {
      server.kill('SIGKILL');
    }
    await ended;
  });
  while (!existsSync(join(mountPoint, 'disk'))) {
    if (server.exitCode !== null) throw new Error('nbdfuse does not start');
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  let path = attachLoop(t, join(mountPoint, 'disk'), { readOnly: true });
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
      path = attachLoop(t, join(mountPoint, 'disk'), { readOnly: true });
    },
  };
}
