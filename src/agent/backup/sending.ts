/**
 * Scans parts of a device and sends what differs from what is known of it: the base, and over it what was
 * sent before. One for each session; parts go one after the other.
 *
 * State: the number of the last batch, the bad ranges, and what was counted, only grow; but what could not be
 * read of a block is forgotten when the block is read again.
 */
import { BATCH_RAW_BYTES_TARGET } from '../../domain/base/limits.js';
import { type BlockRange, rangeBytes } from '../../domain/blocks/block-ranges.js';
import type { BadRange, ProviderFacts } from '../../domain/point/point.js';
import { partsToScan, type ScanPart } from '../../domain/session/resume.js';
import { type Device, type LeafOverlay, native, type Scan } from '../../native/index.js';
import { throwIfCancelled } from '../common/cancel.js';
import { Pace } from '../common/pace.js';
import { retrying } from '../common/retrying.js';
import { BadBlockRepair } from '../send/bad-block-repair.js';
import { sendChanges } from '../send/sender.js';
import type { PreparedBase } from './base.js';
import type { BegunSession, SessionContext } from './context.js';
import type { Emptied } from './exclusion.js';

/**
 * Of changed blocks that are read and not encoded yet: some batches ahead of those that are being prepared.
 */
const SCAN_MEMORY_BYTES = 8 * BATCH_RAW_BYTES_TARGET;

export interface ScanTarget extends PreparedBase {
  /** Takes the leaves that differ from what is known. */
  readonly overlay: LeafOverlay;
}

export class Sending {
  readonly repair: BadBlockRepair;
  readonly #context: SessionContext;
  readonly #session: BegunSession;
  readonly #target: ScanTarget;
  readonly #pace: Pace;
  #lastSequence: number;
  #passCount = 0;
  #againBytes = 0;

  constructor(context: SessionContext, session: BegunSession, target: ScanTarget) {
    const { options, view } = context;
    const { meter = null, compressionLevel = 'auto' } = options;
    this.#context = context;
    this.#session = session;
    this.#target = target;
    this.#pace = new Pace(meter, compressionLevel);
    this.#lastSequence = session.answer.durableSequence;
    this.repair = new BadBlockRepair({
      receiver: retrying(context.receiver, session.link.signal),
      path: options.path,
      basePoint: session.answer.base,
      baseTree: target.tree,
      onWarning: (text) => context.warn(text),
      whyLost: async () => (await view.lost?.()) ?? null,
    });
  }

  /** All batches are durable. */
  get batchCount(): number {
    return this.#lastSequence;
  }

  get badRanges(): readonly BadRange[] {
    return this.repair.badRanges;
  }

  /** What the passes have cost, for the point. */
  get facts(): ProviderFacts {
    return { passes: this.#passCount, sentAgainBytes: this.#againBytes };
  }

  /** @param device as it is; it may change meanwhile */
  async sendPass(device: Device, ranges: readonly BlockRange[]): Promise<void> {
    const { size } = this.#context;
    this.#passCount += 1;
    const toReadBytes = ranges.reduce((sum, [start, end]) => sum + rangeBytes(size, start, end), 0);
    const [pass, sentAgainBytes] = [this.#passCount, this.#againBytes];
    this.#context.onEvent({ type: 'pass', pass, toReadBytes, sentAgainBytes });
    await this.send(device, ranges, toReadBytes);
  }

  /**
   * @param ranges undefined: all of the device
   * @param totalBytes for the progress, if not all of the device
   */
  async send(
    device: Device,
    ranges: readonly BlockRange[] | undefined,
    totalBytes?: number | undefined,
  ): Promise<void> {
    const { tree } = this.#target;
    const { answer } = this.#session;
    this.repair.begin(ranges);
    const durableBytes = answer.durableBlockEnd * tree.blockSize;
    for (const part of partsToScan(ranges, answer, tree.blockCount)) {
      const beforeBytes = part.isDurable ? 0 : durableBytes;
      await this.#withScan({ device, part, beforeBytes, totalBytes }, (scan) => this.#sendPart(scan, part));
    }
  }

  /**
   * After all else: they lie all over the device, and a session that is resumed goes by how far the device
   * was sent. They go again then, which costs a few bytes.
   */
  async sendEmptied({ device, ranges }: Emptied): Promise<void> {
    const part = { ranges, isDurable: false };
    await this.#withScan({ device, part, beforeBytes: 0, totalBytes: undefined, isQuiet: true }, (scan) =>
      this.#sendPart(scan, part),
    );
  }

  async #sendPart(scan: Scan, { isDurable }: ScanPart): Promise<void> {
    const { findings, options } = this.#context;
    const pace = this.#pace;
    this.#lastSequence = await sendChanges({
      ...{ scan, link: this.#session.link, repair: this.repair, pace, isDurable },
      ...{ baseTree: this.#target.tree, overlay: this.#target.overlay, lastSequence: this.#lastSequence },
      onAgain: (byteLength) => {
        this.#againBytes += byteLength;
      },
      patch: findings.sendsWholeBlocks ? 'never' : (options.patch ?? 'auto'),
      linkBytesPerSecond: options.meter === undefined ? undefined : () => pace.bytesPerSecond,
    });
  }

  async #withScan(
    { device, part: { ranges }, beforeBytes, totalBytes, isQuiet = false }: Scanning,
    use: (scan: Scan) => Promise<void>,
  ): Promise<void> {
    const { signal } = this.#session.link;
    const scan = native.createScan(device, {
      ...{ base: this.#target.tree, overlay: this.#target.overlay },
      ...{ chunkBytes: BATCH_RAW_BYTES_TARGET, memoryBytes: SCAN_MEMORY_BYTES },
      ...(ranges === undefined ? {} : { ranges }),
    });
    const cancelScan = () => scan.cancel();
    signal.addEventListener('abort', cancelScan, { once: true });
    const stopWatching = isQuiet ? () => undefined : this.#context.watch(scan, beforeBytes, totalBytes);
    try {
      throwIfCancelled(this.#context.signal);
      await use(scan);
      this.#againBytes += scan.progress().againBytes;
    } finally {
      stopWatching();
      signal.removeEventListener('abort', cancelScan);
      scan.cancel();
      await scan.close();
    }
  }
}

interface Scanning {
  readonly device: Device;
  readonly part: ScanPart;
  /** What of the device lies before it. */
  readonly beforeBytes: number;
  readonly totalBytes: number | undefined;
  /** Nothing of the device is read: it does not count. */
  readonly isQuiet?: boolean;
}
