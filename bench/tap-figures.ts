/** The figures of the tap, in a run of their own: medians, of servers that take turns. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PEERS } from './nbd-servers.js';
import { shell } from './process.js';
import type { Row } from './report.js';
import { tapBackupFigures } from './tap-backup-figures.js';
import { type Bench, makeImage } from './tap-bench.js';
import { stalls, whileHeld } from './tap-hold-figures.js';
import { againstPeers, mapCost } from './tap-speed-figures.js';

const ROUNDS = 3;
const MEMORY_DEVICE = '/dev/shm/stillpoint-bench.img';
const MEMORY_BYTES = 6 * 2 ** 30;

/** @param quick shorter runs, fewer of them. */
export async function tapFigures(parent: string, quick: boolean): Promise<Row[]> {
  const directory = join(parent, 'tap');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const onDisk: Bench = {
    directory,
    image: join(directory, 'disk.raw'),
    rounds: quick ? 1 : ROUNDS,
    seconds: quick ? 0.3 : 0.7,
    peers: quick ? PEERS.slice(0, 2) : PEERS,
  };
  const memory = mountMemory(directory);
  const inMemory: Bench = { ...onDisk, directory: memory, image: join(memory, 'disk.raw') };
  try {
    makeImage(inMemory.image);
    const speed = [...(await againstPeers(inMemory)), ...(await whileHeld(inMemory))];
    makeImage(onDisk.image);
    return [
      ...speed,
      ...(await mapCost(onDisk)),
      ...(await stalls(onDisk)),
      ...(await tapBackupFigures(directory, quick)),
    ];
  } finally {
    shell('umount', memory);
    rmSync(MEMORY_DEVICE, { force: true });
    rmSync(directory, { recursive: true, force: true });
  }
}

/**
 * ext4 on a loop device over memory: what is written costs no disk, and runs don't wait for what
 * the run before has left.
 */
function mountMemory(directory: string): string {
  const mountPoint = join(directory, 'memory');
  mkdirSync(mountPoint);
  rmSync(MEMORY_DEVICE, { force: true });
  shell('truncate', `--size=${MEMORY_BYTES}`, MEMORY_DEVICE);
  shell('mkfs.ext4', '-q', '-E', 'lazy_itable_init=0,lazy_journal_init=0', MEMORY_DEVICE);
  shell('mount', '-o', 'loop', MEMORY_DEVICE, mountPoint);
  return mountPoint;
}
