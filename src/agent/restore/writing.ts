/**
 * Writes a point to a target that is open, and over it what a journal has of a moment.
 *
 * | target      | order                                                                                     |
 * |-------------|-------------------------------------------------------------------------------------------|
 * | a new image | the point; flush; it is read back; the records; flush                                     |
 * | in place    | as in-place.ts says; before the records the point is read back without its head, which is |
 * |             | in memory, and after all the head                                                         |
 *
 * Only with `verify` anything is read back. What the records wrote behind the head is not.
 */
import { type BlockRange, mergeRanges, rangesBytes } from '../../domain/blocks/block-ranges.js';
import type { Device } from '../../native/index.js';
import type { RestoreTarget } from '../target/port.js';
import { headBlocks, InPlaceRestore } from './in-place.js';
import type { LostBlocks } from './lost-blocks.js';
import type { MomentRecords } from './moment-records.js';
import type { RestoreOptions } from './options.js';
import { type PointSource, PointWriter } from './point-writer.js';
import type { RestoreProgress } from './progress.js';
import { differingBlock, readsBackDifferently } from './verify-target.js';

export interface WritingParts {
  readonly options: RestoreOptions;
  readonly progress: RestoreProgress;
  /** Null: the point is all. */
  readonly records: MomentRecords | null;
  readonly lost: LostBlocks;
  readonly leftAlone: readonly BlockRange[];
  readonly onFlush: () => void;
}

const NO_HEAD = Buffer.alloc(0);

export class TargetWriting {
  readonly #target: RestoreTarget;
  readonly #source: PointSource;
  readonly #parts: WritingParts;
  readonly #inPlace: InPlaceRestore | null;

  constructor(target: RestoreTarget, source: PointSource, parts: WritingParts) {
    this.#target = target;
    this.#source = source;
    this.#parts = parts;
    this.#inPlace = target.isInPlace ? new InPlaceRestore(source, target) : null;
  }

  /** As a half restored target, or it may be. */
  get isMarked(): boolean {
    return this.#inPlace?.isMarked === true;
  }

  /** @param differing blocks; of the others the target has the point's bytes */
  async run(differing: readonly BlockRange[]): Promise<void> {
    const { progress, options } = this.#parts;
    const endPhase = progress.start('restore', rangesBytes(options.point.geometry, differing));
    try {
      if (this.#inPlace === null) await this.#writeNew(differing);
      else await this.#writeInPlace(this.#inPlace, differing);
    } finally {
      endPhase();
    }
  }

  async #writeNew(differing: readonly BlockRange[]): Promise<void> {
    const { device, isReused } = this.#target;
    const { records, options, onFlush } = this.#parts;
    const writer = new PointWriter(this.#source, device);
    try {
      await writer.write(differing, !isReused);
      onFlush();
      await writer.flush();
    } finally {
      await writer.close();
    }
    if (options.verify === true) await this.#verify();
    if (records !== null) await this.#writeRecords(records, device, NO_HEAD);
  }

  async #writeInPlace(inPlace: InPlaceRestore, differing: readonly BlockRange[]): Promise<void> {
    const { records, options } = this.#parts;
    const isVerified = options.verify === true;
    if (records === null) {
      await inPlace.run(differing, null);
      if (isVerified) await this.#verify();
      return;
    }
    await inPlace.run(differing, async (device, head) => {
      if (isVerified) await this.#verify([[0, headBlocks(options.point.geometry)]]);
      await this.#writeRecords(records, device, head);
    });
    if (isVerified) await this.#verifyHead(inPlace);
  }

  async #writeRecords(records: MomentRecords, device: Device, head: Buffer): Promise<void> {
    const { progress, options } = this.#parts;
    const endPhase = progress.start('journal', options.moment?.sizeBytes ?? 0);
    try {
      await records.apply({ device, head, onDone: (byteLength) => progress.count(byteLength, false) });
      await device.flush();
    } finally {
      endPhase();
    }
  }

  /** @param unwritten blocks that are still to be written */
  async #verify(unwritten: readonly BlockRange[] = []): Promise<void> {
    const { progress, options, lost, leftAlone } = this.#parts;
    const { tree } = this.#source;
    const alone = [...unwritten, ...leftAlone].sort((a, b) => a[0] - b[0]);
    const endPhase = progress.start('verify', tree.sizeBytes);
    try {
      const differing = await differingBlock({
        ...{ target: this.#target, source: this.#source, lost: lost.late, alone: mergeRanges(alone, []) },
        ...{ stateDirectory: options.stateDirectory, onProgress: progress.reach },
      });
      if (differing !== null) await this.#fail(`block ${differing}`, differing * tree.blockSize);
    } finally {
      endPhase();
    }
  }

  async #verifyHead({ head }: InPlaceRestore): Promise<void> {
    const isThere = (await this.#target.device.read(0, head.length)).equals(head);
    if (!isThere) await this.#fail(`what is in the first ${head.length} bytes`, 0);
  }

  async #fail(what: string, byteOffset: number): Promise<never> {
    await this.#inPlace?.mark();
    throw readsBackDifferently(this.#parts.options.target, what, byteOffset);
  }
}
