/**
 * Records of a capture's log (docs/format.md section 5): one is written per durable batch, and they are read
 * back when a session is recovered.
 */
import { BATCH_ENTRIES_MAX, DIGEST_BYTES } from '../../domain/base/limits.js';
import { native } from '../../native/index.js';
import { type DiskFile, errnoOf } from '../disk/disk.js';
import { readUint64LE, writeUint64LE } from '../packs/entries.js';

const MAGIC = Buffer.from('SPL1');
const HEADER_BYTES = 48;
const { batchHeaderBytes, batchEntryBytes } = native.constants;
const HEAD_BYTES_MAX = batchHeaderBytes + BATCH_ENTRIES_MAX * batchEntryBytes;
export const NO_PACK = '0'.repeat(32);

export interface LogRecord {
  readonly sequence: number;
  /** When it was written, by the receiver's clock. */
  readonly writtenAtS: number;
  /** NO_PACK if the session has no pack yet. */
  readonly packId: string;
  /** End of the batch's records in the pack, bytes from its start. */
  readonly packEnd: number;
  /** Header and entries of the batch as it came. */
  readonly head: Buffer;
}

/** Header and entries of a batch body that native.decodeBatch accepted. */
export function batchHead(body: Buffer, entryCount: number): Buffer {
  return body.subarray(0, batchHeaderBytes + entryCount * batchEntryBytes);
}

/**
 * One more than the highest block index that a batch names: entries ascend, so the last one tells. 0
 * for a batch without any.
 */
export function blockEndOf(head: Buffer): number {
  const last = head.length - batchEntryBytes;
  return last < batchHeaderBytes ? 0 : readUint64LE(head, last) + head.readUInt32LE(last + 8);
}

export function encodeLogRecord(record: LogRecord): Buffer[] {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.writeUInt32LE(record.writtenAtS, 4);
  writeUint64LE(header, record.sequence, 8);
  header.write(record.packId, 16, 'hex');
  writeUint64LE(header, record.packEnd, 32);
  writeUint64LE(header, record.head.length, 40);
  return [header, record.head, native.checksum(header, record.head)];
}

/**
 * Reads the valid records from the start; `end` after the last `next()` is where they end, and `failure` why,
 * if before the file does.
 */
export class LogReader {
  end = 0;
  failure: string | null = null;
  readonly #file: DiskFile;
  readonly #sessionId: Buffer;
  #sequence = 0;

  constructor(file: DiskFile, sessionId: string) {
    this.#file = file;
    this.#sessionId = Buffer.from(sessionId, 'hex');
  }

  async *records(): AsyncGenerator<LogRecord> {
    const size = await this.#file.size();
    while (this.end < size) {
      const record = await this.#next(size);
      if (typeof record === 'string') {
        this.failure = record;
        return;
      }
      this.end += HEADER_BYTES + record.head.length + DIGEST_BYTES;
      this.#sequence = record.sequence;
      yield record;
    }
  }

  async #next(size: number): Promise<LogRecord | string> {
    if (this.end + HEADER_BYTES > size) return 'it ends within a record header';
    const header = await this.#file.read(this.end, HEADER_BYTES);
    if (!header.subarray(0, 4).equals(MAGIC)) return 'no record begins there';
    const headBytes = readUint64LE(header, 40);
    if (headBytes < batchHeaderBytes || headBytes > HEAD_BYTES_MAX)
      return 'a record has an impossible length';
    if (this.end + HEADER_BYTES + headBytes + DIGEST_BYTES > size) return 'it ends within a record';
    const rest = await this.#read(this.end + HEADER_BYTES, headBytes + DIGEST_BYTES);
    if (rest === null) return "a record can't be read";
    const head = rest.subarray(0, headBytes);
    if (!native.checksum(header, head).equals(rest.subarray(headBytes)))
      return 'a record has a wrong checksum';
    const sequence = readUint64LE(header, 8);
    if (sequence !== this.#sequence + 1 || !head.subarray(8, 24).equals(this.#sessionId)) {
      return 'a record is not the next one of this session';
    }
    return {
      sequence,
      writtenAtS: header.readUInt32LE(4),
      packId: header.toString('hex', 16, 32),
      packEnd: readUint64LE(header, 32),
      head,
    };
  }

  async #read(byteOffset: number, byteLength: number): Promise<Buffer | null> {
    try {
      return await this.#file.read(byteOffset, byteLength);
    } catch (error) {
      if (errnoOf(error) === 'ETRUNCATED') return null;
      throw error;
    }
  }
}
