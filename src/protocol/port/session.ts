/** A session at the receiver, as a backup drives it: a transaction of messages, each of which may be repeated as it is. */
import type { Point } from '../../domain/point/point.js';
import type {
  BeginAnswer,
  BeginRequest,
  CommitRequest,
  SessionStatus,
} from '../../domain/session/messages.js';

export interface SessionPort {
  begin(request: BeginRequest): Promise<BeginAnswer>;
  /** @param digests n * 32 bytes. @returns ceil(n / 8) bytes, bit i (LSB first) set: held for this device, need not be sent. */
  have(sessionId: string, digests: Uint8Array): Promise<Uint8Array>;
  /**
   * Digests of the 4 KiB pieces of blocks of the session's base point, for patches (src/domain/blocks/pieces.ts).
   * @param blockIndexes ascending
   */
  pieces(sessionId: string, blockIndexes: readonly number[]): Promise<Uint8Array>;
  /** Answers when the batch is durable. Numbers start at 1; within a session the higher number wins for a block. */
  batch(sessionId: string, sequence: number, body: Uint8Array): Promise<{ durableSequence: number }>;
  status(sessionId: string): Promise<SessionStatus>;
  commit(sessionId: string, request: CommitRequest): Promise<Point>;
  abort(sessionId: string): Promise<void>;
}
