/**
 * One attempt of a backup: one static view, and one session over it. The session may be that of a process
 * that was killed, if the view still stands.
 */
import { randomBytes } from 'node:crypto';
import type { Snapshot, SnapshotProvider } from '../../capture/ports.js';
import { offlineProvider } from '../../capture/providers/offline/offline.js';
import { planSession, type SessionPlan } from '../../domain/session/plan.js';
import type { SessionPort } from '../../protocol/port/session.js';
import type { DeviceState } from '../state/device-state.js';
import { describeSession, isSameView, type KeptSession } from '../state/kept-session.js';
import { localBase } from './base.js';
import { type Backup, type Findings, SessionContext, type SessionName } from './context.js';
import { describeLeftOut, findLeftOut, isReadAnew } from './exclusion.js';
import type { BackupResult } from './options.js';
import { runSession } from './session.js';
import { noteFormat, refuseHalfRestored } from './view-checks.js';

/** @throws StillpointError; ChangesDoubted, ResumeDoubted where another attempt can do better */
export async function attempt(backup: Backup, findings: Findings): Promise<BackupResult> {
  const { options, state, receiver, onEvent } = backup;
  const { last, doubt } = findings;
  onEvent({ type: 'phase', phase: 'snapshot' });
  const { blockSize, full = false } = options;
  const planned = planSession({ local: localBase(state, options.compare), last, blockSize, full, doubt });
  const leftOut = await findLeftOut(options.path, options.exclusion, planned.blockSize);
  const readsAll = planned.readsAll || isReadAnew(leftOut, last, planned.blockSize);
  const plan: SessionPlan = { ...planned, readsAll };
  for (const text of [...(leftOut?.notices ?? []), ...describeLeftOut(leftOut, last)])
    onEvent({ type: 'notice', text });
  if (plan.notice !== null) onEvent({ type: 'notice', text: plan.notice });
  const provider = options.provider ?? offlineProvider;
  const sessionId = randomBytes(16).toString('hex');
  const view = await holdView({ backup, findings, plan, provider, sessionId });
  try {
    if (options.acceptHalfRestored !== true) await refuseHalfRestored(options.path, view);
    await noteFormat(options.path, view, onEvent);
    const fresh = { sessionId, instant: view.instant.toISOString(), provider: provider.name };
    const kept = describeSession(view, {
      ...fresh,
      blockSize: plan.blockSize,
      lastPointId: last?.id ?? null,
      leftOut: leftOut?.key ?? '',
    });
    const resumed = await findResumable(state, receiver, kept);
    if (resumed !== null) onEvent({ type: 'notice', text: resumedText(resumed) });
    const name: SessionName = { ...fresh, ...(resumed ?? {}), isResumed: resumed !== null, kept };
    return await runSession(new SessionContext({ backup, findings, plan, view, name, leftOut }));
  } catch (error) {
    throw (await view.lost?.()) ?? error;
  } finally {
    await view.release();
  }
}

interface Hold {
  readonly backup: Backup;
  readonly findings: Findings;
  readonly plan: SessionPlan;
  readonly provider: SnapshotProvider;
  readonly sessionId: string;
}

function holdView({ backup, findings, plan, provider, sessionId }: Hold): Promise<Snapshot> {
  return provider.hold(backup.options.path, {
    sessionId,
    blockSize: plan.blockSize,
    basePointId: plan.changesSince?.id ?? null,
    doubt: findings.doubt,
    full: plan.readsAll,
    fuzzy: backup.options.fuzzy ?? false,
    signal: backup.options.signal,
  });
}

/**
 * The kept session, if it is of this very view and the receiver still holds it open.
 * @param now as a session over the view would be kept; null: no view is the same as another one
 */
async function findResumable(
  state: DeviceState,
  receiver: Pick<SessionPort, 'status'>,
  now: KeptSession | null,
): Promise<Pick<KeptSession, 'sessionId' | 'instant'> | null> {
  const kept = await state.keptSession();
  if (kept === null || now === null || !isSameView(kept, now)) return null;
  const { state: found } = await receiver.status(kept.sessionId);
  return found === 'open' ? { sessionId: kept.sessionId, instant: kept.instant } : null;
}

function resumedText({ instant }: Pick<KeptSession, 'instant'>): string {
  return `nothing was written since ${instant}: the session of that instant continues, and blocks that had arrived are not sent again`;
}
