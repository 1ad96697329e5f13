/**
 * The answer to `nodes`: for each node, in the order of the request, u32 length, then its trimmed content.
 */
import { DIGEST_BYTES, NODE_BYTES_MAX } from '../../domain/base/limits.js';

const LENGTH_BYTES = 4;

export function encodeNodes(contents: readonly Uint8Array[]): Buffer {
  return Buffer.concat(
    contents.flatMap((content) => {
      const length = Buffer.alloc(LENGTH_BYTES);
      length.writeUInt32LE(content.length);
      return [length, content];
    }),
  );
}

/** @returns views into the answer, or a clause that says what is wrong with it. */
export function decodeNodes(answer: Uint8Array, count: number): Buffer[] | string {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength);
  const contents: Buffer[] = [];
  let at = 0;
  for (let n = 0; n < count; n += 1) {
    const from = at + LENGTH_BYTES;
    if (from > bytes.length) return 'the answer is too short';
    const byteLength = bytes.readUInt32LE(at);
    const content = bytes.subarray(from, from + byteLength);
    if (byteLength > NODE_BYTES_MAX || content.length !== byteLength || byteLength % DIGEST_BYTES !== 0)
      return `node ${n} of the answer has a wrong length`;
    contents.push(content);
    at = from + byteLength;
  }
  return at === bytes.length ? contents : 'the answer is too long';
}
