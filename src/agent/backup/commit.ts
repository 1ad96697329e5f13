/** The end of a session that has sent all: the overlay is sealed, then the receiver makes the point. */
import { WARNING_CHARS_MAX, WARNINGS_MAX } from '../../domain/base/limits.js';
import { type BadRange, type Point, worstKind } from '../../domain/point/point.js';
import type { CommitRequest } from '../../domain/session/messages.js';
import { afterFailedCommit } from '../../domain/session/resume.js';
import { throwIfCancelled, unlessAborted } from '../common/cancel.js';
import type { SessionLink } from '../send/session-link.js';
import type { CommonFacts, SessionContext } from './context.js';
import type { Transferred } from './transfer.js';

/** @throws StillpointError; what it leaves of the overlay: src/domain/session/resume.ts */
export async function commitSealed(
  context: SessionContext,
  link: SessionLink,
  transferred: Transferred,
): Promise<Point> {
  const { state } = context;
  const request = await commitRequest(context, link, transferred);
  context.onEvent({ type: 'phase', phase: 'commit' });
  throwIfCancelled(context.signal);
  await sealed(context, link, request.root);
  try {
    return await link.commit(request);
  } catch (error) {
    const outcome = afterFailedCommit(error, context.name.isResumed);
    if (outcome !== 'undecided') await state.discardOverlay();
    if (outcome === 'tree-wrong') await state.forgetTree();
    throw error;
  }
}

async function sealed({ state, backup }: SessionContext, link: SessionLink, root: string): Promise<void> {
  try {
    await state.seal(link.sessionId, root);
  } catch (error) {
    // The receiver waits for all of a group: without this one there is none.
    if (backup.together !== undefined) await link.abort();
    throw error;
  }
}

async function commitRequest(
  context: SessionContext,
  link: SessionLink,
  transferred: Transferred,
): Promise<CommitRequest> {
  const { batchCount, root, changedBytes, badRanges, view, conclusion } = transferred;
  const { provider, sessionId } = context.name;
  const { excluded = [] } = context.leftOut ?? {};
  const instant = conclusion.instant?.toISOString() ?? context.name.instant;
  const kind = worstKind([view.kind, conclusion.kind]);
  for (const warning of conclusion.warnings) context.warn(warning);
  if (badRanges.length > 0) context.warn(describeBadRanges(badRanges));
  const together = context.backup.together?.transferred({ sessionId, kind, instant });
  const common = together === undefined ? null : await unlessAborted(link.signal, together);
  for (const warning of common?.warnings ?? []) context.warn(warning);
  return {
    root,
    batchCount,
    ...(common === null ? { instant, kind } : pick(common)),
    ...{ provider, providerFacts: conclusion.facts ?? {} },
    statistics: {
      scannedBytes: context.scannedBytes,
      changedBytes,
      wireBytes: context.wire.bytes,
      durationMs: Math.round(performance.now() - context.startMs),
    },
    badRanges,
    ...(excluded.length === 0 ? {} : { excluded }),
    warnings: context.warnings.slice(0, WARNINGS_MAX).map((text) => text.slice(0, WARNING_CHARS_MAX)),
    ...(conclusion.journal === undefined ? {} : { journal: conclusion.journal }),
  };
}

const pick = ({ instant, kind, group }: CommonFacts) => ({ instant, kind, group });

function describeBadRanges(badRanges: readonly BadRange[]): string {
  const bytesOf = (content: BadRange['content']) =>
    badRanges.filter((range) => range.content === content).reduce((sum, range) => sum + range.byteLength, 0);
  return (
    `${badRanges.length} ranges could not be read: ${bytesOf('previous')} bytes keep the last good content, ` +
    `${bytesOf('filler')} bytes are marked as unreadable`
  );
}
