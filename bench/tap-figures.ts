/** The figures of the tap, in a run of their own: medians, of servers that take turns. */
import { mkdirSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { PEERS } from './nbd-servers.js';
import type { Row } from './report.js';
import { tapBackupFigures } from './tap-backup-figures.js';
import { type Bench, makeImage } from './tap-bench.js';
import { stalls, whileHeld } from './tap-hold-figures.js';
import { againstPeers, mapCost } from './tap-speed-figures.js';

const ROUNDS = 3;

/** @param quick shorter runs, fewer of them. */
export async function tapFigures(parent: string, quick: boolean): Promise<Row[]> {
  const directory = join(parent, 'tap');
  rmSync(directory, { recursive: true, force: true });
  mkdirSync(directory, { recursive: true });
  const bench: Bench = {
    directory,
    image: join(directory, 'disk.raw'),
    rounds: quick ? 1 : ROUNDS,
    seconds: quick ? 0.3 : 0.7,
    peers: quick ? PEERS.slice(0, 2) : PEERS,
  };
  try {
    makeImage(bench.image);
    return [
      ...(await againstPeers(bench)),
      ...(await mapCost(bench)),
      ...(await whileHeld(bench)),
      ...(await stalls(bench)),
      ...(await tapBackupFigures(directory, quick)),
    ];
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}
