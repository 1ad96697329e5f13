/**
 * One session as a transaction: begin -> base tree -> scan and send -> proof that the view stood -> seal ->
 * commit -> local tree. Of a late view the instant comes while it is scanned and sent (transfer.ts). If it
 * dies in between, the last point and its tree stay; see device-state.ts for what a restart finds.
 *
 * Order of the end: all batches durable; the provider confirms the instant; the overlay is sealed on disk;
 * the receiver commits; the local tree follows. A failure before the commit leaves no trace that a later
 * session would believe.
 */
import type { Point } from '../../domain/point/point.js';
import type { BeginAnswer } from '../../domain/session/messages.js';
import { changesCount, knowsBase, settleBase } from '../../domain/session/plan.js';
import { toldAgainAfter } from '../common/told-again.js';
import { PATIENCE_MS, SessionLink } from '../send/session-link.js';
import { afterCommit, afterFailedSession } from './aftermath.js';
import { localBase, prepareBase } from './base.js';
import { commitSealed } from './commit.js';
import type { BegunSession, SessionContext } from './context.js';
import { ChangesDoubted } from './findings.js';
import type { BackupResult } from './options.js';
import { Passing } from './passing.js';
import { transfer } from './transfer.js';

/** @throws StillpointError; ChangesDoubted, ResumeDoubted where another session can do better */
export async function runSession(context: SessionContext): Promise<BackupResult> {
  const { tracking, warnings } = context.view;
  const { doubt, accepted } = context.findings;
  if (doubt !== null) context.warn(`the map of changes is void, so everything is read: ${doubt}`);
  const leftOutWarnings = context.leftOut?.warnings ?? [];
  for (const warning of [...accepted, ...warnings, ...leftOutWarnings]) context.warn(warning);
  const link = newLink(context);
  try {
    const session = settle(context, link, await begin(context, link));
    const point = await makePoint(context, session);
    return {
      ...{ point, warnings: context.warnings, wireBytes: context.wire.bytes, base: session.base },
      tracking: tracking === undefined ? null : { used: tracking.changes !== null, reason: tracking.reason },
    };
  } catch (error) {
    link.stop();
    throw await afterFailedSession(context, link, error);
  }
}

const TOLD_AGAIN_MS = 60_000;

function newLink(context: SessionContext): SessionLink {
  const { options, signal, findings, plan, name, view, size } = context;
  const { device, acceptIdentity = false, patienceMs = PATIENCE_MS } = options;
  const { last } = findings;
  const request = {
    device,
    identity: view.identity,
    geometry: size,
    base: last !== null && knowsBase(plan.base) ? { id: last.id, root: last.root } : null,
    sessionId: name.sessionId,
    acceptIdentity,
    newChain: plan.base.start === 'new-chain',
  };
  // A receiver may be away for hours, and is asked every few seconds.
  const tell = toldAgainAfter(TOLD_AGAIN_MS, (text) => context.notice(text));
  return new SessionLink(context.receiver, request, {
    signal,
    patienceMs,
    onInterruption: ({ message }) => tell(`${message} Trying again.`),
  });
}

async function begin({ state, name }: SessionContext, link: SessionLink): Promise<BeginAnswer> {
  // Before a batch can be durable, so that a killed agent's next process finds the
  // session that it belongs to.
  const keeping = name.isResumed ? Promise.resolve() : state.keepSession(name.kept);
  // It is waited for in any case; nothing is to be written when the backup has failed.
  keeping.catch(() => undefined);
  try {
    return await link.begin();
  } finally {
    await keeping;
  }
}

/** @throws ChangesDoubted, StillpointError `base-mismatch` */
function settle(context: SessionContext, link: SessionLink, answer: BeginAnswer): BegunSession {
  const { options, state, findings, plan, size, view } = context;
  const { last } = findings;
  const { base, warning } = settleBase(plan, {
    device: options.device,
    local: localBase(state, options.compare),
    ...{ last, answered: answer.base },
  });
  if (warning !== null) context.warn(warning);
  const { changes = null } = view.tracking ?? {};
  if (changes !== null && !changesCount(answer.base, last, size))
    throw new ChangesDoubted('it does not belong to the point that the receiver goes on from');
  return { link, answer, base };
}

async function makePoint(context: SessionContext, session: BegunSession): Promise<Point> {
  const { state } = context;
  context.onEvent({ type: 'phase', phase: 'base' });
  const { passes } = context.view;
  const passing = passes === undefined ? null : new Passing(passes, session.link.signal);
  if (session.base.start === 'compare') await passing?.begin();
  const { tree, differing } = await prepareBase(context, session);
  const overlay = await state.newOverlay(tree);
  try {
    const transferred = await transfer(context, session, { tree, overlay, differing, passing });
    const point = await commitSealed(context, session.link, transferred);
    await afterCommit(context, point);
    return point;
  } catch (error) {
    // A sealed overlay stays: the receiver may have committed it.
    if (state.local.pending === null) await state.discardOverlay();
    throw error;
  }
}
