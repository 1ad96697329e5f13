/** A comparison whose differences become a new point: no map and no local tree is trusted. */
import type { BlockSet } from '../../domain/blocks/block-set.js';
import type { Point } from '../../domain/point/point.js';
import { runBackup } from '../backup/backup.js';
import type { BackupOptions, BackupReceiver } from '../backup/options.js';
import { checkStored, type DamagedRange } from './check-stored.js';
import type { CompareReceiver } from './compare.js';
import type { Told } from './told.js';

export interface ShipOptions extends Omit<BackupOptions, 'receiver' | 'compare' | 'onCompared'> {
  readonly receiver: BackupReceiver & CompareReceiver;
  /** The device's last one. */
  readonly point: Point;
  readonly deep: boolean;
}

export async function shipDifferences({
  point,
  deep,
  ...options
}: ShipOptions): Promise<{ readonly made: Point; readonly told: Told }> {
  const { receiver, signal = new AbortController().signal, onEvent = () => undefined } = options;
  // Where the receiver has lost parts of the point, there is nothing to compare with:
  // what it lacks is shipped.
  let differing: BlockSet | null = null;
  const damaged: DamagedRange[] = deep ? await checkStored({ receiver, point, signal, onEvent }) : [];
  const backup = await runBackup({
    ...options,
    compare: true,
    onCompared: (blocks) => {
      differing = blocks;
    },
  });
  const { point: made, wireBytes, warnings } = backup;
  return {
    made,
    told: {
      ...{ differing, damaged, unreadableBlocks: [], wireBytes, kind: made.kind, warnings },
      deviceSizeBytes: made.geometry.sizeBytes,
      scannedBytes: made.statistics.scannedBytes,
    },
  };
}
