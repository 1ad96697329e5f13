/**
 * Which blocks of a device differ from a point? The device is digested here, the point's tree is at the
 * receiver, and the descent of both (tree-descent.ts) exchanges only digests. `deep` does not trust the
 * receiver's tree: the receiver reads its stored bytes and digests them again. Rotten bytes are reported as
 * its damage, not as a change of the device.
 *
 * Nothing is changed, except with `mark`: the map of the device's tap is then valid for the point, and names
 * the differences.
 */

import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import type { Conclusion, Snapshot, SnapshotProvider } from '../../capture/ports.js';
import { offlineProvider } from '../../capture/providers/offline/offline.js';
import { describeHalfRestored, readMark } from '../../devices/facts/half-restored.js';
import { deviceError } from '../../devices/system/device-error.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { TREE_FANOUT } from '../../domain/base/limits.js';
import { type BlockRange, mergeRanges, withoutRanges } from '../../domain/blocks/block-ranges.js';
import { BlockSet } from '../../domain/blocks/block-set.js';
import { coverageOf } from '../../domain/blocks/coverage.js';
import { blockCount, sameGeometry } from '../../domain/blocks/geometry.js';
import { excludedBlocks } from '../../domain/point/excluded.js';
import { type ConsistencyKind, type Point, pointLabel } from '../../domain/point/point.js';
import type { Direction } from '../../domain/session/compare-direction.js';
import { native, type Scan, type TreeFile } from '../../native/index.js';
import { BodyCounter } from '../../protocol/port/body-counter.js';
import type { NodeSource } from '../../protocol/port/point.js';
import { everyInterval, type OnAgentEvent } from '../common/events.js';
import { retrying } from '../common/retrying.js';
import { treeFileBytes, withScratch } from '../common/scratch.js';
import { geometryOf } from '../state/device-state.js';
import { digestDevice, treeInGeometry } from '../tree/digest-device.js';
import { concludeProven, PartlyRead } from '../tree/second-reading.js';
import { descend } from '../tree/tree-descent.js';
import { type CheckSource, checkStored, type DamagedRange } from './check-stored.js';

/** What a comparison asks a receiver for. */
export type CompareReceiver = NodeSource & CheckSource;

export interface CompareOptions {
  readonly receiver: CompareReceiver;
  readonly point: Point;
  /** Block device or image file. */
  readonly path: string;
  readonly stateDirectory: string;
  readonly provider?: SnapshotProvider | undefined;
  /** The receiver digests its stored bytes again. */
  readonly deep?: boolean | undefined;
  /** Bytes [start, end), widened to whole blocks; ascending, apart. Default: all. */
  readonly byteRanges?: readonly (readonly [number, number])[] | undefined;
  /**
   * Whose digests cross the wire. Default: for each node what costs less; with `mark` always the
   * receiver's, which are proven.
   */
  readonly direction?: Direction | undefined;
  /** Have the device's tap remember what differs. */
  readonly mark?: boolean | undefined;
  readonly fuzzy?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: OnAgentEvent | undefined;
}

export interface CompareResult {
  /**
   * Blocks of the point's size, in the device's or the point's extent, whichever is longer.
   * Unreadable ones are among them.
   */
  readonly differing: BlockSet;
  /** At the receiver; only looked for with `deep`. */
  readonly damaged: readonly DamagedRange[];
  /** Of the device. */
  readonly unreadableBlocks: readonly number[];
  readonly deviceSizeBytes: number;
  readonly scannedBytes: number;
  /** Bodies of all messages, both ways together. */
  readonly wireBytes: number;
  readonly kind: ConsistencyKind;
  readonly warnings: readonly string[];
}

/** @throws StillpointError; `bad-digest` where the receiver's digests do not prove the point */
export async function runCompare(options: CompareOptions): Promise<CompareResult> {
  const { path, point, provider = offlineProvider } = options;
  const signal = options.signal ?? new AbortController().signal;
  try {
    const snapshot = await provider.hold(path, {
      ...{ sessionId: randomBytes(16).toString('hex'), blockSize: point.geometry.blockSize },
      ...{
        basePointId: null,
        full: true,
        doubt: null,
        fuzzy: options.fuzzy ?? false,
        commits: false,
        signal,
      },
    });
    try {
      if (options.mark === true) checkCanMark(options, snapshot);
      return await new Comparison(options, snapshot, signal).run();
    } catch (error) {
      throw (await snapshot.lost?.()) ?? error;
    } finally {
      await snapshot.release();
    }
  } catch (error) {
    throw deviceError(path, error, { stateDirectory: options.stateDirectory });
  }
}

class Comparison {
  readonly #options: CompareOptions;
  readonly #snapshot: Snapshot;
  readonly #digester = native.plainDigester();
  readonly #signal: AbortSignal;
  readonly #wire = new BodyCounter();
  readonly #receiver: CompareReceiver;
  readonly #onEvent: OnAgentEvent;
  /** Of the point's block size; undefined: all. */
  readonly #ranges: readonly BlockRange[] | undefined;
  readonly #differing = new BlockSet();
  /** Could not be compared, since the receiver can't read its tree there; ascending, apart. */
  #unknown: readonly BlockRange[] = [];
  /** What the view was worth, once it has been read. */
  #conclusion: Pick<Conclusion, 'kind' | 'warnings'>;
  #scannedBytes = 0;

  constructor(options: CompareOptions, snapshot: Snapshot, signal: AbortSignal) {
    this.#options = options;
    this.#snapshot = snapshot;
    this.#conclusion = { kind: snapshot.kind, warnings: [] };
    this.#signal = signal;
    this.#receiver = retrying(this.#wire.count(options.receiver), signal);
    this.#onEvent = options.onEvent ?? (() => undefined);
    this.#ranges = this.#rangesToCompare();
  }

  async run(): Promise<CompareResult> {
    const { path, deep = false, mark = false } = this.#options;
    const damaged = deep ? await this.#checkStored() : [];
    const halfRestored = await readMark(this.#snapshot.device);
    const unreadableBlocks = await withScratch(
      this.#options.stateDirectory,
      2 * treeFileBytes(this.#options.point.geometry),
      (directory) => this.#compare(directory, damaged),
    );
    const { kind, warnings } = this.#conclusion;
    if (mark) await this.#mark();
    return {
      ...{ differing: this.#differing, damaged, unreadableBlocks, kind },
      deviceSizeBytes: this.#snapshot.device.sizeBytes,
      scannedBytes: this.#scannedBytes,
      wireBytes: this.#wire.bytes,
      warnings: [
        ...(halfRestored === null ? [] : [`${path}: ${describeHalfRestored(halfRestored)}`]),
        ...[...this.#snapshot.warnings, ...warnings],
      ],
    };
  }

  async #compare(directory: string, damaged: readonly DamagedRange[]): Promise<readonly number[]> {
    const { point } = this.#options;
    const { device, passes } = this.#snapshot;
    this.#onEvent({ type: 'phase', phase: 'compare' });
    const ranges = this.#ranges && within(this.#ranges, device.sizeBytes / point.geometry.blockSize);
    const partlyRead = new PartlyRead(this.#digester);
    const { tree, badBlocks } = await digestDevice({
      ...{ device, passes, blockSize: point.geometry.blockSize, digester: this.#digester },
      path: join(directory, 'device'),
      ...{ ranges, signal: this.#signal, onBad: (block) => partlyRead.add(block) },
      watch: (scan) => this.#watch(scan),
    });
    try {
      await this.#conclude(tree, ranges, partlyRead, join(directory, 'second'));
    } catch (error) {
      await tree.close();
      throw error;
    }
    this.#addTail(tree);
    const own = await treeInGeometry(tree, join(directory, 'tree'), point.geometry);
    try {
      await this.#descendAround(own, damaged);
    } finally {
      await own.close();
    }
    for (const blockIndex of badBlocks) this.#differing.add(blockIndex);
    return badBlocks;
  }

  async #conclude(
    tree: TreeFile,
    ranges: readonly BlockRange[] | undefined,
    partlyRead: PartlyRead,
    scratchPath: string,
  ): Promise<void> {
    const { path, fuzzy = false } = this.#options;
    this.#conclusion = await concludeProven({
      ...{ snapshot: this.#snapshot, path, fuzzy, tree, overlay: null, ranges, partlyRead, scratchPath },
      ...{ signal: this.#signal, onEvent: this.#onEvent, watch: (scan) => this.#watch(scan) },
    });
  }

  #watch(scan: Scan): () => void {
    const stop = everyInterval(() => this.#reportProgress(scan.progress().scannedBytes));
    return () => {
      stop();
      this.#scannedBytes += scan.progress().scannedBytes;
    };
  }

  async #descendAround(own: TreeFile, damaged: readonly DamagedRange[]): Promise<void> {
    try {
      await this.#descend(own, this.#ranges);
    } catch (error) {
      if (damaged.length === 0 || !isStillpointError(error, 'store-damaged')) throw error;
      // A node was needed that is damaged. What lies under it was told as damaged already;
      // all else can be compared.
      this.#unknown = mergeRanges(
        damaged.map(({ blocks }) => blocks),
        [],
      );
      await this.#descend(own, withoutRanges(this.#ranges ?? [[0, own.blockCount]], this.#unknown));
    }
  }

  #descend(own: TreeFile, ranges: readonly BlockRange[] | undefined): Promise<void> {
    const { point, mark = false } = this.#options;
    // A map that was made on an unproven word would leave a change out for good.
    const direction = mark ? 'fetch' : (this.#options.direction ?? 'cheaper');
    return descend({
      ...{ receiver: this.#receiver, point, own, direction, signal: this.#signal },
      covers:
        ranges &&
        ((level, index) => {
          const width = TREE_FANOUT ** level;
          return coverageOf(ranges, [index * width, Math.min((index + 1) * width, own.blockCount)]);
        }),
      onLeaves: (blockIndex, count) => this.#differing.addRange([blockIndex, blockIndex + count]),
    });
  }

  /**
   * What the device has beyond the point's last whole block: where that has nothing, or another length,
   * only zeros are the same.
   */
  #addTail(tree: TreeFile): void {
    const { geometry } = this.#options.point;
    if (sameGeometry(geometryOf(tree), geometry)) return;
    const sizeBytes = Math.min(tree.sizeBytes, geometry.sizeBytes);
    const firstBlock = Math.floor(sizeBytes / geometry.blockSize);
    for (let start = tree.nextNonNull(firstBlock); start < tree.blockCount; ) {
      const end = tree.nextNull(start);
      this.#differing.addRange([start, end]);
      start = tree.nextNonNull(end);
    }
  }

  #checkStored(): Promise<DamagedRange[]> {
    const { point } = this.#options;
    const ranges = this.#ranges && within(this.#ranges, blockCount(point.geometry));
    const [receiver, signal, onEvent] = [this.#receiver, this.#signal, this.#onEvent];
    return checkStored({ receiver, point, ranges, signal, onEvent });
  }

  async #mark(): Promise<void> {
    const { tracking } = this.#snapshot;
    const ranges = [...this.#differing.ranges(), ...this.#unknown].sort(([a], [b]) => a - b);
    await tracking?.adopt(
      this.#options.point.id,
      mergeRanges(ranges, []),
      this.#options.byteRanges === undefined,
    );
  }

  #reportProgress(doneBytes: number): void {
    const totalBytes = this.#snapshot.device.sizeBytes;
    this.#onEvent({ type: 'progress', doneBytes, totalBytes, wireBytes: this.#wire.bytes });
  }

  /** What the point leaves out says nothing of the device. */
  #rangesToCompare(): readonly BlockRange[] | undefined {
    const { point, byteRanges } = this.#options;
    const wanted = byteRanges && this.#toBlocks(byteRanges);
    const excluded = excludedBlocks(point);
    if (excluded.length === 0) return wanted;
    const { sizeBytes } = this.#snapshot.device;
    const { blockSize } = point.geometry;
    const end = blockCount({ sizeBytes: Math.max(sizeBytes, point.geometry.sizeBytes), blockSize });
    return withoutRanges(wanted ?? [[0, end]], excluded);
  }

  #toBlocks(byteRanges: readonly (readonly [number, number])[]): BlockRange[] {
    const { blockSize } = this.#options.point.geometry;
    return mergeRanges(
      byteRanges.map(([start, end]) => [Math.floor(start / blockSize), Math.ceil(end / blockSize)]),
      [],
    );
  }
}

function within(ranges: readonly BlockRange[], count: number): BlockRange[] {
  return ranges
    .filter(([start]) => start < count)
    .map(([start, end]): BlockRange => [start, Math.min(end, Math.ceil(count))]);
}

function checkCanMark({ path, point, byteRanges }: CompareOptions, { tracking }: Snapshot): void {
  if (tracking === undefined) {
    throw new StillpointError('usage', {
      thing: path,
      reason: 'no tap serves it, so there is no map to write the differences into',
      remedy: 'Put one on it with "stillpoint tap add", or omit --mark.',
    });
  }
  if (byteRanges !== undefined && !tracking.knows(point.id)) {
    throw new StillpointError('usage', {
      thing: path,
      reason: `what is known of its changes is not valid for point ${pointLabel(point)}, and comparing ranges can't make it valid`,
      remedy: 'Omit --ranges to compare the whole device.',
    });
  }
}
