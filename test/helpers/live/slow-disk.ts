/**
 * A disk on which writes take their time and overtake each other: nbdkit's delay filter, as a file through
 * nbdfuse, under a loop device. A read that comes while a write is on its way gives what was there before; an
 * ordinary loop device never does, so it hides what goes wrong then.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { run } from '../disks/loop-device.js';
import { NBD_FUSE_REQUIREMENTS, nbdFile } from '../disks/nbd-fuse.js';
import { programs, type Requirement } from '../requirements.js';

export const SLOW_DISK_REQUIREMENTS: readonly Requirement[] = [
  ...NBD_FUSE_REQUIREMENTS,
  ...programs('nbdkit'),
];

export interface SlowDiskOptions {
  readonly sizeBytes: number;
  readonly writeMs: number;
  readonly readMs?: number;
}

/** @returns its loop device. */
export async function slowDisk(
  t: ExecutionContext,
  directory: string,
  { sizeBytes, writeMs, readMs = 1 }: SlowDiskOptions,
): Promise<string> {
  await mkdir(directory, { recursive: true });
  const socket = join(directory, 'socket');
  const server = spawn(
    'nbdkit',
    [
      ...['--foreground', '--exit-with-parent', '--unix', socket, '--threads=16', '--filter=delay'],
      ...['memory', `size=${sizeBytes}`, `wdelay=${writeMs}ms`, `rdelay=${readMs}ms`],
      ...[`delay-zero=${writeMs}ms`, `delay-trim=${writeMs}ms`],
    ],
    { stdio: 'ignore' },
  );
  const ended = once(server, 'exit');
  t.teardown(async () => {
    server.kill();
    await ended;
  });
  while (!existsSync(socket)) {
    if (server.exitCode !== null) throw new Error('nbdkit does not start');
    await sleep(20);
  }
  // Over one connection a read waits for the writes before it.
  const uri = `nbd+unix:///?socket=${socket}`;
  const file = await nbdFile(t, join(directory, 'nbd'), [uri], { connections: 48 });
  const device = run('losetup', '--find', '--show', '--direct-io=on', file.path).trim();
  t.teardown(() => void run('losetup', '--detach', device));
  return device;
}
