/**
 * The files of one capture: the staging pack, the log and the overlay. Writes batches so that they are
 * durable, publishes packs as they fill, and recovers everything after a crash (docs/format.md sections 5 and
 * 6).
 *
 * State: at most one growing pack and one that is being published in the background; their records are known
 * in memory, all earlier packs are in the index. Not locked: the capture calls one method at a time. After
 * any error that is not about a batch's contents, memory and disk may differ: close this one and `recover`
 * another.
 */

import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { blockLength } from '../../domain/blocks/geometry.js';
import {
  type DecodedBatch,
  ENTRY_HELD,
  type LeafOverlay,
  native,
  PACK_KIND_DATA,
  RECORD_KIND_BLOCK,
} from '../../native/index.js';
import { type Disk, type DiskFile, makeDirs, writeDurably } from '../disk/disk.js';
import { CAPTURE_DESCRIPTION, CAPTURE_DIR, CAPTURE_LOG, CAPTURE_OVERLAY, packKey } from '../disk/layout.js';
import { digestKey, PACK_ENTRY_BYTES, RECORD_HEADER_BYTES } from '../packs/entries.js';
import { PackWriter } from '../packs/writer.js';
import { encodeDescription } from '../points/manifest.js';
import type { CaptureDescription } from '../port/store.js';
import type { StagingContext } from './context.js';
import { batchHead, blockEndOf, encodeLogRecord, type LogRecord, NO_PACK } from './log.js';

/** Blocks that were not stored again are entered as held when there are as many. */
const ADOPTED_MAX = 4096;

export interface Batch {
  readonly sequence: number;
  readonly body: Buffer;
  readonly decoded: DecodedBatch;
}

/** What a staging starts with: nothing, or what recovery found. */
export interface StagingParts {
  readonly log: DiskFile;
  readonly overlay: LeafOverlay;
  readonly pack: PackWriter | null;
  readonly durableSequence: number;
  readonly durableBlockEnd: number;
  /** In ms since 1970, to the second; 0: none came. */
  readonly lastBatchMs: number;
  readonly storedBytes: number;
  /** Of its own packs, published or not. */
  readonly packIds: Iterable<string>;
}

export class CaptureStaging {
  readonly dir: string;
  readonly overlay: LeafOverlay;
  /** Of the packs that it made. */
  readonly packIds: Set<string>;
  /**
   * Packs of others that it relies on since it is in memory: it was said to hold their blocks, did not store
   * them again, or has nodes of its tree in them.
   */
  readonly pinnedPackIds = new Set<string>();
  readonly #context: StagingContext;
  readonly #description: CaptureDescription;
  readonly #deviceNumber: number;
  readonly #log: DiskFile;
  #pack: PackWriter | null;
  #publishing: { readonly pack: PackWriter; readonly done: Promise<unknown> } | null = null;
  /**
   * Digests of blocks that came and were not stored again, by key, until the index says
   * that the device holds them.
   */
  readonly #adopted = new Map<string, Buffer>();
  #prepared: (Batch & LogRecord)[] = [];
  #durableSequence: number;
  #durableBlockEnd: number;
  #lastBatchMs: number;
  #storedBytes: number;

  constructor(
    context: StagingContext,
    description: CaptureDescription,
    deviceNumber: number,
    parts: StagingParts,
  ) {
    this.#context = context;
    this.#description = description;
    this.#deviceNumber = deviceNumber;
    this.dir = captureDir(context, description.sessionId);
    this.overlay = parts.overlay;
    this.#log = parts.log;
    this.#pack = parts.pack;
    this.#durableSequence = parts.durableSequence;
    this.#durableBlockEnd = parts.durableBlockEnd;
    this.#lastBatchMs = parts.lastBatchMs;
    this.packIds = new Set(parts.packIds);
    this.#storedBytes = parts.storedBytes;
  }

  /** The capture of a new session. It exists when this resolves; before that, what is there is debris. */
  static async create(context: StagingContext, description: CaptureDescription): Promise<CaptureStaging> {
    const { disk, dir: storeDir, index } = context;
    await context.upgrade();
    const dir = captureDir(context, description.sessionId);
    await disk.removeDir(dir);
    await makeDirs(disk, storeDir, `${CAPTURE_DIR}/${description.sessionId}`);
    const deviceNumber = await index.deviceNumber(description);
    const log = await disk.create(join(dir, CAPTURE_LOG));
    let overlay: LeafOverlay | null = null;
    try {
      overlay = await createOverlay(dir, description);
      await disk.syncDir(dir);
      await writeDurably(disk, join(dir, CAPTURE_DESCRIPTION), encodeDescription(description));
    } catch (error) {
      await log.close();
      await overlay?.close();
      await disk.removeDir(dir).catch(() => undefined);
      throw error;
    }
    return new CaptureStaging(context, description, deviceNumber, {
      log,
      overlay,
      pack: null,
      durableSequence: 0,
      durableBlockEnd: 0,
      lastBatchMs: 0,
      storedBytes: 0,
      packIds: [],
    });
  }

  get durableSequence(): number {
    return this.#durableSequence;
  }
  /** One more than the highest block index of a durable batch. */
  get durableBlockEnd(): number {
    return this.#durableBlockEnd;
  }
  get lastBatchMs(): number {
    return this.#lastBatchMs;
  }
  /**
   * Of the session's records that the device did not hold, whether another device's are used in their place
   * or not: its agent gets to know this number, and must not learn from it what others have.
   */
  get storedBytes(): number {
    return this.#storedBytes;
  }
  get packIsFull(): boolean {
    return this.#pack?.isFull(this.#context.packBytesTarget) ?? false;
  }

  /**
   * Raw length of a block that the session has received or the device held before;
   * undefined if it is not held.
   */
  heldLength(digest: Buffer): number | undefined {
    const { index } = this.#context;
    const staged = this.#stagedLength(digestKey(digest));
    if (staged !== undefined) return staged;
    if (!this.#adopted.has(digestKey(digest)) && !index.isHeld(this.#deviceNumber, digest)) return undefined;
    const located = index.locate(digest, RECORD_KIND_BLOCK);
    if (located !== null) this.pin(located.packId);
    return located?.rawLength;
  }

  /** It relies on a record of this pack, from the moment at which it was located. */
  pin(packId: string): void {
    this.pinnedPackIds.add(packId);
    this.#context.pins.note(packId);
  }

  /** The block is in a pack of its own that the index does not have yet. */
  isStaged(digest: Buffer): boolean {
    return this.#stagedLength(digestKey(digest)) !== undefined;
  }

  #stagedLength(key: string): number | undefined {
    return this.#pack?.rawLength(key) ?? this.#publishing?.pack.rawLength(key);
  }

  /**
   * Takes the next batch in order; it is durable after `sync`.
   * @throws StillpointError `bad-batch`, with nothing taken
   */
  async prepare(batch: Batch): Promise<void> {
    this.#checkHeldEntries(batch);
    const { decoded, body } = batch;
    const records = body.subarray(decoded.recordsOffset, decoded.recordsOffset + decoded.recordsLength);
    for (let i = 0; i < decoded.recordRawLengths.length; i += 1) {
      const digest = decoded.recordDigests.subarray(i * 32, i * 32 + 32);
      const key = digestKey(digest);
      if (this.#stagedLength(key) !== undefined) continue;
      const recordBytes = RECORD_HEADER_BYTES + (decoded.recordStoredLengths[i] ?? 0);
      if (!this.#adopted.has(key) && !this.#context.index.isHeld(this.#deviceNumber, digest)) {
        this.#storedBytes += recordBytes + PACK_ENTRY_BYTES;
      }
      const located = this.#context.index.locate(digest, RECORD_KIND_BLOCK);
      if (located !== null) {
        this.pin(located.packId);
        this.#adopted.set(key, digest);
        continue;
      }
      this.#pack ??= await this.#createPack();
      const offset = decoded.recordOffsets[i] ?? 0;
      const end = offset + recordBytes;
      const [rawLength = 0, codec = 0] = [decoded.recordRawLengths[i], decoded.recordCodecs[i]];
      this.#pack.add(digest, rawLength, codec, RECORD_KIND_BLOCK, records.subarray(offset, end));
    }
    this.#prepared.push({
      ...batch,
      writtenAtS: Math.floor(this.#context.now().getTime() / 1000),
      packId: this.#pack?.packId ?? NO_PACK,
      packEnd: this.#pack?.end ?? 0,
      head: batchHead(body, decoded.entryCount),
    });
  }

  #checkHeldEntries({ sequence, decoded }: Batch): void {
    for (let i = 0; i < decoded.entryCount; i += 1) {
      if (decoded.kinds[i] !== ENTRY_HELD) continue;
      const blockIndex = decoded.blockIndexes[i] ?? 0;
      const length = this.heldLength(decoded.digests.subarray(i * 32, i * 32 + 32));
      if (length === blockLength(this.#description.geometry, blockIndex)) continue;
      throw new StillpointError('bad-batch', {
        thing: `batch ${sequence} of session ${this.#description.sessionId}`,
        reason:
          length === undefined
            ? `block ${blockIndex} is said to be held, but it is not`
            : `block ${blockIndex} is said to be held, but the held one has ${length} bytes`,
        remedy: 'Send the block itself.',
      });
    }
  }

  #createPack(): Promise<PackWriter> {
    const packId = this.#context.randomId();
    this.packIds.add(packId);
    return PackWriter.create(this.#context.disk, this.dir, packId, PACK_KIND_DATA);
  }

  /** Makes all prepared batches durable: their records first, then the log. */
  async sync(): Promise<void> {
    const batches = this.#prepared;
    this.#prepared = [];
    if (this.#pack !== null && this.#pack.unwrittenBytes > 0) {
      await this.#pack.flush();
      await this.#pack.sync();
    }
    await this.#log.append(batches.flatMap(encodeLogRecord));
    await this.#log.sync();
    for (const { sequence, writtenAtS, body, head } of batches) {
      this.overlay.putBatch(body);
      this.#durableSequence = sequence;
      this.#durableBlockEnd = Math.max(this.#durableBlockEnd, blockEndOf(head));
      this.#lastBatchMs = writtenAtS * 1000;
    }
    if (this.#adopted.size > ADOPTED_MAX) await this.#holdAdopted();
  }

  async #holdAdopted(): Promise<void> {
    await this.#context.index.hold(this.#deviceNumber, Buffer.concat([...this.#adopted.values()]));
    this.#adopted.clear();
  }

  /**
   * Ends the growing pack and publishes it in the background, one at a time. Its failure is
   * thrown by the next call.
   */
  async roll(): Promise<void> {
    await this.#publishing?.done;
    const pack = this.#pack;
    if (pack === null) return;
    this.#pack = null;
    const done = publishPack(this.#context, pack, this.#deviceNumber).then(() => {
      this.#publishing = null;
    });
    done.catch(() => undefined);
    this.#publishing = { pack, done };
  }

  /** Everything that was taken is in packs/ and the index when it resolves. */
  async drain(): Promise<void> {
    await this.roll();
    await this.#publishing?.done;
    await this.#holdAdopted();
  }

  /** Waits for work in flight and closes the files; what is durable stays. */
  async close(): Promise<void> {
    await this.#publishing?.done.catch(() => undefined);
    await this.#pack?.close().catch(() => undefined);
    await this.#log.close().catch(() => undefined);
    await this.overlay.close();
  }
}

/**
 * Finishes a staging pack and moves it to packs/, then into the index.
 * @param holder number of the device that holds its blocks; none for tree packs
 */
export async function publishPack(context: StagingContext, pack: PackWriter, holder?: number): Promise<void> {
  let finished: Awaited<ReturnType<PackWriter['finish']>>;
  try {
    finished = await pack.finish();
  } finally {
    await pack.close();
  }
  const { sizeBytes, entries } = finished;
  await context.objects.putFile(packKey(pack.packId), pack.path);
  await context.index.addPack(pack.packId, sizeBytes, entries, holder === undefined ? {} : { holder });
}

export function createOverlay(dir: string, { geometry }: CaptureDescription): Promise<LeafOverlay> {
  const path = join(dir, CAPTURE_OVERLAY);
  return native.createOverlay(path, geometry.sizeBytes, geometry.blockSize, '0'.repeat(64));
}

export function captureDir(context: { readonly dir: string }, sessionId: string): string {
  return join(context.dir, CAPTURE_DIR, sessionId);
}

/** Ends a capture's existence; what it had is debris then. */
export async function endCapture(
  context: { readonly disk: Disk; readonly dir: string },
  sessionId: string,
): Promise<void> {
  const dir = captureDir(context, sessionId);
  await context.disk.remove(join(dir, CAPTURE_DESCRIPTION));
  await context.disk.syncDir(dir);
}

/** Ends a capture's existence, then removes what it had. */
export async function removeCapture(
  context: { readonly disk: Disk; readonly dir: string },
  sessionId: string,
): Promise<void> {
  await endCapture(context, sessionId);
  await context.disk.removeDir(captureDir(context, sessionId));
}
