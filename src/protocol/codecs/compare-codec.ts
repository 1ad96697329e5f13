/**
 * The question of `/point/compare` and its answer (docs/protocol.md): the asker's own contents of tree nodes
 * go to the receiver, and the answer says for each node which children differ. This is the cheap direction if
 * the asker's content is short: 16 bytes come back instead of 2 KiB.
 *
 *   question: magic SPCMPQ1\0 (8), point id (16), u32 count, 4 reserved; per node u8 level, 1 reserved, u16
 *             children, u64 index, children * 32
 *   answer:   per node u64 children that differ, u64 children that are NULL at the receiver; bit i: child i
 */

import { StillpointError } from '../../domain/base/errors.js';
import { DIGEST_BYTES, NODES_REQUEST_MAX, TREE_FANOUT } from '../../domain/base/limits.js';
import { isNull } from '../../domain/tree/digest-tree.js';

export interface ComparedNode {
  readonly level: number;
  readonly index: number;
  /** Digests of the asker's children, at most 64; trailing NULLs may be left out. */
  readonly content: Uint8Array;
}

export interface ComparedChildren {
  /** Bit i: child i has another digest at the receiver. */
  readonly differing: bigint;
  /** Bit i: child i is NULL at the receiver. */
  readonly nulls: bigint;
}

const MAGIC = Buffer.from('SPCMPQ1\0', 'latin1');
const HEADER_BYTES = 32;
const NODE_HEADER_BYTES = 12;
const ANSWER_NODE_BYTES = 16;
const INDEX_MAX = BigInt(Number.MAX_SAFE_INTEGER);

export const COMPARE_QUESTION_BYTES_MAX =
  HEADER_BYTES + NODES_REQUEST_MAX * (NODE_HEADER_BYTES + TREE_FANOUT * DIGEST_BYTES);
export const COMPARE_ANSWER_BYTES_MAX = NODES_REQUEST_MAX * ANSWER_NODE_BYTES;

/** What a node takes in the question, and in the answer. */
export const questionBytes = (contentBytes: number): number => NODE_HEADER_BYTES + contentBytes;
export const answerBytes = ANSWER_NODE_BYTES;

export function encodeQuestion(pointId: string, nodes: readonly ComparedNode[]): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  header.write(pointId, 8, 'hex');
  header.writeUInt32LE(nodes.length, 24);
  return Buffer.concat([
    header,
    ...nodes.flatMap(({ level, index, content }) => {
      const head = Buffer.alloc(NODE_HEADER_BYTES);
      head.writeUInt8(level, 0);
      head.writeUInt16LE(content.length / DIGEST_BYTES, 2);
      head.writeBigUInt64LE(BigInt(index), 4);
      return [head, content];
    }),
  ]);
}

/** @throws StillpointError `bad-message`; what levels and indexes a tree has is the caller's to check */
export function decodeQuestion(body: Uint8Array): { pointId: string; nodes: ComparedNode[] } {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (bytes.length < HEADER_BYTES || !bytes.subarray(0, MAGIC.length).equals(MAGIC))
    throw badQuestion('it does not begin as one of version 1');
  const count = bytes.readUInt32LE(24);
  if (count < 1 || count > NODES_REQUEST_MAX || bytes.readUInt32LE(28) !== 0)
    throw badQuestion(`it has ${count} nodes, not 1 to ${NODES_REQUEST_MAX}, or reserved bytes set`);
  const nodes: ComparedNode[] = [];
  let at = HEADER_BYTES;
  for (let n = 0; n < count; n += 1) {
    if (at + NODE_HEADER_BYTES > bytes.length) throw badQuestion('it is too short');
    const index = bytes.readBigUInt64LE(at + 4);
    const contentEnd = at + NODE_HEADER_BYTES + bytes.readUInt16LE(at + 2) * DIGEST_BYTES;
    const content = bytes.subarray(at + NODE_HEADER_BYTES, contentEnd);
    if (bytes[at + 1] !== 0 || index > INDEX_MAX || content.length > TREE_FANOUT * DIGEST_BYTES)
      throw badQuestion(`its node ${n} is out of bounds`);
    if (contentEnd > bytes.length) throw badQuestion('it is too short');
    nodes.push({ level: bytes.readUInt8(at), index: Number(index), content });
    at = contentEnd;
  }
  if (at !== bytes.length) throw badQuestion('it is too long');
  return { pointId: bytes.toString('hex', 8, 24), nodes };
}

export function encodeAnswer(nodes: readonly ComparedChildren[]): Buffer {
  const answer = Buffer.alloc(nodes.length * ANSWER_NODE_BYTES);
  for (const [n, { differing, nulls }] of nodes.entries()) {
    answer.writeBigUInt64LE(differing, n * ANSWER_NODE_BYTES);
    answer.writeBigUInt64LE(nulls, n * ANSWER_NODE_BYTES + 8);
  }
  return answer;
}

/** @throws StillpointError `bad-message` */
export function decodeAnswer(body: Uint8Array, count: number): ComparedChildren[] {
  const bytes = Buffer.from(body.buffer, body.byteOffset, body.byteLength);
  if (bytes.length !== count * ANSWER_NODE_BYTES) {
    throw new StillpointError('bad-message', {
      thing: 'answer to /point/compare',
      reason: `it has ${bytes.length} bytes for ${count} nodes`,
    });
  }
  return Array.from({ length: count }, (_, n) => ({
    differing: bytes.readBigUInt64LE(n * ANSWER_NODE_BYTES),
    nulls: bytes.readBigUInt64LE(n * ANSWER_NODE_BYTES + 8),
  }));
}

function badQuestion(reason: string): StillpointError {
  return new StillpointError('bad-message', { thing: 'question of /point/compare', reason });
}

/** Which children of a node differ between the asker's content and the receiver's; absent ones are NULL. */
export function compareChildren(own: Uint8Array, theirs: Uint8Array): ComparedChildren {
  let differing = 0n;
  let nulls = 0n;
  for (let child = 0; child < TREE_FANOUT; child += 1) {
    const their = childOf(theirs, child);
    if (isNull(their)) nulls |= 1n << BigInt(child);
    if (Buffer.compare(childOf(own, child), their) !== 0) differing |= 1n << BigInt(child);
  }
  return { differing, nulls };
}

const NULL_DIGEST = new Uint8Array(DIGEST_BYTES);

function childOf(content: Uint8Array, child: number): Uint8Array {
  const at = child * DIGEST_BYTES;
  return at < content.length ? content.subarray(at, at + DIGEST_BYTES) : NULL_DIGEST;
}
