/**
 * Compares the claims of a commit with the facts about its session. Pure. The store decides what the blocks
 * prove.
 */
import { StillpointError } from '../../domain/base/errors.js';
import type { Point } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import type { CaptureDescription } from '../../store/port/store.js';

/** @throws StillpointError `bad-message` */
export function checkCommit(request: CommitRequest, description: CaptureDescription): void {
  const { sessionId, geometry } = description;
  const refuse = (reason: string) => {
    throw new StillpointError('bad-message', { thing: `commit of session ${sessionId}`, reason });
  };
  let end = 0;
  for (const { byteOffset, byteLength } of request.badRanges) {
    if (byteOffset < end) refuse('its bad ranges overlap or do not ascend');
    end = byteOffset + byteLength;
  }
  if (end > geometry.sizeBytes) refuse('a bad range ends beyond the end of the device');
  let excludedEnd = 0;
  for (const { byteOffset, byteLength } of request.excluded ?? []) {
    if (byteOffset < excludedEnd) refuse('its excluded ranges overlap or do not ascend');
    if (byteOffset % geometry.blockSize !== 0) refuse('an excluded range begins within a block');
    excludedEnd = byteOffset + byteLength;
  }
  if (excludedEnd > geometry.sizeBytes) refuse('an excluded range ends beyond the end of the device');
}

/**
 * The same state of the device: of what a second try may say anew, statistics and
 * warnings, the first one counts.
 */
export function isSameCommit(a: CommitRequest, b: CommitRequest): boolean {
  const isSameGroup = a.group?.id === b.group?.id;
  return a.root === b.root && a.batchCount === b.batchCount && isSameGroup && isSameInstant(a, b);
}

/**
 * @returns the session's point, where that is what the commit asks for
 * @throws StillpointError `root-mismatch`, `session-closed`
 */
export function checkCommitted(request: CommitRequest, point: Point): Point {
  const thing = `session ${point.id}`;
  if (point.root !== request.root)
    throw new StillpointError('root-mismatch', { thing, reason: 'it was committed with another root' });
  if (isSameInstant(point, request)) return point;
  throw new StillpointError('session-closed', {
    thing,
    reason: `it was committed as of another instant: ${point.instant}, ${point.kind}, from the provider ${point.provider}`,
    remedy: 'Begin another session for the next backup.',
  });
}

type Instant = Pick<CommitRequest, 'instant' | 'kind' | 'provider'>;

function isSameInstant(a: Instant, b: Instant): boolean {
  return a.instant === b.instant && a.kind === b.kind && a.provider === b.provider;
}
