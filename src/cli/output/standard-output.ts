/**
 * Standard output and standard error of the process: all bytes are written, or the failure is remembered.
 *
 * | state  | write()                 | flush()                                                        |
 * |--------|-------------------------|----------------------------------------------------------------|
 * | open   | written, or -> failed   | all is taken, a file's bytes are on its disk; or -> failed     |
 * | failed | dropped                 | returns at once                                                |
 *
 * For a file, Node's own stream takes a short write (on a nearly full disk) for a whole one, and does not
 * notice if a disk quota or a file server refuses it later. So this module writes to files and devices; Node
 * writes to pipes, sockets and terminals.
 */
import { fdatasync, fstatSync, type Stats, writeSync } from 'node:fs';
import { Writable } from 'node:stream';
import { isatty } from 'node:tty';
import { promisify } from 'node:util';
import { StillpointError } from '../../domain/base/errors.js';
import { errnoNameOf, systemError } from '../../domain/base/system-errors.js';

const BUSY_PAUSE_MS = 10;
/** What fdatasync says where there is nothing to sync. */
const NOT_SYNCED: ReadonlySet<string> = new Set(['EINVAL', 'EROFS', 'ENOSYS', 'EOPNOTSUPP', 'ENOTSUP']);

/**
 * The launcher sets it where descriptor 1 is closed; Node opens /dev/null in its place, and
 * nobody could tell any more.
 */
const CLOSED_OUTPUT_VARIABLE = 'STILLPOINT_CLOSED_OUTPUT';

type CountingWritable = Writable & { readonly bytesWritten: number; readonly columns?: number };

export class StandardStream {
  readonly stream: CountingWritable;
  readonly isTTY: boolean;
  readonly #sync: (() => Promise<void>) | null;
  #failure: Error | null = null;
  #isUsed = false;
  /** A line that tells an error was among what was written. */
  hasToldError = false;

  /** @param sync makes the bytes of a file safe; null: there is nothing to be made safe. */
  constructor(stream: CountingWritable, sync: (() => Promise<void>) | null, isTTY: boolean) {
    this.stream = stream;
    this.isTTY = isTTY;
    this.#sync = sync;
    stream.on('error', (error) => {
      this.#failure ??= error;
    });
  }

  get columns(): number | undefined {
    return this.stream.columns;
  }

  /** Why something that was written got lost. */
  get failure(): Error | null {
    return this.#failure;
  }

  write(text: string): boolean {
    this.#isUsed = true;
    this.hasToldError ||= text.startsWith('error: ');
    return this.#failure === null ? this.stream.write(text) : true;
  }

  async flush(): Promise<void> {
    // Nothing was printed: then it does not matter whether anybody reads.
    const isUsed = this.#isUsed || this.stream.bytesWritten > 0 || this.stream.writableLength > 0;
    if (!isUsed) return;
    if (this.#failure === null) {
      await new Promise<void>((resolve) => {
        this.stream.write('', () => resolve());
      });
    }
    this.#failure ??= this.stream.errored;
    if (this.#failure !== null || this.#sync === null) return;
    await this.#sync().catch((error: Error) => {
      if (!NOT_SYNCED.has(errnoNameOf(error) ?? '')) this.#failure = error;
    });
  }
}

/**
 * Of a file or a device. Synchronous, so that what goes to both outputs of the process is in the
 * order in which it was said.
 */
class DescriptorStream extends Writable {
  readonly #descriptor: number;
  bytesWritten = 0;

  constructor(descriptor: number) {
    super({ decodeStrings: true });
    this.#descriptor = descriptor;
  }

  override _write(bytes: Buffer, encoding: BufferEncoding, done: (error?: Error | null) => void): void {
    let doneBytes = 0;
    try {
      while (doneBytes < bytes.length) doneBytes += writeSync(this.#descriptor, bytes, doneBytes);
      this.bytesWritten += doneBytes;
      done();
    } catch (error) {
      if (errnoNameOf(error) !== 'EAGAIN') done(error as Error);
      // Somebody else has made the device non-blocking.
      else setTimeout(() => this._write(bytes.subarray(doneBytes), encoding, done), BUSY_PAUSE_MS);
    }
  }
}

class ClosedStream extends Writable {
  readonly bytesWritten = 0;

  override _write(_bytes: Buffer, _encoding: BufferEncoding, done: (error: Error) => void): void {
    done(new ClosedOutput('it is closed'));
  }
}

class ClosedOutput extends Error {}

/** @param environment loses the launcher's mark: it is not for programs that this one starts. */
export function standardOutput(environment: NodeJS.ProcessEnv): StandardStream {
  const isClosed = environment[CLOSED_OUTPUT_VARIABLE] === '1';
  delete environment[CLOSED_OUTPUT_VARIABLE];
  if (isClosed) return new StandardStream(new ClosedStream(), null, false);
  return ofDescriptor(1, () => process.stdout);
}

export function standardError(): StandardStream {
  return ofDescriptor(2, () => process.stderr);
}

function ofDescriptor(descriptor: number, nodeStream: () => CountingWritable): StandardStream {
  const status = statusOf(descriptor);
  const isTTY = isatty(descriptor);
  if (isTTY || status?.isFIFO() === true || status?.isSocket() === true) {
    return new StandardStream(nodeStream(), null, isTTY);
  }
  const isSynced = status?.isFile() === true || status?.isBlockDevice() === true;
  return new StandardStream(
    new DescriptorStream(descriptor),
    isSynced ? () => promisify(fdatasync)(descriptor) : null,
    false,
  );
}

function statusOf(descriptor: number): Stats | null {
  try {
    return fstatSync(descriptor);
  } catch {
    return null;
  }
}

/** @param remedy to give instead of "make room". */
export function outputError(thing: string, cause: Error, remedy?: string): StillpointError {
  const told = systemError(cause, { thing, place: 'output' });
  const [reason, help] = [
    told?.reason ?? reasonOf(cause),
    told?.remedy ?? 'Open it, or print somewhere else.',
  ];
  return new StillpointError('system', {
    ...{ thing, reason: `what was printed is lost: ${reason}`, cause },
    remedy: remedy === undefined ? help : `${remedy} ${help}`,
  });
}

function reasonOf(cause: Error): string {
  return cause instanceof ClosedOutput ? cause.message : 'it takes no more';
}
