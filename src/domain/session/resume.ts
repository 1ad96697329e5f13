/**
 * How the session of a killed process is resumed, and what happens to a session that fails. Pure.
 *
 * A session's blocks are sent in the order of the device, bad ones after the chunk that they are in. So all
 * good blocks below the highest block of a durable batch are durable; they are read again only for the tree.
 * Bad blocks are always sent: their content may differ. A block that was bad then and is good now is not
 * sent: then the root does not match, and a new session begins.
 */
import { isStillpointError } from '../base/errors.js';
import type { BlockRange } from '../blocks/block-ranges.js';
import type { BeginAnswer } from './messages.js';

export interface ScanPart {
  /** Undefined: the whole device. */
  readonly ranges: readonly BlockRange[] | undefined;
  readonly isDurable: boolean;
}

/** @param ranges that are to be scanned; undefined: all of the device */
export function partsToScan(
  ranges: readonly BlockRange[] | undefined,
  { durableBlockEnd }: Pick<BeginAnswer, 'durableBlockEnd'>,
  blockCount: number,
): ScanPart[] {
  const end = Math.min(durableBlockEnd, blockCount);
  if (end === 0) return [{ ranges, isDurable: false }];
  const wanted = ranges ?? [[0, blockCount] as const];
  const below = wanted.filter(([from]) => from < end).map(([from, to]) => [from, Math.min(to, end)] as const);
  const above = wanted.filter(([, to]) => to > end).map(([from, to]) => [Math.max(from, end), to] as const);
  return [
    { ranges: below, isDurable: true },
    { ranges: above, isDurable: false },
  ].filter((part) => part.ranges.length > 0);
}

/** What says of a session that two processes sent that it is not what it was taken for. */
const DOUBTS: ReadonlySet<string> = new Set([
  'root-mismatch',
  'bad-batch',
  'bad-message',
  'base-mismatch',
  'out-of-order',
  'session-closed',
  'session-unknown',
]);

export interface FailedSession {
  /** It is ended at the receiver. Else that keeps what arrived: the next session need not send it again. */
  readonly isOver: boolean;
  /** No later process shall go on with it. */
  readonly isForgotten: boolean;
  /** It is not what it was taken for, and another one can begin. */
  readonly isDoubted: boolean;
}

/** @param isResumed an earlier process began it */
export function afterFailure(error: unknown, isResumed: boolean): FailedSession {
  const isDoubted = isResumed && isStillpointError(error) && DOUBTS.has(error.code);
  const isOver = !isStillpointError(error) || error.permanent || isDoubted;
  return { isOver, isForgotten: isOver || error.code === 'device-changed', isDoubted };
}

/**
 * What a failed commit says of the sealed overlay. `undecided`: the point may be there, and the
 * overlay tells when that is known. `refused`: there is no such point. `tree-wrong`: nor is the
 * local tree what it should be.
 */
export function afterFailedCommit(
  error: unknown,
  isResumed: boolean,
): 'undecided' | 'refused' | 'tree-wrong' {
  if (!isStillpointError(error) || !error.permanent || error.code === 'cancelled') return 'undecided';
  // Of a session that two processes sent, first their batches are doubted.
  return error.code === 'root-mismatch' && !isResumed ? 'tree-wrong' : 'refused';
}
