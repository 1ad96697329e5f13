/**
 * Going on with the session of a process that was killed: whether it may be, and what of the device is durable already.
 *
 * A session's blocks go out in the order of the device, bad ones after the chunk that they lie in. So of everything below the highest
 * block of a durable batch the good blocks are durable; it is read again for the tree alone. Bad blocks are always sent: what they
 * became may differ. One that was bad then and is good now is not: the root does not match then, and a new session begins.
 */
import type { Snapshot } from '../../capture/ports.js';
import { isStillpointError, type StillpointError } from '../../domain/base/errors.js';
import type { BlockRange } from '../../domain/blocks/block-ranges.js';
import type { BeginAnswer } from '../../domain/session/messages.js';
import type { SessionPort } from '../../protocol/port/session.js';
import type { DeviceState } from '../state/device-state.js';
import { describeSession, isSameView, type KeptSession } from '../state/kept-session.js';

/** The session can't be gone on with; another one can begin, and what had arrived is not sent again. */
export class ResumeDoubted extends Error {}

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

export function shedsDoubt(error: unknown): error is StillpointError {
  return isStillpointError(error) && DOUBTS.has(error.code);
}

/** The kept session, if it is of this very view and the receiver still holds it open. */
export async function findResumable(
  state: DeviceState,
  receiver: Pick<SessionPort, 'status'>,
  snapshot: Snapshot,
  facts: Pick<KeptSession, 'sessionId' | 'instant' | 'provider' | 'blockSize' | 'lastPointId'>,
): Promise<Pick<KeptSession, 'sessionId' | 'instant'> | null> {
  const kept = await state.keptSession();
  const now = describeSession(snapshot, facts);
  if (kept === null || now === null || !isSameView(kept, now)) return null;
  const { state: found } = await receiver.status(kept.sessionId);
  return found === 'open' ? { sessionId: kept.sessionId, instant: kept.instant } : null;
}

export function resumedText({ instant }: Pick<KeptSession, 'instant'>): string {
  return `nothing was written since ${instant}: the session of that instant goes on, and what had arrived is not sent again`;
}

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
