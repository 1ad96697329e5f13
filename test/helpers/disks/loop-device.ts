/** Real loop devices for tests, as root. What a test attaches is detached when it ends, failed or not. */
import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';

export function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: 'utf8', stdio: ['ignore', 'pipe', 'pipe'] });
}

/** Null if loop devices can be made here, else the reason for skipping. */
export function whyNoLoopDevices(): string | null {
  if (process.getuid?.() !== 0) return 'not root';
  if (!existsSync('/dev/loop-control')) return 'no /dev/loop-control';
  try {
    run('losetup', '--find');
    return null;
  } catch (error) {
    return `losetup: ${(error as Error).message}`;
  }
}

/** A directory of the test's own, removed when it ends. */
export async function temporaryDirectory(
  t: ExecutionContext,
  prefix: string = 'test',
  parent: string = tmpdir(),
): Promise<string> {
  const directory = await mkdtemp(join(parent, `stillpoint-${prefix}-`));
  t.teardown(() => rm(directory, { recursive: true, force: true }));
  return directory;
}

export interface LoopOptions {
  readonly sectorSize?: 512 | 4096;
  readonly readOnly?: boolean;
  readonly partitionScan?: boolean;
}

/** Attaches a loop device. @returns its path, `/dev/loopN`. */
export function attachLoop(t: ExecutionContext, imagePath: string, options: LoopOptions = {}): string {
  const args = ['--find', '--show'];
  if (options.sectorSize !== undefined) args.push('--sector-size', String(options.sectorSize));
  if (options.readOnly === true) args.push('--read-only');
  if (options.partitionScan === true) args.push('--partscan');
  const path = run('losetup', ...args, imagePath).trim();
  const backing = backingFile(path);
  // Detached earlier, the number may be another test's by then.
  t.teardown(() => {
    if (backing !== null && backingFile(path) === backing) detach(path, backing);
  });
  return path;
}

/** Null if nothing is attached. */
function backingFile(path: string): string | null {
  try {
    return readFileSync(`/sys/block/${basename(path)}/loop/backing_file`, 'utf8');
  } catch {
    return null;
  }
}

/**
 * Does nothing if it is gone already. A device that another process has open for a moment, to see what is on
 * it, goes only after that: until then its image is open for writing.
 */
export function detachLoop(path: string): void {
  const backing = backingFile(path);
  if (backing === null) return;
  detach(path, backing);
  whileBusy(() => {
    if (backingFile(path) === backing) throw new Error(`${path} could not be detached: busy`);
  });
}

/** Now, or when nobody has it open any more. */
function detach(path: string, backing: string): void {
  try {
    run('losetup', '--detach', path);
  } catch (error) {
    if (backingFile(path) === backing) throw error;
  }
}

/** Attaches at the same node as before. Another test may have taken its number: waits until it is free. */
export function attachLoopAgain(path: string, imagePath: string): void {
  whileBusy(() => run('losetup', path, imagePath));
}

/** Mounts, and unmounts when the test ends. @returns a function that unmounts at once. */
export async function mount(
  t: ExecutionContext,
  device: string,
  mountPoint: string,
  options: string = 'defaults',
  type: string = 'auto',
): Promise<() => void> {
  await mkdir(mountPoint, { recursive: true });
  run('mount', '--types', type, '--options', options, device, mountPoint);
  let mounted = true;
  const unmount = () => {
    if (!mounted) return;
    // A process that is just being started still has its parent's open files for a moment.
    whileBusy(() => run('umount', mountPoint));
    mounted = false;
  };
  t.teardown(unmount);
  return unmount;
}

const BUSY_TRIES = 300;

/** Tries again for half a minute while something is busy. */
function whileBusy(attempt: () => void): void {
  for (let tries = 1; ; tries += 1) {
    try {
      attempt();
      return;
    } catch (error) {
      if (tries === BUSY_TRIES || !/busy/.test((error as Error).message)) throw error;
      run('sleep', '0.1');
    }
  }
}
