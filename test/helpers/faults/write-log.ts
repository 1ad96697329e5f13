/**
 * What a restore writes, in order, and what a power cut may leave of it: everything before a flush is there,
 * of what came after the last one any sectors. It sits at the addon's border, below all of our code.
 */
import type { ExecutionContext } from 'ava';
import { native } from '../../../src/native/index.js';
import type { Random } from '../seed.js';

const SECTOR = 512;

type Entry =
  | { readonly type: 'write'; readonly byteOffset: number; readonly bytes: Buffer }
  | { readonly type: 'flush' };

const BATCH_HEADER_BYTES = 64;
const BATCH_ENTRY_BYTES = 56;

export class WriteLog {
  readonly entries: Entry[] = [];

  /** Records all writes to devices that are opened from now on, until the test ends. Serial tests only. */
  static record(t: ExecutionContext): WriteLog {
    const log = new WriteLog();
    const { openDevice, createRestoreWriter } = native;
    native.openDevice = async (...args) => {
      const device = await openDevice.apply(native, args);
      const write = device.write.bind(device);
      const flush = device.flush.bind(device);
      return define(device, {
        write: async (byteOffset: number, bytes: Uint8Array) => {
          log.#add(byteOffset, bytes);
          await write(byteOffset, bytes);
        },
        flush: async () => {
          await flush();
          log.entries.push({ type: 'flush' });
        },
      });
    };
    native.createRestoreWriter = (device, tree) => {
      const writer = createRestoreWriter.call(native, device, tree);
      const write = writer.write.bind(writer);
      const zero = writer.zero.bind(writer);
      const flush = writer.flush.bind(writer);
      return define(writer, {
        write: async (body: Uint8Array, pointId: string) => {
          const { sizeBytes, blockSize, digester } = tree;
          const bounds = { sessionId: pointId, sequence: 0, sizeBytes, blockSize, digester, expected: tree };
          for (const [n, block] of (await native.decodeBlocks(body, bounds)).entries()) {
            const at = BATCH_HEADER_BYTES + n * BATCH_ENTRY_BYTES;
            log.#add(Number(Buffer.from(body).readBigUInt64LE(at)) * blockSize, block);
          }
          return write(body, pointId);
        },
        zero: async (byteOffset: number, byteLength: number) => {
          log.#add(byteOffset, Buffer.alloc(byteLength));
          await zero(byteOffset, byteLength);
        },
        flush: async () => {
          await flush();
          log.entries.push({ type: 'flush' });
        },
      });
    };
    t.teardown(() => Object.assign(native, { openDevice, createRestoreWriter }));
    return log;
  }

  #add(byteOffset: number, bytes: Uint8Array): void {
    this.entries.push({ type: 'write', byteOffset, bytes: Buffer.from(bytes) });
  }

  /**
   * The content after a cut of power behind so many entries; of what is not flushed each sector is
   * there or not, by chance.
   */
  afterCut(before: Buffer, entryCount: number, random: Random): Buffer {
    const content = Buffer.from(before);
    const done = this.entries.slice(0, entryCount);
    const flushed = done.findLastIndex(({ type }) => type === 'flush');
    for (const [n, entry] of done.entries()) {
      if (entry.type === 'flush') continue;
      for (let at = 0; at < entry.bytes.length; at += SECTOR) {
        if (n > flushed && random.below(2) === 0) continue;
        entry.bytes.copy(content, entry.byteOffset + at, at, at + SECTOR);
      }
    }
    return content;
  }
}

/** The addon's methods are read-only on their prototype. */
function define<Made extends object>(made: Made, methods: Record<string, unknown>): Made {
  for (const [name, value] of Object.entries(methods)) Object.defineProperty(made, name, { value });
  return made;
}
