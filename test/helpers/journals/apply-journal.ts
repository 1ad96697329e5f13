/**
 * The addon's `applyJournal` in TypeScript: each byte goes through the device's own `write`, where a log of
 * writes or a fault sees it.
 */
import type { ExecutionContext } from 'ava';
import { withoutRanges } from '../../../src/domain/blocks/block-ranges.js';
import { type Device, native } from '../../../src/native/index.js';
import { scanJournal } from '../bytes/journal-records.js';

const HEADER_BYTES = 64;
const [WRITE, ZERO] = [1, 2];

/** In place of the addon's, until the test ends. Serial tests only. */
export function applyJournal(t: ExecutionContext): void {
  const own = native.applyJournal;
  Object.assign(native, { applyJournal: apply });
  t.teardown(() => Object.assign(native, { applyJournal: own }));
}

async function apply(
  device: Device,
  records: Uint8Array,
  except: readonly (readonly [number, number])[],
): Promise<{ writtenBytes: number }> {
  const bytes = Buffer.from(records);
  const run = await scanJournal(bytes, { afterOrdinal: null });
  if (run.byteLength !== bytes.length) throw Object.assign(new Error('cut'), { code: 'truncated' });
  let writtenBytes = 0;
  for (let at = 0; at < bytes.length; ) {
    const payloadBytes = bytes.readUInt32LE(at + 8);
    const [from, length] = [32, 40].map((offset) => Number(bytes.readBigUInt64LE(at + offset))) as [
      number,
      number,
    ];
    const kind = bytes[at + 5];
    const payload = kind === WRITE ? bytes.subarray(at + HEADER_BYTES) : Buffer.alloc(length);
    if (kind === WRITE || kind === ZERO) {
      for (const [start, end] of withoutRanges([[from, from + length]], except)) {
        await device.write(start, payload.subarray(start - from, end - from));
        writtenBytes += end - start;
      }
    }
    at += HEADER_BYTES + payloadBytes;
  }
  return { writtenBytes };
}
