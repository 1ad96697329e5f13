/**
 * One backup: the last point, then attempts (attempt.ts) until there is a point. If the known changes turn
 * out not to be reliable, or the session not to be what it was taken for, another attempt does without.
 */

import { deviceError } from '../../devices/system/device-error.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { whyPointsAreMissing, whyRemoved } from '../../domain/point/acknowledged-point.js';
import type { Point } from '../../domain/point/point.js';
import { native } from '../../native/index.js';
import { throwIfCancelled } from '../common/cancel.js';
import { keepLinkHint, readLinkHint } from '../common/link-hint.js';
import { retrying } from '../common/retrying.js';
import { DeviceState } from '../state/device-state.js';
import { checkStore } from '../state/known-stores.js';
import { attempt } from './attempt.js';
import type { Backup, Findings } from './context.js';
import { ChangesDoubted, ResumeDoubted } from './doubts.js';
import type { BackupOptions, BackupResult } from './options.js';

/**
 * @returns when the point is committed.
 * @throws StillpointError; then there is no point, or (if the answer to the commit was lost for good) the
 * next backup finds it.
 */
export async function runBackup(options: BackupOptions): Promise<BackupResult> {
  const { path, device, stateDirectory, place, acceptStore = false } = options;
  const signal = options.signal ?? new AbortController().signal;
  const receiver = retrying(options.receiver, signal);
  try {
    const { storeId, agent } = await receiver.info();
    if (place !== undefined) await checkStore(stateDirectory, place, storeId, acceptStore);
    const state = await DeviceState.open(stateDirectory, { storeId, agent, device }, native.plainDigester());
    const hint = options.meter && (await readLinkHint(stateDirectory, storeId));
    try {
      throwIfCancelled(signal);
      if (hint) options.meter?.suppose(hint);
      const { onEvent = () => undefined } = options;
      return await attempts({ options, state, receiver, signal, onEvent });
    } finally {
      await state.close();
      await keepLinkHint(stateDirectory, storeId, options.meter?.result ?? null, hint ?? null);
    }
  } catch (error) {
    throw deviceError(path, error, { stateDirectory });
  }
}

/** Each reason to begin anew, once: what one attempt has found out goes for all that follow. */
async function attempts(backup: Backup): Promise<BackupResult> {
  const { options, receiver, onEvent } = backup;
  const lastPoint = async () => (await receiver.points(options.device, { last: true })).at(-1) ?? null;
  const last = await lastPoint();
  const accepted = await checkAcknowledged(backup, last);
  let findings: Findings = { last, accepted, doubt: null, sendsWholeBlocks: options.patch === 'never' };
  let hasResumed = false;
  for (;;) {
    try {
      return await attempt(backup, findings);
    } catch (error) {
      if (error instanceof ChangesDoubted && findings.doubt === null)
        findings = { ...findings, doubt: error.message };
      else if (error instanceof ChangesDoubted) throw notTracked(options.path, error);
      else if (isStillpointError(error, 'bad-patch') && !findings.sendsWholeBlocks) {
        findings = { ...findings, sendsWholeBlocks: true };
        onEvent({ type: 'notice', text: `${error.message} A new session sends whole blocks.` });
      } else if (error instanceof ResumeDoubted && !hasResumed) {
        hasResumed = true;
        onEvent({ type: 'notice', text: `a new session begins: ${error.message}` });
        // It may have been committed meanwhile.
        findings = { ...findings, last: await lastPoint() };
      } else throw error;
    }
  }
}

/** Everything was read, and yet what was written meanwhile was not all seen. */
function notTracked(path: string, doubted: ChangesDoubted): StillpointError {
  return new StillpointError('device-changed', {
    thing: path,
    reason: `what is known of the changes to it can't be relied on: ${doubted.message}`,
    remedy: 'Back it up while nobody writes to it, or with another provider.',
    permanent: false,
    cause: doubted,
  });
}

/** @returns what is accepted, for the point. @throws StillpointError `store-changed` */
async function checkAcknowledged(
  { options, state, receiver, onEvent }: Backup,
  last: Point | null,
): Promise<string[]> {
  const { path, device, acceptStore = false } = options;
  const { tree, pending } = state.local;
  const ownIds = [tree?.pointId, pending?.pointId];
  const acknowledged = await state.acknowledged();
  const missing = whyPointsAreMissing(device, acknowledged, last, ownIds);
  if (missing === null || acknowledged === null) return [];
  // A receiver of a former version can't say.
  const { removed } = await receiver
    .removedPoint(device, acknowledged.sequence)
    .catch(() => ({ removed: null }));
  const onPurpose = whyRemoved(acknowledged, last, removed);
  if (onPurpose !== null) {
    onEvent({ type: 'notice', text: onPurpose });
    return [];
  }
  if (acceptStore) return [`the store has lost points, which was accepted: ${missing}`];
  throw new StillpointError('store-changed', {
    thing: `device ${device}`,
    reason: missing,
    remedy: `If an older copy of the store was restored, continue with "stillpoint backup ${path} --name ${device} --accept-store". Otherwise find the missing points first.`,
  });
}
