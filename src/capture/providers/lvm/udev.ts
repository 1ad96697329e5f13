/**
 * Keeps udev from taking our snapshots for disks. A snapshot has the UUIDs and labels of its volume: udev
 * would let /dev/disk/by-uuid show the snapshot (seen with thin ones), and whoever mounts by UUID in that
 * moment, as systemd does, would get it; or a RAID in it would be assembled.
 *
 * The rule is a file in /run, so it ends with the machine's run.
 */
import { mkdir, readFile, rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { CommandError, type LvmHost } from './host.js';

const RULE = `# Of Stillpoint: its snapshots of logical volumes are nobody's disks.
ACTION=="add|change", SUBSYSTEM=="block", KERNEL=="dm-*", ATTR{dm/name}=="*-stillpoint--????????????????????????????????*", \\
  ENV{DM_UDEV_DISABLE_DISK_RULES_FLAG}="1", ENV{DM_UDEV_DISABLE_OTHER_RULES_FLAG}="1"
`;
/** Before the rules of device mapper, which look at what it sets: they begin with 10. */
const FILE = '09-stillpoint-lvm.rules';

/** @throws CommandError */
export async function hideFromUdev({ run, udevRules }: LvmHost): Promise<void> {
  if (udevRules === null) return;
  const directory = join(udevRules, 'rules.d');
  const path = join(directory, FILE);
  try {
    if ((await readFile(path, 'utf8').catch(() => null)) === RULE) return;
    // Where there is no /run/udev, no udev runs.
    await mkdir(directory).catch((error: NodeJS.ErrnoException) => {
      if (error.code !== 'EEXIST') throw error;
    });
    await writeFile(`${path}.new`, RULE, { mode: 0o644 });
    await rename(`${path}.new`, path);
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    if (code === 'ENOENT') return;
    throw new CommandError(
      'udevadm',
      `udev can't be told to leave snapshots alone: ${(error as Error).message}`,
    );
  }
  // It finds the rule by itself, too, only later.
  await run('udevadm', ['control', '--reload']).catch(() => undefined);
}
