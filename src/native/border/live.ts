/**
 * The part of the border for copies of devices in use (native/core/live/live_copy.h); rules as in
 * ../index.ts.
 */
import type { Device } from './device.js';
import type { Tracker } from './track.js';

export interface LiveCopyOptions {
  /** Of the session, in bytes. */
  readonly blockSize: number;
  /** What may be held in memory before the cut, and what the cut may read, also before the freeze. */
  readonly stagingMaxBytes: number;
  readonly cutMaxBytes: number;
}

/** What was written since it was shipped or staged, or was never read yet. */
export interface PendingMarks {
  readonly grains: number;
  /** Of whole blocks. */
  readonly shipBytes: number;
  /** What staging would add to the memory in use. */
  readonly stageBytes: number;
  /** What staging, or the cut, would read. */
  readonly readBytes: number;
  readonly stagedBytes: number;
}

export interface CutReport {
  /** `none`: it ended before it was complete. */
  readonly state: 'none' | 'complete' | 'too-much' | 'failed';
  readonly wantedBytes: number;
  /** Of these, what was read before the freeze. */
  readonly aheadBytes: number;
  /** An errno, of `failed`. */
  readonly error: number;
  readonly errorOffset: number;
  /** Bytes [begin, end) of the device that were written while the cut was taken; the first ones. */
  readonly writtenBytes: readonly (readonly [number, number])[];
  /** There are others. */
  readonly isWrittenMore: boolean;
  readonly marksMs: number;
  readonly readMs: number;
}

export interface LiveCopy {
  /** First, once. */
  begin(options: { readonly everything: boolean; readonly sampleBlocks: readonly number[] }): Promise<void>;
  collect(): Promise<PendingMarks>;
  /** All that is pending, in blocks: it is pending no more, and to be read from the device now. */
  ship(): Promise<readonly (readonly [number, number])[]>;
  /** Reads all that is pending into memory. */
  stage(): Promise<void>;
  /** Makes pending again what was submitted since the last point, or everything. */
  doubt(what: 'queued' | 'everything'): Promise<void>;
  /** Before each cut, with the `readBytes` of the last pass: what the cut may take of memory goes by them. */
  prepareCut(readBytes: number): Promise<void>;
  /** For `stillpoint-freezer --cut`, in its order. They stay the copy's. */
  descriptors(): readonly number[];
  /**
   * Whether no process takes a cut, or may be about to. Before that, nothing but a complete report is final,
   * and nothing else may go on.
   */
  cutHasEnded(): boolean;
  /** What has become of the cut. Unless it is accepted, all goes on, and what it took is pending again. */
  report(): Promise<CutReport>;
  /** Of a complete cut. Then the view can be opened. */
  accept(): Promise<void>;
  /**
   * Of an accepted cut: whether no byte in [begin, end) was written from the last `collect` before it until
   * now. A neighbour in the same block or grain counts.
   */
  isUntouched(beginByte: number, endByte: number): Promise<boolean>;
  /** Of the view: blocks that it holds and that may differ from the base point. */
  changedBlocks(): readonly (readonly [number, number])[];
  /** Of the sample, blocks that nothing has written to. */
  unchangedSample(): readonly number[];
  /** Reads of other blocks than these reject with `not-held`. */
  openView(): Device;
  close(): Promise<void>;
}

export interface LiveAddon {
  /**
   * The device is a block device, opened with O_DIRECT; it and the tracker must not close before the copy.
   */
  createLiveCopy(device: Device, tracker: Tracker, options: LiveCopyOptions): Promise<LiveCopy>;
}
