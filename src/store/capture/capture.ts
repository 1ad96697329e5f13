/**
 * One open session's capture: decodes batches side by side, makes them durable in order and in groups,
 * commits or ends.
 *
 * | state     | append, have, resume     | commit             | abort             |
 * |-----------|--------------------------|--------------------|-------------------|
 * | open      | yes                      | -> committed       | -> gone           |
 * | broken    | recovers from disk first (-> open, or gone if that shows lost bytes), then as open      |
 * | committed | `session-closed`         | the point again    | `session-closed`  |
 * | gone      | `session-unknown`        | `session-unknown`  | no effect         |
 *
 * open -> broken if a write fails in the middle. A refused batch or commit (wrong contents, wrong root)
 * leaves it open.
 *
 * Locking: one mutex guards everything that touches the staging. Batches wait for it in the queue, and the
 * pump holds it while there is a next batch. Decoding needs no lock.
 */
import { setImmediate } from 'node:timers/promises';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { BATCH_BYTES_MAX, DIGEST_BYTES, HAVE_DIGESTS_MAX } from '../../domain/base/limits.js';
import type { Point } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import { asStoreStep, toStoreError } from '../disk/errors.js';
import { Mutex } from '../disk/mutex.js';
import type { Capture, CaptureDescription } from '../port/store.js';
import { BatchPump } from './batch-pump.js';
import { BatchQueue } from './batch-queue.js';
import { type PreparedPoint, preparePoint, publishPoint } from './commit.js';
import type { StoreContext } from './context.js';
import { checkStaging, recoverStaging } from './recovery.js';
import { packIdsOf, recordRemains, sliceOfLeaves } from './remains.js';
import { type CaptureStaging, captureDir, endCapture, removeCapture } from './staging.js';

/** Digests looked up between two looks at the event loop. */
const LOOKUPS_PER_TURN = 1024;

export class StoreCapture implements Capture {
  readonly description: CaptureDescription;
  readonly #context: StoreContext;
  readonly #onEnd: (cleaning: Promise<void>) => void;
  readonly #lock = new Mutex();
  readonly #queue: BatchQueue;
  readonly #pump: BatchPump;
  /** Null: broken. */
  #staging: CaptureStaging | null;
  #durableSequence: number;
  /** Of the session's last message. */
  #lastActivityMs: number;
  /** Packs of stagings that broke. */
  readonly #formerPackIds = new Set<string>();
  #end: Point | 'gone' | null = null;
  #isRemoved = false;
  #isClosed = false;

  /**
   * @param staging null: broken, recovered by the next call
   * @param onEnd called once, when the capture is committed or gone, with what is still being removed: never
   * rejects
   */
  constructor(
    context: StoreContext,
    description: CaptureDescription,
    staging: CaptureStaging | null,
    onEnd: (cleaning: Promise<void>) => void,
  ) {
    this.#context = context;
    this.description = description;
    this.#staging = staging;
    this.#durableSequence = staging?.durableSequence ?? 0;
    const begunMs = Date.parse(description.begunAt ?? '');
    const knownMs = Math.max(Number.isNaN(begunMs) ? 0 : begunMs, staging?.lastBatchMs ?? 0);
    this.#lastActivityMs = knownMs === 0 ? context.now().getTime() : knownMs;
    this.#onEnd = onEnd;
    this.#queue = new BatchQueue(description, context.digester, this.#name, () => this.#durableSequence);
    this.#pump = new BatchPump({
      lock: this.#lock,
      queue: this.#queue,
      staging: () => (this.#isClosed ? null : this.#staging),
      onDurable: (sequence) => {
        this.#durableSequence = sequence;
      },
      onFailure: (error) => this.#break(toStoreError(error, this.#name)),
    });
  }

  get durableSequence(): number {
    return this.#durableSequence;
  }

  get lastActivityAt(): Date {
    return new Date(this.#lastActivityMs);
  }

  get durableBytes(): number {
    return this.#staging?.storedBytes ?? 0;
  }

  #noteActivity(): void {
    this.#lastActivityMs = this.#context.now().getTime();
  }

  async append(sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    this.#noteActivity();
    if (body.length > BATCH_BYTES_MAX) {
      throw new StillpointError('too-large', {
        thing: `batch ${sequence} of ${this.#name}`,
        reason: `it has ${body.length} bytes, and a batch has at most ${BATCH_BYTES_MAX}`,
      });
    }
    await this.#ready();
    if (sequence <= this.#durableSequence) return { durableSequence: this.#durableSequence };
    const answer = this.#queue.add(sequence, Buffer.from(body.buffer, body.byteOffset, body.length));
    this.#pump.start();
    return answer;
  }

  /** Memory and disk may differ: forgets the former. The next call recovers. */
  async #break(error: StillpointError): Promise<void> {
    this.#context.log(error.thing === this.#name ? error.message : `${this.#name}: ${error.message}`);
    await this.#closeStaging(error);
  }

  async #closeStaging(error: StillpointError): Promise<void> {
    const staging = this.#staging;
    for (const packId of packIdsOf(staging)) this.#formerPackIds.add(packId);
    this.#staging = null;
    this.#queue.refuseAll(error);
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
    if (this.#isClosed) throw this.#closedError();
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

  // ---- what a collection asks -----------------------------------------------------------------------------

  *pinnedPackIds(): Generator<string> {
    yield* this.#formerPackIds;
    yield* packIdsOf(this.#staging);
  }

  pin(packId: string): void {
    this.#staging?.pin(packId);
    this.#formerPackIds.add(packId);
  }

  async *durableLeaves(): AsyncGenerator<Buffer> {
    for (let node = 0; node !== -1; ) {
      const { leaves, next } = await this.#lock.run(async () =>
        // Committed meanwhile, they are a point's.
        this.#end !== null || this.#isClosed
          ? { leaves: null, next: -1 }
          : sliceOfLeaves(await this.#recover(), node),
      );
      if (leaves !== null) yield leaves;
      node = next;
    }
  }

  // ---- have, commit, abort --------------------------------------------------------------------------------

  resume(): Promise<{ durableSequence: number; durableBlockEnd: number }> {
    this.#noteActivity();
    // Waits for the pump, which takes all that there is.
    return this.#lock.run(async () => {
      const staging = await this.#recover();
      this.#queue.refuseAll(
        new StillpointError('out-of-order', {
          thing: this.#name,
          reason: 'another process of its agent continues it',
          permanent: false,
        }),
      );
      const { durableSequence, durableBlockEnd } = staging;
      return { durableSequence, durableBlockEnd };
    });
  }

  async have(digests: Uint8Array): Promise<ReadonlySet<number>> {
    const count = digests.length / DIGEST_BYTES;
    if (!Number.isInteger(count) || count > HAVE_DIGESTS_MAX) {
      throw new StillpointError('bad-message', {
        thing: `question of ${this.#name} for ${digests.length} bytes of digests`,
        reason: `it does not have 0 to ${HAVE_DIGESTS_MAX} digests of ${DIGEST_BYTES} bytes`,
      });
    }
    this.#noteActivity();
    await this.#ready();
    const bytes = Buffer.from(digests.buffer, digests.byteOffset, digests.length);
    const held = new Set<number>();
    for (let i = 0; i < count; i += 1) {
      const digest = bytes.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      if (this.#staging?.heldLength(digest) !== undefined) held.add(i);
      if (i % LOOKUPS_PER_TURN === LOOKUPS_PER_TURN - 1) await setImmediate();
    }
    return held;
  }

  commit(request: CommitRequest): Promise<Point> {
    return this.commitBy(request, (prepared) => publishPoint(this.#context, prepared, this.description));
  }

  /**
   * As `commit`, for who makes several points at once. @param publish makes the point: once, after all that
   * it needs is stored. Nothing else happens to the capture meanwhile. A refusal leaves it open.
   */
  commitBy(request: CommitRequest, publish: (prepared: PreparedPoint) => Promise<Point>): Promise<Point> {
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
        const { decisions, catalog } = this.#context;
        await decisions.settle();
        // An earlier try may have made it after all, with others.
        const made = catalog.byId(this.description.sessionId);
        this.#end =
          made ?? (await publish(await preparePoint(this.#context, staging, this.description, request)));
      } catch (error) {
        if (isRefusal(error)) throw error;
        const storeError = toStoreError(error, this.#name);
        await this.#break(storeError);
        throw storeError;
      }
      await this.#closeStaging(this.#endedError()).catch((error) => this.#logRemains(error));
      await endCapture(this.#context, this.description.sessionId).catch((error) => this.#logRemains(error));
      this.#isRemoved = true;
      // Freeing a sparse file's blocks may take long: nobody waits for it who waits for the point.
      const cleaning = this.#context.disk.removeDir(captureDir(this.#context, this.description.sessionId));
      this.#onEnd(cleaning.catch((error) => this.#logRemains(error)));
      return this.#end;
    });
  }

  abort(): Promise<void> {
    return this.#lock.run(async () => {
      if (this.#end !== 'gone' || this.#isClosed) this.#guard();
      if (this.#isRemoved) return;
      // Its blocks were received and proven: the device need not send them again.
      await this.#staging?.drain().catch((error) => this.#context.log(`${this.#name}: ${String(error)}`));
      await this.#remove();
    });
  }

  /** Stays known until it is gone, so that it does not come back at the next opening of the store. */
  async #remove(): Promise<void> {
    this.#end ??= 'gone';
    await recordRemains(this.#context, this.description, this.#staging, this.lastActivityAt);
    await this.#closeStaging(this.#endedError()).catch((error) =>
      this.#context.log(`${this.#name}: ${String(error)}`),
    );
    try {
      await removeCapture(this.#context, this.description.sessionId);
    } catch (error) {
      throw toStoreError(error, this.#name);
    }
    this.#isRemoved = true;
    this.#onEnd(Promise.resolve());
  }

  /** What can't be removed of a committed session is debris that the next opening of the store removes. */
  #logRemains(error: unknown): void {
    this.#context.log(`${this.#name}: its capture can't be removed: ${String(error)}`);
  }

  #endedError(): StillpointError {
    return new StillpointError('session-unknown', {
      thing: this.#name,
      reason: 'it has ended',
      remedy: 'Begin a new session.',
    });
  }

  /** What is wrong with its files, `file: reason` each. */
  check(): Promise<string[]> {
    return this.#lock.run(async () => {
      if (this.#isClosed || this.#end !== null || this.#staging === null) return [];
      return checkStaging(this.#context, this.description, this.#durableSequence);
    });
  }

  /**
   * For the closing of the store: waits for work in flight and leaves what is durable for the next opening.
   */
  close(): Promise<void> {
    this.#isClosed = true;
    return this.#lock.run(() => this.#closeStaging(this.#closedError()));
  }

  #closedError(): StillpointError {
    return new StillpointError('cancelled', {
      thing: this.#name,
      reason: 'the store is closed',
      permanent: false,
    });
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
    isStillpointError(error, 'group-failed') ||
    isStillpointError(error, 'store-damaged')
  );
}
