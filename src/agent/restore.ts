/**
 * Restores a point to a block device, an image file or standard output. Every block is proven against the point's digest tree before
 * it is written; zeros are written as zeros wherever other bytes may have been. The tree itself is proven by the point's root.
 */
import type { Writable } from 'node:stream';
import { deviceError } from '../devices/device-error.js';
import { StillpointError } from '../domain/errors.js';
import type { Point } from '../domain/point.js';
import { native, type RestoreWriter, type TreeFile } from '../native/index.js';
import type { ReceiverPort } from '../protocol/receiver-port.js';
import { blockGroups, fetchGroup, zeroRuns } from './block-requests.js';
import { retrying, throwIfCancelled, unlessAborted } from './cancel.js';
import { everyInterval, type OnAgentEvent } from './events.js';
import { InFlight } from './in-flight.js';
import { openPointTree } from './point-tree.js';
import { streamPoint } from './restore-stream.js';
import { openTarget, type RestoreTarget } from './restore-target.js';
import { WireCounter } from './wire-counter.js';

const GROUPS_IN_FLIGHT = 4;

export interface RestoreOptions {
  readonly receiver: ReceiverPort;
  readonly point: Point;
  /** Block device, image file, or `-` for `output`. */
  readonly target: string;
  /** Where `-` goes. Default: standard output. It is not ended. */
  readonly output?: Writable | undefined;
  readonly stateDirectory: string;
  /** Replace an image file that is not empty. */
  readonly overwrite?: boolean | undefined;
  /** Write although the target is mounted or open. */
  readonly allowInUse?: boolean | undefined;
  /** Write to a block device of another logical sector size than the point's. */
  readonly allowSectorSize?: boolean | undefined;
  /** Read the target back and compare it with the point. */
  readonly verify?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: OnAgentEvent | undefined;
}

export interface RestoreResult {
  /** Raw bytes fetched and written, zeros not counted. */
  readonly writtenBytes: number;
  readonly wireBytes: number;
  readonly isVerified: boolean;
  readonly warnings: readonly string[];
}

export async function runRestore(options: RestoreOptions): Promise<RestoreResult> {
  const { point, target, signal, onEvent = () => undefined } = options;
  try {
    if (target === '-' && options.verify === true) {
      throw new StillpointError('usage', {
        thing: 'standard output',
        reason: 'what was written there can not be read back',
        remedy: 'Leave the verification away: every block is proven before it is written.',
      });
    }
    throwIfCancelled(signal);
    return await new Restore(options, onEvent).run();
  } catch (error) {
    throw deviceError(target === '-' ? `point ${point.device}@${point.sequence}` : target, error);
  }
}

class Restore {
  readonly #options: RestoreOptions;
  readonly #onEvent: OnAgentEvent;
  readonly #wire: WireCounter;
  readonly #receiver: ReceiverPort;
  readonly #signal: AbortSignal;
  #writtenBytes = 0;
  #doneBytes = 0;

  constructor(options: RestoreOptions, onEvent: OnAgentEvent) {
    this.#options = options;
    this.#onEvent = onEvent;
    this.#wire = new WireCounter(options.receiver);
    this.#signal = options.signal ?? new AbortController().signal;
    this.#receiver = retrying(this.#wire, this.#signal);
  }

  async run(): Promise<RestoreResult> {
    const { point, target, verify = false } = this.#options;
    const warnings = badRangeWarnings(point);
    for (const text of warnings) this.#onEvent({ type: 'warning', text });
    // Before anything is fetched: a target that must not be written to.
    const opened = target === '-' ? null : await this.#openTarget(target);
    try {
      this.#onEvent({ type: 'phase', phase: 'fetch-tree' });
      const { stateDirectory } = this.#options;
      const pointTree = await openPointTree(this.#receiver, point, stateDirectory, this.#signal);
      try {
        if (opened === null) await this.#toStream(pointTree.tree);
        else await this.#toDevice(opened, pointTree.tree);
      } finally {
        await pointTree.close();
      }
    } finally {
      await opened?.close();
    }
    return {
      writtenBytes: this.#writtenBytes,
      wireBytes: this.#wire.bytes,
      isVerified: verify,
      warnings,
    };
  }

  #openTarget(target: string): Promise<RestoreTarget> {
    const { point, overwrite = false, allowInUse = false, allowSectorSize = false } = this.#options;
    return openTarget(target, point, {
      overwrite,
      allowInUse,
      allowSectorSize,
      onNotice: (text) => this.#onEvent({ type: 'notice', text }),
    });
  }

  async #toStream(tree: TreeFile): Promise<void> {
    const stopReports = this.#startPhase('restore', tree);
    try {
      await streamPoint({
        receiver: this.#receiver,
        point: this.#options.point,
        tree,
        output: this.#options.output ?? process.stdout,
        signal: this.#signal,
        onProgress: (doneBytes) => {
          this.#doneBytes = doneBytes;
          this.#writtenBytes = doneBytes;
        },
      });
    } finally {
      stopReports();
    }
  }

  async #toDevice(target: RestoreTarget, tree: TreeFile): Promise<void> {
    try {
      await this.#writeAll(target, tree);
    } catch (error) {
      if (target.isReused) {
        const text = `${this.#options.target} is half written: it holds neither what it held before nor the point; restore it again`;
        this.#onEvent({ type: 'warning', text });
      }
      throw error;
    }
    throwIfCancelled(this.#signal);
    await target.complete();
  }

  async #writeAll(target: RestoreTarget, tree: TreeFile): Promise<void> {
    const writer = native.createRestoreWriter(target.device, tree);
    try {
      const stopReports = this.#startPhase('restore', tree);
      try {
        await this.#writeZeros(writer, tree, target.isReused);
        await this.#writeBlocks(writer, tree);
      } finally {
        stopReports();
      }
      this.#onEvent({ type: 'phase', phase: 'flush' });
      await writer.flush();
      if (this.#options.verify === true) await this.#verify(writer, tree);
    } finally {
      await writer.close();
    }
  }

  /** A new image has holes there already. */
  async #writeZeros(writer: RestoreWriter, tree: TreeFile, isReused: boolean): Promise<void> {
    for (const { byteOffset, byteLength } of zeroRuns(tree)) {
      throwIfCancelled(this.#signal);
      if (isReused) await writer.zero(byteOffset, byteLength);
      this.#doneBytes += byteLength;
    }
  }

  async #writeBlocks(writer: RestoreWriter, tree: TreeFile): Promise<void> {
    const groups = new InFlight(GROUPS_IN_FLIGHT);
    const { point } = this.#options;
    try {
      for (const group of blockGroups(tree)) {
        throwIfCancelled(this.#signal);
        const work = () =>
          fetchGroup(this.#receiver, point, group, async (body) => {
            const { writtenBytes } = await writer.write(body, point.id);
            this.#writtenBytes += writtenBytes;
            this.#doneBytes += writtenBytes;
          });
        await unlessAborted(this.#signal, groups.start(work));
      }
      await unlessAborted(this.#signal, groups.drain());
    } finally {
      await groups.settle();
    }
  }

  async #verify(writer: RestoreWriter, tree: TreeFile): Promise<void> {
    const stopReports = this.#startPhase('verify', tree);
    try {
      const differing = await unlessAborted(
        this.#signal,
        writer.verify((doneBytes) => {
          this.#doneBytes = doneBytes;
        }),
      );
      if (differing === null) return;
      throw new StillpointError('bad-digest', {
        thing: this.#options.target,
        reason: `block ${differing} (byte ${differing * tree.blockSize}) reads back with other bytes than were written`,
        remedy: 'The target is failing, or something else writes to it: choose another one.',
      });
    } finally {
      stopReports();
    }
  }

  #startPhase(phase: 'restore' | 'verify', tree: TreeFile): () => void {
    this.#doneBytes = 0;
    this.#onEvent({ type: 'phase', phase });
    return everyInterval(() => {
      this.#onEvent({
        type: 'progress',
        doneBytes: this.#doneBytes,
        totalBytes: tree.sizeBytes,
        wireBytes: this.#wire.bytes,
      });
    });
  }
}

const RANGES_NAMED_MAX = 10;

function badRangeWarnings({ badRanges, device, sequence }: Point): string[] {
  const named = badRanges.slice(0, RANGES_NAMED_MAX).map(({ byteOffset, byteLength, content }) => {
    const held = content === 'previous' ? 'the content of an earlier point' : 'a marker, no data';
    return `${device}@${sequence}: ${byteLength} bytes at byte ${byteOffset} could not be read when it was taken; they hold ${held}`;
  });
  const rest = badRanges.length - named.length;
  return rest > 0 ? [...named, `${device}@${sequence}: ${rest} more ranges could not be read`] : named;
}
