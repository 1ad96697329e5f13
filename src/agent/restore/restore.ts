/**
 * Restores a point to a block device, an image file or standard output. Every block is proven against the
 * point's digest tree before it is written; zeros are written wherever other bytes may have been. The tree
 * itself is proven by the point's root.
 *
 * A target that holds something is read first, in place, and only the differences are fetched and written
 * (target-tree.ts): a disk is rolled back for the price of its changes, and an interrupted restore continues.
 * A target that is written in place is marked as half restored meanwhile (in-place.ts).
 */

import { deviceError } from '../../devices/system/device-error.js';
import { StillpointError } from '../../domain/base/errors.js';
import { type BlockRange, rangesBytes } from '../../domain/blocks/block-ranges.js';
import { pointLabel } from '../../domain/point/point.js';
import { fetchingAt } from '../../domain/session/sending.js';
import { native, type TreeFile } from '../../native/index.js';
import { BodyCounter } from '../../protocol/port/body-counter.js';
import { throwIfCancelled, unlessAborted } from '../common/cancel.js';
import type { OnAgentEvent } from '../common/events.js';
import { retrying } from '../common/retrying.js';
import { everything } from '../target/block-requests.js';
import type { RestoreTarget } from '../target/port.js';
import { checkRoom } from '../target/room.js';
import { openTarget } from '../target/target.js';
import { fetchUnnamed, openPointTree, type PointTree } from '../tree/point-tree.js';
import { looksBlank, openTargetTree, type TargetTree } from '../tree/target-tree.js';
import { badRangeWarnings } from './bad-ranges.js';
import { excludedNotices, leftAlone, toWrite } from './left-alone.js';
import { knownLost, LostBlocks } from './lost-blocks.js';
import { MomentRecords } from './moment-records.js';
import type {
  PreparedRestore,
  RestoreOptions,
  RestoreReceiver,
  RestoreResult,
  TargetState,
} from './options.js';
import { FETCHING_UNMETERED, type PointSource } from './point-writer.js';
import { RestoreProgress } from './progress.js';
import { refuseStreamed, streamPoint } from './stream.js';
import { TargetWriting } from './writing.js';

export type { RestoreOptions, RestoreReceiver, RestoreResult } from './options.js';

export async function runRestore(options: RestoreOptions): Promise<RestoreResult> {
  const prepared = await prepareRestore(options);
  try {
    return await prepared.perform();
  } finally {
    await prepared.close();
  }
}

/** All that can be found out before the first byte is written. The caller closes it. */
export async function prepareRestore(options: RestoreOptions): Promise<PreparedRestore> {
  const { onEvent = () => undefined } = options;
  const restore = new Restore(options, onEvent);
  await told(options, async () => {
    if (options.target === '-' && options.verify === true) {
      throw new StillpointError('usage', {
        thing: 'standard output',
        reason: "what was written there can't be read back",
        remedy: 'Omit --verify: every block is proven before it is written.',
      });
    }
    throwIfCancelled(options.signal);
    try {
      await restore.prepare();
    } catch (error) {
      await restore.close();
      throw error;
    }
  });
  return {
    get target() {
      return restore.target;
    },
    get isToFile() {
      return restore.isToFile;
    },
    perform: () => told(options, () => restore.perform()),
    close: () => restore.close(),
  };
}

async function told<T>(
  { point, target, stateDirectory }: RestoreOptions,
  work: () => Promise<T>,
): Promise<T> {
  try {
    return await work();
  } catch (error) {
    const thing = target === '-' ? `point ${pointLabel(point)}` : target;
    throw deviceError(thing, error, { place: 'target', stateDirectory });
  }
}

/** State: new; prepared, if a target is open (a stream has none); performed, or failed; closed. */
class Restore {
  readonly #options: RestoreOptions;
  readonly #onEvent: OnAgentEvent;
  readonly #wire = new BodyCounter();
  readonly #receiver: RestoreReceiver;
  readonly #digester = native.plainDigester();
  readonly #signal: AbortSignal;
  readonly #progress: RestoreProgress;
  #differingBytes: number | null = null;
  readonly #warnings: string[] = [];
  readonly #lost: LostBlocks;
  readonly #leftAlone: readonly BlockRange[];
  /** Null: the point is all. */
  readonly #records: MomentRecords | null;
  #opened: RestoreTarget | null = null;
  #plan: Plan | null = null;
  #isToFile = false;
  #isBegun = false;
  #state: TargetState = 'untouched';

  constructor(options: RestoreOptions, onEvent: OnAgentEvent) {
    this.#options = options;
    this.#onEvent = onEvent;
    this.#lost = new LostBlocks(options.point);
    this.#leftAlone = leftAlone(options.point, options.zeroExcluded);
    this.#signal = options.signal ?? new AbortController().signal;
    this.#receiver = retrying(this.#wire.count(options.receiver), this.#signal);
    this.#progress = new RestoreProgress(onEvent, () => this.#wire.bytes);
    const { moment } = options;
    this.#records = moment == null ? null : new MomentRecords(this.#receiver, moment, this.#signal);
  }

  get target(): TargetState {
    return this.#state;
  }

  get isToFile(): boolean {
    return this.#isToFile;
  }

  async prepare(): Promise<void> {
    const { point, target } = this.#options;
    for (const text of badRangeWarnings(point)) this.#warn(text);
    for (const text of excludedNotices(point, target, this.#options.zeroExcluded)) this.#notice(text);
    await this.#records?.check();
    await this.#askWhatIsLost();
    if (target === '-') return refuseStreamed(this.#options, (await this.#records?.hasWrites()) ?? false);
    // Before anything is fetched: a target that must not be written to.
    const opened = await this.#openTarget(target);
    this.#opened = opened;
    this.#isToFile = opened.device.type === 'file';
    this.#plan = await this.#look(opened);
    this.#checkLost(this.#plan.differing);
    if (this.#isToFile) await checkRoom(opened.path, this.#plan.tree, this.#notice);
  }

  async perform(): Promise<RestoreResult> {
    if (this.#opened === null || this.#plan === null) await this.#toStream();
    else await this.#toDevice(this.#opened, this.#plan);
    return {
      writtenBytes: this.#progress.writtenBytes,
      readBytes: this.#progress.readBytes,
      differingBytes: this.#differingBytes,
      wireBytes: this.#wire.bytes,
      isVerified: this.#options.verify === true,
      lostRanges: this.#lost.ranges(),
      ...(this.#records === null ? {} : { moment: this.#records.restored }),
      warnings: this.#warnings,
    };
  }

  async close(): Promise<void> {
    const opened = this.#opened;
    this.#opened = null;
    try {
      await this.#closePlan();
      if (!this.#isBegun) await opened?.undo(false).catch(() => false);
    } finally {
      await opened?.close();
    }
  }

  async #closePlan(): Promise<void> {
    const plan = this.#plan;
    this.#plan = null;
    await plan?.close();
  }

  async #askWhatIsLost(): Promise<void> {
    const { point, skipBad = false } = this.#options;
    this.#lost.known = await unlessAborted(this.#signal, knownLost(this.#receiver, point));
    const what = this.#lost.describeKnown();
    if (what === null) return;
    this.#notice(skipBad ? `${what}. The target gets zeros there, unless it has these blocks already` : what);
  }

  /** Nothing is written yet. @param wanted what is to be fetched */
  #checkLost(wanted: readonly BlockRange[]): void {
    if (this.#options.skipBad === true) this.#lost.throwIfNothingIsWhole(wanted);
    else this.#lost.throwIfNeeded(wanted);
  }

  #openTarget(target: string): Promise<RestoreTarget> {
    const { point, overwrite = false, allowInUse = false, allowSectorSize = false } = this.#options;
    const { stateDirectory, storeDirectory } = this.#options;
    return openTarget(target, point, {
      ...{ overwrite, allowInUse, allowSectorSize, stateDirectory, storeDirectory },
      onNotice: this.#notice,
    });
  }

  readonly #notice = (text: string): void => this.#onEvent({ type: 'notice', text });

  #warn(text: string): void {
    this.#warnings.push(text);
    this.#onEvent({ type: 'warning', text });
  }

  async #toStream(): Promise<void> {
    const { output = process.stdout } = this.#options;
    const { tree, close } = await this.#pointTree();
    this.#checkLost(everything(tree));
    const stopReports = this.#progress.start('restore', tree.sizeBytes);
    try {
      const onProgress = (doneBytes: number) => {
        this.#progress.reach(doneBytes);
        this.#progress.writtenBytes = doneBytes;
      };
      await streamPoint({ ...this.#source(tree), output, onProgress });
    } finally {
      stopReports();
      await close();
    }
  }

  async #toDevice(target: RestoreTarget, { tree, differing }: Plan): Promise<void> {
    this.#isBegun = true;
    let writing: TargetWriting | null = null;
    try {
      try {
        const source = { ...this.#source(tree), onDone: this.#progress.count };
        writing = new TargetWriting(target, source, {
          ...{ options: this.#options, progress: this.#progress, records: this.#records, lost: this.#lost },
          ...{ leftAlone: this.#leftAlone, onFlush: () => this.#onEvent({ type: 'phase', phase: 'flush' }) },
        });
        await writing.run(differing);
      } finally {
        await this.#closePlan();
      }
      throwIfCancelled(this.#signal);
    } catch (error) {
      const isMarked = writing?.isMarked === true;
      const isUndone = await target.undo(isMarked).catch(() => false);
      if (!isUndone) this.#state = 'half-restored';
      if (isMarked && !isUndone) {
        const text = `${this.#options.target} is half restored, and marked so that no backup takes it for complete. Run the same restore again to continue`;
        this.#onEvent({ type: 'warning', text });
      }
      throw error;
    }
    if (target.isInPlace) this.#state = 'restored';
    if (this.#lost.ranges().length > 0 && (this.#records?.restored.writes ?? 0) > 0)
      this.#warn('what was lost of the point may have been written later: some of it may be whole');
    for (const text of await target.complete()) this.#warn(text);
    this.#state = 'restored';
  }

  #pointTree(): Promise<PointTree> {
    const { point, stateDirectory, skipBad = false } = this.#options;
    this.#onEvent({ type: 'phase', phase: 'fetch-tree' });
    if (skipBad) {
      // Never the local one, which stays the point's.
      const { parts } = this.#lost;
      return fetchUnnamed(this.#receiver, point, this.#digester, stateDirectory, this.#signal, parts);
    }
    return openPointTree(this.#receiver, point, this.#digester, stateDirectory, this.#signal);
  }

  /** The point's tree, and what of the target is to be written. */
  async #look(target: RestoreTarget): Promise<Plan> {
    const { point, rewrite = false } = this.#options;
    const isBlank =
      target.isReused && !rewrite && (await looksBlank(target.device, point.geometry.sizeBytes));
    if (isBlank) {
      const text = `${this.#options.target} looks blank, so it is written without being read first`;
      this.#notice(text);
    }
    if (!target.isReused || rewrite || isBlank) {
      const pointTree = await this.#pointTree();
      const { tree } = pointTree;
      return { tree, differing: toWrite(tree, this.#leftAlone), close: () => pointTree.close() };
    }
    const { tree, differing } = await this.#targetTree(target);
    this.#differingBytes = rangesBytes(point.geometry, differing);
    return { tree, differing, close: () => tree.close() };
  }

  #targetTree(target: RestoreTarget): Promise<TargetTree> {
    const { point, stateDirectory, skipBad = false } = this.#options;
    return openTargetTree({
      lost: skipBad ? this.#lost.parts : undefined,
      leftAlone: this.#leftAlone,
      ...{ receiver: this.#receiver, point, device: target.device, digester: this.#digester, stateDirectory },
      ...{
        signal: this.#signal,
        onEvent: this.#onEvent,
        watch: (scan) =>
          this.#progress.watch(scan, Math.min(target.device.sizeBytes, point.geometry.sizeBytes)),
      },
    });
  }

  #source(tree: TreeFile): Omit<PointSource, 'onDone'> {
    const { point, meter } = this.#options;
    const fetching = () => (meter === undefined ? FETCHING_UNMETERED : fetchingAt(meter.speed));
    const onLost = this.#options.skipBad === true ? (block: number) => this.#lost.add(block) : undefined;
    return { receiver: this.#receiver, point, tree, fetching, signal: this.#signal, onLost };
  }
}

interface Plan {
  readonly tree: TreeFile;
  readonly differing: readonly BlockRange[];
  close(): Promise<void>;
}
