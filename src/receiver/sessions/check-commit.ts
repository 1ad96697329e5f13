/** What a commit claims about its session, against what its begin said: pure. What the blocks prove is the store's business. */
import { StillpointError } from '../../domain/base/errors.js';
import { CONSISTENCY_KINDS } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import type { CaptureDescription } from '../../store/port/store.js';

/** @throws StillpointError `bad-message` */
export function checkCommit(request: CommitRequest, description: CaptureDescription): void {
  const { sessionId, kind, geometry } = description;
  const refuse = (reason: string) => {
    throw new StillpointError('bad-message', { thing: `commit of session ${sessionId}`, reason });
  };
  if (CONSISTENCY_KINDS.indexOf(request.kind) < CONSISTENCY_KINDS.indexOf(kind)) {
    refuse(`its instant can't be "${request.kind}", since the session began as "${kind}"`);
  }
  let end = 0;
  for (const { byteOffset, byteLength } of request.badRanges) {
    if (byteOffset < end) refuse('its bad ranges do not ascend, or overlap');
    end = byteOffset + byteLength;
  }
  if (end > geometry.sizeBytes) refuse('a bad range ends beyond the end of the device');
}
