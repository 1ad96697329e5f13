/**
 * A capture of the memory store: batches are decoded and proven by the native side, and taken in
 * the order of their numbers.
 */
import { StillpointError } from '../../../src/domain/base/errors.js';
import { BATCH_BYTES_MAX, DIGEST_BYTES, HAVE_DIGESTS_MAX } from '../../../src/domain/base/limits.js';
import { blockCount, blockLength } from '../../../src/domain/blocks/geometry.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import { type DecodedBatch, ENTRY_HELD, ENTRY_ZERO } from '../../../src/native/index.js';
import { BatchQueue, type QueuedBatch } from '../../../src/store/capture/batch-queue.js';
import { RECORD_HEADER_BYTES } from '../../../src/store/packs/entries.js';
import type { Capture, CaptureDescription } from '../../../src/store/port/store.js';
import { PLAIN } from '../bytes/digests.js';
import { type LevelTree, levelTree } from '../bytes/level-tree.js';

/** Digests of the blocks that are not zero. */
export type Leaves = ReadonlyMap<number, Buffer>;

export interface MemoryCaptureContext {
  /** All that the device has. */
  readonly records: Map<string, Buffer>;
  readonly now: () => Date;
  /** The device's last point. */
  readonly base: () => {
    readonly point: Point | null;
    readonly leaves: Leaves;
    readonly nextSequence: number;
  };
  readonly onCommit: (point: Point, leaves: Leaves, tree: LevelTree) => void;
  readonly onAbort: () => void;
}

export class MemoryCapture implements Capture {
  readonly description: CaptureDescription;
  durableSequence = 0;
  durableBytes = 0;
  lastActivityAt: Date;
  readonly #context: MemoryCaptureContext;
  readonly #queue: BatchQueue;
  /** NULL: zero. */
  readonly #changes = new Map<number, Buffer | null>();
  #durableBlockEnd = 0;
  #end: Point | 'gone' | 'closed' | null = null;
  #pumping: Promise<void> = Promise.resolve();

  /** @param former the same capture before a restart */
  constructor(description: CaptureDescription, former: MemoryCapture | null, context: MemoryCaptureContext) {
    this.description = description;
    this.#context = context;
    this.lastActivityAt = former?.lastActivityAt ?? context.now();
    this.#queue = new BatchQueue(
      description,
      PLAIN,
      `session ${description.sessionId}`,
      () => this.durableSequence,
    );
    if (former === null) return;
    this.#changes = new Map(former.#changes);
    this.durableSequence = former.durableSequence;
    this.durableBytes = former.durableBytes;
    this.#durableBlockEnd = former.#durableBlockEnd;
  }

  get digests(): ReadonlySet<string> {
    return new Set([...this.#changes.values()].flatMap((digest) => digest?.toString('hex') ?? []));
  }

  async append(sequence: number, body: Uint8Array): Promise<{ durableSequence: number }> {
    this.#guard();
    if (body.length > BATCH_BYTES_MAX) throw this.#refusal('too-large', `batch ${sequence} is too large`);
    if (sequence <= this.durableSequence) return { durableSequence: this.durableSequence };
    const answer = this.#queue.add(sequence, Buffer.from(body));
    this.#pumping = this.#pumping.then(() => this.#pump());
    return answer;
  }

  /** Takes all batches that are next. */
  async #pump(): Promise<void> {
    for (;;) {
      const batch = this.#queue.get(this.durableSequence + 1);
      const decoded = await batch?.decoded.catch(() => undefined);
      if (batch === undefined || decoded === undefined || this.#end !== null) return;
      try {
        this.#take(batch, decoded);
      } catch (error) {
        this.#queue.refuse(batch, error as StillpointError);
        return;
      }
      this.durableSequence = batch.sequence;
      this.#queue.answer(batch);
    }
  }

  #take({ body, sequence }: QueuedBatch, decoded: DecodedBatch): void {
    const { records } = this.#context;
    const known = (digest: Buffer) => records.has(digest.toString('hex'));
    const entries = [...decoded.blockIndexes].map((blockIndex, i) => ({
      blockIndex,
      count: decoded.blockCounts[i] ?? 0,
      kind: decoded.kinds[i],
      digest: decoded.digests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES),
    }));
    for (const { kind, digest, blockIndex } of entries) {
      if (kind === ENTRY_HELD && !(known(digest) && this.#lengthOf(digest) === this.#blockLength(blockIndex)))
        throw this.#refusal('bad-batch', `batch ${sequence} names a block that is not held`);
    }
    for (let i = 0; i * DIGEST_BYTES < decoded.recordDigests.length; i += 1) {
      const digest = decoded.recordDigests.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES);
      if (known(digest)) continue;
      const from = decoded.recordsOffset + (decoded.recordOffsets[i] ?? 0);
      const record = body.subarray(from, from + RECORD_HEADER_BYTES + (decoded.recordStoredLengths[i] ?? 0));
      records.set(digest.toString('hex'), Buffer.from(record));
      this.durableBytes += record.length;
    }
    for (const { blockIndex, count, kind, digest } of entries) {
      for (let at = blockIndex; at < blockIndex + count; at += 1)
        this.#changes.set(at, kind === ENTRY_ZERO ? null : Buffer.from(digest));
      this.#durableBlockEnd = Math.max(this.#durableBlockEnd, blockIndex + count);
    }
  }

  #blockLength(blockIndex: number): number {
    return blockLength(this.description.geometry, blockIndex);
  }

  /** Raw length, as the record's header says it (docs/format.md section 2). */
  #lengthOf(digest: Buffer): number | undefined {
    return this.#context.records.get(digest.toString('hex'))?.readUInt32LE(8);
  }

  async resume(): Promise<{ durableSequence: number; durableBlockEnd: number }> {
    this.#guard();
    await this.#pumping;
    this.#queue.refuseAll(this.#refusal('out-of-order', 'another process goes on with it'));
    return { durableSequence: this.durableSequence, durableBlockEnd: this.#durableBlockEnd };
  }

  async have(digests: Uint8Array): Promise<ReadonlySet<number>> {
    const count = digests.length / DIGEST_BYTES;
    if (!Number.isInteger(count) || count > HAVE_DIGESTS_MAX)
      throw this.#refusal('bad-message', 'a question has whole digests, and not too many');
    this.#guard();
    const bytes = Buffer.from(digests);
    const isHeld = (at: number) =>
      this.#context.records.has(bytes.toString('hex', at * DIGEST_BYTES, (at + 1) * DIGEST_BYTES));
    return new Set(Array.from({ length: count }, (_, at) => at).filter(isHeld));
  }

  async commit(request: CommitRequest): Promise<Point> {
    const { point, publish } = await this.prepare(request);
    publish(point);
    return point;
  }

  /** What a commit needs is there; it has no effect before `publish`. */
  async prepare(request: CommitRequest): Promise<{ point: Point; publish: (point: Point) => void }> {
    await this.#pumping;
    if (this.#end !== null && typeof this.#end !== 'string')
      return { point: this.#end, publish: () => undefined };
    this.#guard();
    if (request.batchCount !== this.durableSequence)
      throw this.#refusal('out-of-order', `${this.durableSequence} batches are durable`);
    const { basePointId, geometry, sessionId } = this.description;
    const last = this.#context.base();
    if (basePointId !== null && last.point?.id !== basePointId)
      throw this.#refusal('base-mismatch', 'its base is not the last point');
    const leaves = new Map<number, Buffer>(basePointId === null ? [] : last.leaves);
    for (const [blockIndex, digest] of this.#changes) {
      if (digest === null) leaves.delete(blockIndex);
      else leaves.set(blockIndex, digest);
    }
    for (const blockIndex of leaves.keys()) if (blockIndex >= blockCount(geometry)) leaves.delete(blockIndex);
    const tree = levelTree(geometry, leaves);
    if (tree.root !== request.root) throw this.#refusal('root-mismatch', `its blocks give root ${tree.root}`);
    const wrong = [...leaves].find(([index, digest]) => this.#lengthOf(digest) !== this.#blockLength(index));
    if (wrong !== undefined) throw this.#refusal('bad-batch', `block ${wrong[0]} is missing`);
    const { begunAt: _, basePointId: __, sessionId: ___, ...description } = this.description;
    const { batchCount: ____, group: _____, ...facts } = request;
    const point: Point = {
      ...description,
      ...facts,
      id: sessionId,
      sequence: last.nextSequence,
      baseSequence: basePointId === null ? null : (last.point?.sequence ?? null),
      top: tree.top.toString('hex'),
      committedAt: this.#context.now().toISOString(),
      storedBytes: this.durableBytes,
    };
    const publish = (made: Point) => {
      this.#end = made;
      this.#context.onCommit(made, leaves, tree);
    };
    return { point, publish };
  }

  async abort(): Promise<void> {
    await this.#pumping;
    if (this.#end === 'gone') return;
    this.#guard();
    this.#end = 'gone';
    this.#queue.refuseAll(this.#refusal('session-unknown', 'it was aborted'));
    this.#context.onAbort();
  }

  close(): void {
    this.#end ??= 'closed';
    this.#queue.refuseAll(this.#refusal('cancelled', 'the store is closed'));
  }

  #guard(): void {
    this.lastActivityAt = this.#context.now();
    if (this.#end === null) return;
    if (this.#end === 'closed') throw this.#refusal('cancelled', 'the store is closed');
    throw this.#refusal(this.#end === 'gone' ? 'session-unknown' : 'session-closed', 'it has ended');
  }

  #refusal(code: StillpointError['code'], reason: string): StillpointError {
    const { sessionId, device } = this.description;
    const lasting = code === 'cancelled' ? { permanent: false } : {};
    return new StillpointError(code, { thing: `session ${sessionId} of ${device}`, reason, ...lasting });
  }
}
