/**
 * The answer to `have`: a bit for each digest in the order of the request, LSB first; set means held. The
 * rest of the last byte is 0.
 */
import { StillpointError } from '../../domain/base/errors.js';

/** @param held positions below `count` */
export function encodeHeld(held: Iterable<number>, count: number): Uint8Array {
  const answer = new Uint8Array(Math.ceil(count / 8));
  for (const at of held) answer[at >> 3] = (answer[at >> 3] ?? 0) | (1 << (at & 7));
  return answer;
}

/** @throws StillpointError `bad-message` where it is not an answer about so many digests */
export function decodeHeld(answer: Uint8Array, count: number): Set<number> {
  const held = new Set<number>();
  for (let at = 0; at < answer.length * 8; at += 1) {
    if (((answer[at >> 3] ?? 0) >> (at & 7)) & 1) held.add(at);
  }
  const isAnswer = answer.length === Math.ceil(count / 8) && [...held].every((at) => at < count);
  if (isAnswer) return held;
  throw new StillpointError('bad-message', {
    thing: 'answer to /session/have',
    reason: `its ${answer.length} bytes are not an answer about ${count} digests`,
    remedy: 'Check that both sides run the same version.',
  });
}
