/** Bytes that are the same in every run: AES-CTR streams and a small generator for decisions. */
import { createCipheriv, createHash } from 'node:crypto';

/** A source of incompressible bytes, named by its seed. */
export function byteStream(seed: string): (byteLength: number) => Buffer {
  const key = createHash('sha256').update(seed).digest();
  const cipher = createCipheriv('aes-256-ctr', key, Buffer.alloc(16));
  return (byteLength) => cipher.update(Buffer.alloc(byteLength));
}

/** Integers in [0, below), from a stream of their own. */
export function integerStream(seed: string): (below: number) => number {
  const next = byteStream(seed);
  let buffer = next(65_536);
  let offset = 0;
  return (below) => {
    if (offset === buffer.length) {
      buffer = next(65_536);
      offset = 0;
    }
    const value = buffer.readUInt32LE(offset);
    offset += 4;
    return value % below;
  };
}
