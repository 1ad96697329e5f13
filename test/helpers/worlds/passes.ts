/** A disk that is copied in passes, a store, and backups between them. */
import type { ExecutionContext } from 'ava';
import type { BackupOptions } from '../../../src/agent/backup/options.js';
import type { Point } from '../../../src/domain/point/point.js';
import { LateDisk, type LateDiskOptions } from '../fakes/late-disk.js';
import { BackupWorld } from './backup.js';

export const BLOCKS = 40;
export const ALL: readonly number[] = Array.from({ length: BLOCKS }, (_, i) => i);

export interface PassesWorld {
  readonly made: BackupWorld;
  readonly disk: LateDisk;
  backup(options?: Partial<BackupOptions>): Promise<Point>;
  /** What the point holds. */
  isAtInstant(point: Point, label?: string): Promise<void>;
}

export async function passesWorld(
  t: ExecutionContext,
  options: Partial<LateDiskOptions> = {},
): Promise<PassesWorld> {
  const made = await BackupWorld.make(t);
  const disk = new LateDisk({ blockCount: BLOCKS, seed: 5, ...options });
  t.teardown(() => disk.device.close());
  return {
    made,
    disk,
    backup: async (changes = {}) => (await made.backup({ provider: disk.provider, ...changes })).point,
    isAtInstant: async (point, label = '') => {
      t.true((await made.contents(point)).equals(disk.atInstant), label);
      t.deepEqual(point.badRanges, [], label);
      t.false(disk.isHeld, label);
      t.true(disk.isCommitted, label);
    },
  };
}

export const stampAll = async (disk: LateDisk, generation: number, blocks: readonly number[] = ALL) => {
  for (const blockIndex of blocks) await disk.stamp(blockIndex, generation);
};
