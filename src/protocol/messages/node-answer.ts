/** The answer to `nodes`: for each node in the order asked u32 length, then its trimmed content. */
import { DIGEST_BYTES, NODE_BYTES_MAX } from '../../domain/base/limits.js';

/** @returns views into the answer, or a clause that says what is wrong with it. */
export function decodeNodes(answer: Uint8Array, count: number): Buffer[] | string {
  const bytes = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength);
  const contents: Buffer[] = [];
  let at = 0;
  for (let n = 0; n < count; n += 1) {
    if (at + 4 > bytes.length) return 'the answer is too short';
    const byteLength = bytes.readUInt32LE(at);
    const content = bytes.subarray(at + 4, at + 4 + byteLength);
    if (byteLength > NODE_BYTES_MAX || content.length !== byteLength || byteLength % DIGEST_BYTES !== 0)
      return `node ${n} of the answer has a wrong length`;
    contents.push(content);
    at += 4 + byteLength;
  }
  return at === bytes.length ? contents : 'the answer is too long';
}
