/** What the bench needs of the machine, and where it works. */
import { spawnSync } from 'node:child_process';
import { mkdirSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

const TOOLS = [
  ['borg', 'borgbackup'],
  ['restic', 'restic'],
  ['b3sum', 'b3sum'],
  ['zstd', 'zstd'],
  ['mkfs.ext4', 'e2fsprogs'],
  ['fio', 'fio'],
  ['nbdkit', 'nbdkit'],
  ['qemu-nbd', 'qemu-utils'],
  ['nbdcopy', 'libnbd-bin'],
] as const;

/** A bench that is stopped ends its receiver too. */
export function exitOnSignals(): void {
  process.once('SIGINT', () => process.exit(130));
  process.once('SIGTERM', () => process.exit(143));
}

/** Installs what is missing; the inputs are made on a mounted loop device, so only root can run the bench. */
export function requireEnvironment(say: (text: string) => void): void {
  if (process.getuid?.() !== 0)
    throw new Error('bench: it mounts an image to make its input. Run it as root.');
  const packages = TOOLS.filter(([command]) => spawnSync('which', [command]).status !== 0).map(
    ([, name]) => name,
  );
  if (packages.length === 0) return;
  say(`installing ${packages.join(', ')}`);
  for (const args of [['update'], ['install', '-y', '--no-install-recommends', ...packages]]) {
    const env = { ...process.env, DEBIAN_FRONTEND: 'noninteractive' };
    const { status } = spawnSync('apt-get', ['-q', ...args], { env, stdio: ['ignore', 'ignore', 'inherit'] });
    if (status !== 0)
      throw new Error(`bench: apt-get ${args.join(' ')} failed. Install ${packages.join(', ')} by hand.`);
  }
}

/** Inputs are kept between runs; all else in it is removed when a run ends. */
export function benchDirectory(): string {
  const directory = join(tmpdir(), 'stillpoint-bench');
  mkdirSync(directory, { recursive: true });
  return directory;
}
