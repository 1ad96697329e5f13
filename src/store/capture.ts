/**
 * One open session's capture: decodes batches side by side, makes them durable in order and in groups, commits or ends.
 *
 * | state     | append, have             | commit             | abort             |
 * |-----------|--------------------------|--------------------|-------------------|
 * | open      | yes                      | -> committed       | -> gone           |
 * | broken    | recovers from disk first (-> open, or gone if that shows lost bytes), then as open      |
 * | committed | `session-closed`         | the point again    | `session-closed`  |
 * | gone      | `session-unknown`        | `session-unknown`  | no effect         |
 *
 * open -> broken when a write fails in the middle. A refused batch or commit (wrong contents, wrong root) leaves it open.
 *
 * Locking: one mutex for everything that touches the staging. Batches wait for it in `pending`, at most BATCH_WINDOW of them; the
 * pump holds it while there is a next batch. Decoding needs no lock. A batch whose predecessor does not come is refused
 * after PREDECESSOR_WAIT_MS, so that a dead agent's batches don't stay in memory.
 */
import { setImmediate } from 'node:timers/promises';
import { isStillpointError, StillpointError } from '../domain/errors.js';
import { BATCH_BYTES_MAX, BATCH_WINDOW, DIGEST_BYTES, HAVE_DIGESTS_MAX } from '../domain/limits.js';
import type { CommitRequest } from '../domain/messages.js';
import type { Point } from '../domain/point.js';
import { type DecodedBatch, native } from '../native/index.js';
import { checkStaging, recoverStaging } from './capture-recovery.js';
import { type CaptureStaging, removeCapture } from './capture-staging.js';
import { type CommitContext, commitCapture } from './commit.js';
import { Mutex } from './mutex.js';
import { asStoreStep, toBatchError, toStoreError } from './store-error.js';
import type { Capture, CaptureDescription } from './store-port.js';

const PREDECESSOR_WAIT_MS = 60_000;
/** Digests looked up between two looks at the event loop. */
const LOOKUPS_PER_TURN = 1024;

interface PendingBatch {
  readonly sequence: number;
  readonly body: Buffer;
  readonly decoded: Promise<DecodedBatch>;
  readonly answer: Promise<{ durableSequence: number }>;
  readonly resolve: (answer: { durableSequence: number }) => void;
  readonly reject: (error: StillpointError) => void;
  isDecoded: boolean;
}

export class StoreCapture implements Capture {
  readonly description: CaptureDescription;
  readonly #context: CommitContext;
  readonly #onEnd: () => void;
  readonly #lock = new Mutex();
  readonly #pending = new Map<number, PendingBatch>();
  #isPumping = false;
  /** Null: broken. */
  #staging: CaptureStaging | null;
  #durableSequence: number;
  #end: Point | 'gone' | null = null;
  #isRemoved = false;

  /**
   * @param staging null: broken, recovered by the next call
   * @param onEnd called once, when the capture is committed or gone
   */
  constructor(
    context: CommitContext,
    description: CaptureDescription,
    staging: CaptureStaging | null,
    onEnd: () => void,
  ) {
    this.#context = context;
    this.description = description;
    this.#staging = staging;
    this.#durableSequence = staging?.durableSequence ?? 0;
    this.#onEnd = onEnd;
  }

  get durableSequence(): number {
    return this.#durableSequence;
  }

  async append(sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    if (body.length > BATCH_BYTES_MAX) {
      throw new StillpointError('too-large', {
        thing: `batch ${sequence} of ${this.#name}`,
        reason: `it has ${body.length} bytes, and a batch has at most ${BATCH_BYTES_MAX}`,
      });
    }
    await this.#ready();
    if (sequence <= this.#durableSequence) return { durableSequence: this.#durableSequence };
    const known = this.#pending.get(sequence);
    if (known !== undefined) return known.answer;
    if (!Number.isSafeInteger(sequence) || sequence > this.#durableSequence + BATCH_WINDOW) {
      throw new StillpointError('out-of-order', {
        thing: `batch ${sequence} of ${this.#name}`,
        reason: `only batches ${this.#durableSequence + 1} to ${this.#durableSequence + BATCH_WINDOW} are taken now`,
        remedy: 'Go on from the last durable batch.',
        permanent: false,
      });
    }
    const batch = this.#enqueue(sequence, Buffer.from(body.buffer, body.byteOffset, body.length));
    this.#pump();
    return batch.answer;
  }

  #enqueue(sequence: number, body: Buffer): PendingBatch {
    const { sessionId, geometry } = this.description;
    const { promise, resolve, reject } = deferred<{ durableSequence: number }>();
    const decoded = native.decodeBatch(body, { sessionId, sequence, ...geometry });
    const batch: PendingBatch = {
      sequence,
      body,
      decoded,
      answer: promise,
      resolve,
      reject,
      isDecoded: false,
    };
    decoded.then(
      () => {
        batch.isDecoded = true;
      },
      (error) => this.#refuse(batch, toBatchError(error, `batch ${sequence} of ${this.#name}`)),
    );
    const timer = setTimeout(() => this.#refuseWaiting(batch), PREDECESSOR_WAIT_MS);
    timer.unref();
    promise.catch(() => undefined).finally(() => clearTimeout(timer));
    this.#pending.set(sequence, batch);
    return batch;
  }

  #refuse(batch: PendingBatch, error: StillpointError): void {
    if (this.#pending.get(batch.sequence) === batch) this.#pending.delete(batch.sequence);
    batch.reject(error);
  }

  /** A batch that the pump can take is left to it. */
  #refuseWaiting(batch: PendingBatch): void {
    for (let sequence = this.#durableSequence + 1; sequence <= batch.sequence; sequence += 1) {
      if (this.#pending.has(sequence)) continue;
      const error = new StillpointError('out-of-order', {
        thing: `batch ${batch.sequence} of ${this.#name}`,
        reason: `batch ${sequence}, which comes before it, did not arrive`,
        remedy: 'Go on from the last durable batch.',
        permanent: false,
      });
      this.#refuse(batch, error);
      return;
    }
  }

  // ---- the pump ---------------------------------------------------------------------------------------------------------

  #pump(): void {
    if (this.#isPumping) return;
    this.#isPumping = true;
    void this.#lock.run(async () => {
      try {
        while (this.#staging !== null && (await this.#writeGroup(this.#staging)));
      } catch (error) {
        await this.#break(toStoreError(error, this.#name));
      } finally {
        this.#isPumping = false;
      }
    });
  }

  /** Makes the next batches durable together, as many as are decoded. False if the next one isn't there. */
  async #writeGroup(staging: CaptureStaging): Promise<boolean> {
    if (staging.packIsFull) await staging.roll();
    const group: PendingBatch[] = [];
    for (let sequence = this.#durableSequence + 1; !staging.packIsFull; sequence += 1) {
      const batch = this.#pending.get(sequence);
      if (batch === undefined || (group.length > 0 && !batch.isDecoded)) break;
      if (!(await this.#prepare(staging, batch))) break;
      group.push(batch);
    }
    const last = group.at(-1);
    if (last === undefined) return false;
    await staging.sync();
    this.#durableSequence = last.sequence;
    for (const batch of group) {
      this.#pending.delete(batch.sequence);
      batch.resolve({ durableSequence: last.sequence });
    }
    return true;
  }

  /** False if the batch is refused. */
  async #prepare(staging: CaptureStaging, batch: PendingBatch): Promise<boolean> {
    let decoded: DecodedBatch;
    try {
      decoded = await batch.decoded;
    } catch {
      return false;
    }
    try {
      await staging.prepare({ sequence: batch.sequence, body: batch.body, decoded });
      return true;
    } catch (error) {
      if (!isStillpointError(error, 'bad-batch')) throw error;
      this.#refuse(batch, error);
      return false;
    }
  }

  /** Memory and disk may differ: forgets the former. The next call recovers. */
  async #break(error: StillpointError): Promise<void> {
    this.#context.log(`${this.#name}: ${error.message}`);
    await this.#closeStaging(error);
  }

  async #closeStaging(error: StillpointError): Promise<void> {
    const staging = this.#staging;
    this.#staging = null;
    for (const batch of [...this.#pending.values()]) this.#refuse(batch, error);
    await staging?.close();
  }

  /** The staging, recovered if it broke. Throws in states that take nothing. */
  async #ready(): Promise<void> {
    this.#guard();
    if (this.#staging === null) await this.#lock.run(() => this.#recover());
    this.#guard();
  }

  async #recover(): Promise<CaptureStaging> {
    this.#guard();
    if (this.#staging !== null) return this.#staging;
    try {
      this.#staging = await asStoreStep(this.#name, () => recoverStaging(this.#context, this.description));
    } catch (error) {
      if (isStillpointError(error, 'store-damaged')) await this.#remove();
      throw error;
    }
    this.#durableSequence = this.#staging.durableSequence;
    return this.#staging;
  }

  #guard(): void {
    if (this.#end === null) return;
    if (this.#end !== 'gone') {
      throw new StillpointError('session-closed', {
        thing: this.#name,
        reason: 'it is committed',
        remedy: 'Begin another session for the next backup.',
      });
    }
    throw new StillpointError('session-unknown', {
      thing: this.#name,
      reason: 'it was aborted',
      remedy: 'Begin a new session.',
    });
  }

  // ---- have, commit, abort ----------------------------------------------------------------------------------------------

  async have(digests: Uint8Array): Promise<Uint8Array> {
    const count = digests.length / DIGEST_BYTES;
    if (!Number.isInteger(count) || count > HAVE_DIGESTS_MAX) {
      throw new StillpointError('bad-message', {
        thing: `question of ${this.#name} for ${digests.length} bytes of digests`,
        reason: `it has not 0 to ${HAVE_DIGESTS_MAX} digests of ${DIGEST_BYTES} bytes`,
      });
    }
    await this.#ready();
    const bytes = Buffer.from(digests.buffer, digests.byteOffset, digests.length);
    const held = new Uint8Array(Math.ceil(count / 8));
    for (let i = 0; i < count; i += 1) {
      const digest = bytes.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      if (this.#staging?.heldLength(digest) !== undefined)
        held[i >> 3] = (held[i >> 3] ?? 0) | (1 << (i & 7));
      if (i % LOOKUPS_PER_TURN === LOOKUPS_PER_TURN - 1) await setImmediate();
    }
    return held;
  }

  commit(request: CommitRequest): Promise<Point> {
    return this.#lock.run(async () => {
      if (this.#end !== null && this.#end !== 'gone') return this.#end;
      const staging = await this.#recover();
      if (request.batchCount !== this.#durableSequence) {
        throw new StillpointError('out-of-order', {
          thing: this.#name,
          reason: `${request.batchCount} batches were to be committed, and ${this.#durableSequence} are durable`,
          remedy: 'Send the missing batches first.',
          permanent: false,
        });
      }
      try {
        this.#end = await commitCapture(this.#context, staging, this.description, request);
      } catch (error) {
        if (isRefusal(error)) throw error;
        const storeError = toStoreError(error, this.#name);
        await this.#break(storeError);
        throw storeError;
      }
      await this.#remove();
      return this.#end;
    });
  }

  abort(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.#end !== 'gone') this.#guard();
      if (this.#isRemoved) return;
      // Its blocks were received and proven: the device need not send them again.
      await this.#staging?.drain().catch((error) => this.#context.log(`${this.#name}: ${String(error)}`));
      await this.#remove();
    });
  }

  /**
   * What can't be removed of a committed session is debris that the next opening of the store removes. An aborted one stays known
   * until it is gone, so that it does not come back then.
   */
  async #remove(): Promise<void> {
    this.#end ??= 'gone';
    await this.#closeStaging(
      new StillpointError('session-unknown', {
        thing: this.#name,
        reason: 'it has ended',
        remedy: 'Begin a new session.',
      }),
    );
    try {
      await removeCapture(this.#context, this.description.sessionId);
    } catch (error) {
      if (this.#end === 'gone') throw toStoreError(error, this.#name);
      this.#context.log(`${this.#name}: its capture can't be removed: ${String(error)}`);
    }
    this.#isRemoved = true;
    this.#onEnd();
  }

  /** What is wrong with its files, `file: reason` each. */
  check(): Promise<string[]> {
    return this.#lock.run(async () => {
      if (this.#end !== null || this.#staging === null) return [];
      return checkStaging(this.#context, this.description, this.#durableSequence);
    });
  }

  /** For the closing of the store: waits for work in flight and leaves what is durable for the next opening. */
  close(): Promise<void> {
    return this.#lock.run(() =>
      this.#closeStaging(
        new StillpointError('connection-lost', {
          thing: this.#name,
          reason: 'the store is closing',
          permanent: false,
        }),
      ),
    );
  }

  get #name(): string {
    return `session ${this.description.sessionId} of ${this.description.device}`;
  }
}

/** The request is wrong, the store is not. */
function isRefusal(error: unknown): error is StillpointError {
  return (
    isStillpointError(error, 'root-mismatch') ||
    isStillpointError(error, 'bad-batch') ||
    isStillpointError(error, 'base-mismatch') ||
    isStillpointError(error, 'store-damaged')
  );
}

function deferred<T>(): {
  promise: Promise<T>;
  resolve: (value: T) => void;
  reject: (error: unknown) => void;
} {
  let resolve: (value: T) => void = () => undefined;
  let reject: (error: unknown) => void = () => undefined;
  const promise = new Promise<T>((onResolve, onReject) => {
    resolve = onResolve;
    reject = onReject;
  });
  return { promise, resolve, reject };
}
