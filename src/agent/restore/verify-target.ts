/** Reads a restored target back and compares it with the point's tree. */
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import { treeFileBytes, withScratch } from '../common/scratch.js';
import { geometryOf } from '../state/device-state.js';
import type { RestoreTarget } from '../target/port.js';
import { forgetLeaves } from '../tree/fetch-tree.js';
import { firstDifference } from '../tree/first-difference.js';
import { toWrite } from './left-alone.js';
import { type PointSource, PointWriter } from './point-writer.js';

export interface VerifyOptions {
  readonly target: RestoreTarget;
  readonly source: PointSource;
  /** Blocks that could not be had: the target has zeros there. */
  readonly lost: readonly number[];
  /** Blocks that are not the point's business. */
  readonly alone: readonly BlockRange[];
  readonly stateDirectory: string | null;
  readonly onProgress: (doneBytes: number) => void;
}

/** @returns the first block that differs; null: none */
export async function differingBlock(options: VerifyOptions): Promise<number | null> {
  const { target, source, lost, alone, stateDirectory, onProgress } = options;
  const { tree, signal } = source;
  const scratchBytes = treeFileBytes(geometryOf(tree));
  if (lost.length > 0)
    await withScratch(stateDirectory, scratchBytes, (directory) =>
      forgetLeaves(tree, lost, join(directory, 'lost')),
    );
  if (alone.length > 0 && target.isReused) {
    return withScratch(stateDirectory, scratchBytes, (directory) =>
      firstDifference({
        ...{ device: target.device, tree, ranges: toWrite(tree, alone), signal },
        path: join(directory, 'verify'),
        watch: (scan) => () => onProgress(scan.progress().scannedBytes),
      }),
    );
  }
  const writer = new PointWriter(source, target.device);
  try {
    return await writer.verify(onProgress);
  } finally {
    await writer.close();
  }
}

export function readsBackDifferently(target: string, what: string, byteOffset: number): StillpointError {
  return new StillpointError('bad-digest', {
    thing: target,
    reason: `${what} (byte ${byteOffset}) reads back differently from what was written`,
    remedy: 'The target is failing, or something else writes to it: choose another one.',
  });
}
