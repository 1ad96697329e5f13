/**
 * Mounted file systems on loop devices that tests may freeze: whatever happens, they are thawed and
 * unmounted when a test ends.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import { mkdir, open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { FreezeTarget } from '../../../src/capture/quiesce/freeze.js';
import { mountShownAt, parseMountinfo } from '../../../src/devices/system/mount-table.js';
import { attachLoop, mount, run, temporaryDirectory } from './loop-device.js';

const MAKE = {
  ext4: ['mkfs.ext4', '-q', '-F'],
  xfs: ['mkfs.xfs', '-q', '-f'],
} as const;
export type FilesystemType = keyof typeof MAKE;

export interface Freezable {
  readonly image: string;
  readonly device: string;
  readonly mountPoint: string;
  readonly target: FreezeTarget;
}

export interface FreezableOptions {
  /** Where its image lies; default: a directory of its own. */
  readonly within?: string;
  readonly sizeBytes?: number;
  readonly mountOptions?: string;
}

export async function freezable(
  t: ExecutionContext,
  type: FilesystemType,
  options: FreezableOptions = {},
): Promise<Freezable> {
  const directory = await temporaryDirectory(t, 'freeze');
  const image = join(options.within ?? directory, 'disk.img');
  const file = await open(image, 'w');
  await file.truncate(options.sizeBytes ?? (type === 'xfs' ? 320 : 48) * 1024 * 1024);
  await file.close();
  const [program = '', ...args] = MAKE[type];
  run(program, ...args, image);
  const device = attachLoop(t, image);
  const mountPoint = join(directory, 'mnt');
  await mkdir(mountPoint);
  await mount(t, device, mountPoint, options.mountOptions);
  // Teardowns run in reverse order: this comes before unmounting.
  t.teardown(() => void unfreeze(mountPoint));
  return { image, device, mountPoint, target: await targetAt(mountPoint) };
}

export async function targetAt(path: string): Promise<FreezeTarget> {
  const shown = mountShownAt(path, parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8')));
  if (shown?.mountPoint !== path) throw new Error(`${path} is no mount point`);
  return { id: shown.id, path };
}

/** @returns whether it was frozen. */
export function unfreeze(mountPoint: string): boolean {
  try {
    run('fsfreeze', '--unfreeze', mountPoint);
    return true;
  } catch {
    return false;
  }
}

/** Process ids of the freezers that a process has started. */
export function freezersOf(parentPid: number): number[] {
  return readdirSync('/proc')
    .filter((pid) => {
      try {
        const status = readFileSync(`/proc/${pid}/status`, 'utf8');
        return /^Name:\tstillpoint-free/.test(status) && status.includes(`\nPPid:\t${parentPid}\n`);
      } catch {
        return false;
      }
    })
    .map(Number);
}

/** Tries by freezing: the kernel tells in no other way. */
export function isFrozen(mountPoint: string): boolean {
  try {
    run('fsfreeze', '--freeze', mountPoint);
  } catch (error) {
    if (/busy/i.test((error as Error).message)) return true;
    throw error;
  }
  unfreeze(mountPoint);
  return false;
}

/** @returns how long it took, in ms. */
export async function untilThawed(mountPoint: string, withinMs: number): Promise<number> {
  const started = performance.now();
  while (isFrozen(mountPoint)) {
    if (performance.now() - started > withinMs)
      throw new Error(`${mountPoint} is frozen after ${withinMs} ms`);
    await sleep(10);
  }
  return performance.now() - started;
}

/** A process that writes a file; on a frozen file system it can't be killed, and ends after the thaw. */
export function startWriter(
  mountPoint: string,
  name = 'written',
): { readonly done: Promise<unknown>; isDone(): boolean } {
  const child: ChildProcess = spawn(
    'dd',
    ['if=/dev/zero', `of=${join(mountPoint, name)}`, 'bs=4096', 'count=1'],
    {
      stdio: 'ignore',
    },
  );
  return { done: once(child, 'exit'), isDone: () => child.exitCode !== null };
}
