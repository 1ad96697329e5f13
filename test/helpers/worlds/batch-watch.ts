/** What really reaches a receiver in the batches of sessions: which blocks, and of which the bytes. */
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { ENTRY_BYTES } from '../bytes/batches.js';

const HEADER_BYTES = 64;
const ZERO_RUN = 0;
const PAYLOAD = 1;

export interface BatchWatch {
  readonly receiver: ReceiverPort;
  /** Every block that was named. */
  readonly blocks: Set<number>;
  /** Digests whose bytes came along, as often as they came, in hexadecimal digits. */
  readonly sent: string[];
}

/** docs/format.md section 4, read without the decoder under test. */
export function watchBatches(receiver: ReceiverPort): BatchWatch {
  const blocks = new Set<number>();
  const sent: string[] = [];
  const note = (body: Uint8Array): void => {
    const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
    const ordinals = new Set<number>();
    for (let n = 0; n < bytes.readUInt32LE(32); n += 1) {
      const at = HEADER_BYTES + n * ENTRY_BYTES;
      const [first, kind] = [Number(bytes.readBigUInt64LE(at)), bytes.readUInt8(at + 12)];
      const count = kind === ZERO_RUN ? bytes.readUInt32LE(at + 8) : 1;
      for (let i = 0; i < count; i += 1) blocks.add(first + i);
      const ordinal = bytes.readUInt32LE(at + 48);
      if (kind !== PAYLOAD || ordinals.has(ordinal)) continue;
      ordinals.add(ordinal);
      sent.push(bytes.toString('hex', at + 16, at + 48));
    }
  };
  const watched = new Proxy(receiver, {
    get: (target, name: keyof ReceiverPort) => {
      const method = target[name] as (...args: unknown[]) => unknown;
      if (name !== 'batch') return method.bind(target);
      return (sessionId: string, sequence: number, body: Uint8Array) => {
        note(body);
        return target.batch(sessionId, sequence, body);
      };
    },
  });
  return { receiver: watched, blocks, sent };
}
