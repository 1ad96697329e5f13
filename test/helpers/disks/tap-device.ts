/**
 * A tap as a block device of the kernel, on machines without `nbd`: its export as a file (nbdfuse),
 * and that as a loop device.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { Requirement } from '../requirements.js';
import type { TapWorld } from '../worlds/tap.js';
import { attachLoop, run } from './loop-device.js';

export const TAP_DEVICE_NEEDS: readonly Requirement[] = ['root', 'loop', { program: 'nbdfuse' }];

/** @returns its path, `/dev/loopN`; it goes when the test ends. */
export async function attachTapDevice(t: ExecutionContext, world: TapWorld): Promise<string> {
  const directory = join(world.directory, 'fuse');
  const file = join(directory, 'disk');
  await mkdir(directory);
  const child = spawn('nbdfuse', [file, world.uri], { stdio: ['ignore', 'ignore', 'inherit'] });
  const ended = once(child, 'exit');
  t.teardown(async () => {
    if (child.exitCode === null) run('umount', directory);
    await ended;
  });
  while (!existsSync(file)) {
    if (child.exitCode !== null) throw new Error(`nbdfuse: exit code ${child.exitCode}`);
    await sleep(10);
  }
  return attachLoop(t, file);
}
