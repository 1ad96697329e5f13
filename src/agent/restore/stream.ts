/**
 * A point as a stream of bytes from first to last: requests run ahead; blocks are proven and handed on in
 * order.
 */
import { once } from 'node:events';
import type { Writable } from 'node:stream';
import { StillpointError } from '../../domain/base/errors.js';
import { MiB } from '../../domain/base/limits.js';
import { systemError } from '../../domain/base/system-errors.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { Fetching } from '../../domain/session/sending.js';
import type { TreeFile } from '../../native/index.js';
import type { BlockSource } from '../../protocol/port/point.js';
import { throwIfCancelled, unlessAborted } from '../common/cancel.js';
import { blockGroups } from '../target/block-requests.js';
import { fetchBlocks } from './point-writer.js';

const GROUPS_AHEAD = 3;
const ZEROS = Buffer.alloc(MiB);

export interface StreamOptions {
  readonly receiver: BlockSource;
  readonly point: Point;
  readonly tree: TreeFile;
  readonly output: Writable;
  readonly fetching: () => Fetching;
  readonly signal: AbortSignal;
  readonly onProgress: (doneBytes: number) => void;
  readonly onLost?: ((blockIndex: number) => void) | undefined;
}

/** @throws StillpointError `usage`: of a moment, what was written after its base can't go into a stream */
export function refuseStreamed({ point }: Pick<StreamOptions, 'point'>, hasWrites: boolean): void {
  if (!hasWrites) return;
  throw new StillpointError('usage', {
    thing: 'standard output',
    reason: `the state of that time is ${pointLabel(point)} and what was written after it, and that can't be written over a stream`,
    remedy: `Restore to an image file, or only ${pointLabel(point)}.`,
  });
}

interface FetchedGroup {
  readonly group: readonly number[];
  readonly blocks: Promise<Buffer[]>;
}

export async function streamPoint(options: StreamOptions): Promise<void> {
  const { tree, signal } = options;
  const writer = new OrderedWriter(options);
  const ahead: FetchedGroup[] = [];
  const writeFirst = async () => {
    const first = ahead.shift();
    if (first === undefined) return;
    const blocks = await unlessAborted(signal, first.blocks);
    for (const [position, blockIndex] of first.group.entries()) {
      await writer.zerosUpTo(blockIndex * tree.blockSize);
      await writer.write(blocks[position] ?? Buffer.alloc(0));
    }
  };
  try {
    for (const group of blockGroups(tree, undefined, () => options.fetching().rawBytes)) {
      const blocks = fetchBlocks({ ...options, onDone: () => undefined }, group);
      blocks.catch(() => undefined); // It is awaited in its turn; until then nobody listens.
      ahead.push({ group, blocks });
      if (ahead.length > GROUPS_AHEAD) await writeFirst();
    }
    while (ahead.length > 0) await writeFirst();
    await writer.zerosUpTo(tree.sizeBytes);
    await writer.finish();
  } finally {
    await Promise.allSettled(ahead.map(({ blocks }) => blocks));
  }
}

/** Writes with backpressure and knows how far it is. */
class OrderedWriter {
  readonly #output: Writable;
  readonly #signal: AbortSignal;
  readonly #onProgress: (doneBytes: number) => void;
  #doneBytes = 0;
  #failure: Error | null = null;

  constructor({ output, signal, onProgress }: StreamOptions) {
    this.#output = output;
    this.#signal = signal;
    this.#onProgress = onProgress;
    // It stays: what was written may still fail when the restore has ended for another reason.
    output.on('error', (error) => {
      this.#failure = error;
    });
  }

  async zerosUpTo(byteOffset: number): Promise<void> {
    while (this.#doneBytes < byteOffset) {
      await this.write(ZEROS.subarray(0, Math.min(ZEROS.length, byteOffset - this.#doneBytes)));
    }
  }

  async write(bytes: Buffer): Promise<void> {
    throwIfCancelled(this.#signal);
    const hasRoom = this.#output.write(bytes);
    if (!hasRoom) await this.#drained();
    this.#throwIfClosed();
    this.#doneBytes += bytes.length;
    this.#onProgress(this.#doneBytes);
  }

  /** All that was written has been taken. */
  async finish(): Promise<void> {
    if (this.#output.writableNeedDrain) await this.#drained();
    const taken = new Promise<void>((resolve) => {
      this.#output.write('', () => resolve());
    });
    await unlessAborted(this.#signal, taken);
    this.#throwIfClosed();
  }

  async #drained(): Promise<void> {
    if (this.#output.destroyed) return;
    const done = new AbortController();
    const signal = AbortSignal.any([this.#signal, done.signal]);
    // Rejects on the stream's error, which #failure holds, and when cancelled.
    await Promise.race([
      once(this.#output, 'drain', { signal }),
      once(this.#output, 'close', { signal }),
    ]).catch(() => undefined);
    done.abort(); // Takes the other's listeners away.
    throwIfCancelled(this.#signal);
  }

  #throwIfClosed(): void {
    if (this.#failure !== null || this.#output.destroyed) throw outputClosed(this.#failure);
  }
}

function outputClosed(cause: Error | null): StillpointError {
  const told = systemError(cause, { thing: 'standard output', place: 'output' });
  return (
    told ??
    new StillpointError('system', {
      thing: 'standard output',
      reason: 'it is closed',
      remedy: 'Send it to a file or a program.',
      cause,
    })
  );
}
