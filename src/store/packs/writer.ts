/**
 * A pack that grows in a capture's directory, and its way to packs/.
 *
 * | state    | add | flush | finish |
 * |----------|-----|-------|--------|
 * | growing  | yes | yes   | -> finished |
 * | broken   | always throws the error that broke it: the state on disk is unknown           |
 * | finished | defect | defect | defect |
 *
 * Not locked: one owner, one call at a time. Memory: an entry and a map key per record, and the records added
 * since the last flush. When a batch has made it full, its owner finishes it before the next batch.
 */
import { join } from 'node:path';
import { native, type PackIndex } from '../../native/index.js';
import type { Disk, DiskFile } from '../disk/disk.js';
import { stagingPackName } from '../disk/layout.js';
import { leaveReserve } from '../disk/room.js';
import {
  decodePackEntry,
  digestKey,
  encodePackEntry,
  PACK_ENTRY_BYTES,
  PACK_HEADER_BYTES,
  type PackEntry,
  packEntryCount,
  RECORD_HEADER_BYTES,
} from './entries.js';

/** Bounds the memory that a pack of very small records takes. */
const PACK_RECORDS_MAX = 65_536;
const ENTRIES_AT_FIRST = 256;

export class PackWriter {
  readonly packId: string;
  readonly path: string;
  readonly #disk: Disk;
  readonly #file: DiskFile;
  /** Of the store's reserve, what it leaves free. */
  readonly #reservePart: number;
  /** Back to back, and room for more: a pack may have 65,536. */
  #entries = Buffer.alloc(ENTRIES_AT_FIRST * PACK_ENTRY_BYTES);
  #entryCount = 0;
  /** Raw length by digest key. */
  readonly #rawLengths = new Map<string, number>();
  #unwritten: Uint8Array[] = [];
  #unwrittenBytes = 0;
  #end: number;
  #brokenBy: unknown = null;
  #isClosed = false;

  private constructor(
    disk: Disk,
    packId: string,
    path: string,
    file: DiskFile,
    end: number,
    reservePart: number = 1,
  ) {
    this.#reservePart = reservePart;
    this.#disk = disk;
    this.packId = packId;
    this.path = path;
    this.#file = file;
    this.#end = end;
  }

  /**
   * The new file's name is durable when it resolves, its header with the first flush.
   * @param reservePart of the store's reserve, what it leaves free
   */
  static async create(
    disk: Disk,
    dir: string,
    packId: string,
    kind: number,
    reservePart: number = 1,
  ): Promise<PackWriter> {
    const path = join(dir, stagingPackName(packId));
    const file = await disk.create(path);
    const writer = new PackWriter(disk, packId, path, file, PACK_HEADER_BYTES, reservePart);
    try {
      await disk.syncDir(dir);
    } catch (error) {
      await writer.close();
      throw error;
    }
    writer.#queue(native.encodePackHeader(packId, kind));
    return writer;
  }

  /** Goes on with a file that ends with the last of `index`'s records. */
  static async reopen(disk: Disk, dir: string, index: PackIndex, end: number): Promise<PackWriter> {
    const path = join(dir, stagingPackName(index.packId));
    const writer = new PackWriter(disk, index.packId, path, await disk.open(path, 'append'), end);
    for (let i = 0; i < packEntryCount(index.entries); i += 1) {
      writer.#enter(decodePackEntry(index.entries, i));
    }
    return writer;
  }

  /** Where the next record goes: bytes from the start of the pack, including those not yet flushed. */
  get end(): number {
    return this.#end;
  }
  get recordCount(): number {
    return this.#entryCount;
  }
  get unwrittenBytes(): number {
    return this.#unwrittenBytes;
  }
  isFull(bytesTarget: number): boolean {
    return this.#end >= bytesTarget || this.#entryCount >= PACK_RECORDS_MAX;
  }

  /** Raw length of the record with this digest key; undefined if the pack doesn't have it. */
  rawLength(key: string): number | undefined {
    return this.#rawLengths.get(key);
  }

  /** @param record header and stored bytes; kept until the next flush */
  add(digest: Buffer, rawLength: number, codec: number, kind: number, record: Buffer): void {
    const storedLength = record.length - RECORD_HEADER_BYTES;
    this.#enter({ digest, offset: this.#end, storedLength, rawLength, codec, kind });
    this.#queue(record);
    this.#end += record.length;
  }

  #enter(entry: PackEntry): void {
    const at = this.#entryCount * PACK_ENTRY_BYTES;
    if (at === this.#entries.length) this.#entries = Buffer.concat([this.#entries, Buffer.alloc(at)]);
    encodePackEntry(this.#entries, at, entry);
    this.#entryCount += 1;
    this.#rawLengths.set(digestKey(entry.digest as Buffer), entry.rawLength);
  }

  /** Neighbours in one buffer, such as a batch's records, become one part. */
  #queue(bytes: Buffer): void {
    const last = this.#unwritten.at(-1);
    if (last?.buffer === bytes.buffer && last.byteOffset + last.length === bytes.byteOffset) {
      this.#unwritten[this.#unwritten.length - 1] = Buffer.from(
        last.buffer,
        last.byteOffset,
        last.length + bytes.length,
      );
    } else {
      this.#unwritten.push(bytes);
    }
    this.#unwrittenBytes += bytes.length;
  }

  /** @throws code `ENOSPC` with the store's reserve left free */
  async flush(): Promise<void> {
    await this.#step(() => leaveReserve(this.#disk, this.path, this.#unwrittenBytes, this.#reservePart));
    await this.#append();
  }

  async #append(): Promise<void> {
    const parts = this.#unwritten;
    this.#unwritten = [];
    this.#unwrittenBytes = 0;
    await this.#step(() => this.#file.append(parts));
  }

  /** What was flushed is on stable storage when it resolves. */
  sync(): Promise<void> {
    return this.#step(() => this.#file.sync());
  }

  /** Writes index and footer, syncs, closes, and reads back what it wrote. The pack may then be published. */
  async finish(): Promise<{ readonly sizeBytes: number; readonly entries: Buffer }> {
    if (this.#unwrittenBytes > 0) await this.flush();
    const entries = this.#entries.subarray(0, this.#entryCount * PACK_ENTRY_BYTES);
    const tail = native.encodePackTail(this.packId, this.#end, entries);
    this.#queue(tail);
    // Out of the reserve: with it, what the pack has can be kept.
    await this.#append();
    await this.sync();
    await this.close();
    const written = await native.readPackIndex(this.path);
    if (written.packId !== this.packId || !written.entries.equals(entries)) {
      throw new Error(`pack ${this.packId}: it reads back differently from what was written`);
    }
    return { sizeBytes: this.#end + tail.length, entries };
  }

  /** Closes the file; again has no effect. */
  async close(): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await this.#file.close();
  }

  async #step(step: () => Promise<void>): Promise<void> {
    if (this.#brokenBy !== null) throw this.#brokenBy;
    try {
      await step();
    } catch (error) {
      this.#brokenBy = error;
      throw error;
    }
  }
}
