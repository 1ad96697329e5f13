/**
 * One backup: the last point, an instant of the device, a session that ships what differs (session.ts). Where what is known of
 * changes turns out not to be believed, a second instant, and a session that reads everything.
 */

import { randomBytes } from 'node:crypto';
import type { Snapshot } from '../../capture/ports.js';
import { offlineProvider } from '../../capture/providers/offline/offline.js';
import { halfRestoredError, readMark, readMarkOfDisk } from '../../devices/facts/half-restored.js';
import { describeFormat, readImageFormat } from '../../devices/facts/image-format.js';
import { deviceError } from '../../devices/system/device-error.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { BLOCK_SIZE_DEFAULT } from '../../domain/base/limits.js';
import { whyPointsAreMissing } from '../../domain/point/acknowledged-point.js';
import type { Point } from '../../domain/point/point.js';
import { holdsPoint, planBase } from '../../domain/session/plan.js';
import { native } from '../../native/index.js';
import type { DataPort } from '../../protocol/port/receiver.js';
import { retrying, throwIfCancelled } from '../common/cancel.js';
import type { OnAgentEvent } from '../common/events.js';
import { keepLinkHint, readLinkHint } from '../common/link-hint.js';
import { DeviceState } from '../state/device-state.js';
import { checkStore } from '../state/known-stores.js';
import { localBase } from './base.js';
import type { BackupOptions, BackupResult } from './options.js';
import { findResumable, ResumeDoubted, resumedText } from './resume.js';
import { BackupSession, type SessionFacts } from './session.js';
import { ChangesDoubted } from './tracked-scan.js';

/**
 * @returns when the point is committed.
 * @throws StillpointError; then there is no point, or (if the answer to the commit was lost for good) the next backup finds it.
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
      return await attempts(options, state, receiver);
    } finally {
      await state.close();
      await keepLinkHint(stateDirectory, storeId, options.meter?.result ?? null, hint ?? null);
    }
  } catch (error) {
    throw deviceError(path, error, { stateDirectory });
  }
}

/** Each reason to begin anew, once: what one attempt has found out goes for all that follow. */
async function attempts(
  options: BackupOptions,
  state: DeviceState,
  receiver: DataPort,
): Promise<BackupResult> {
  const { device, onEvent = () => undefined } = options;
  const lastPoint = async () => (await receiver.points(device, { last: true })).at(-1) ?? null;
  let last = await lastPoint();
  const accepted = await checkAcknowledged(options, state, last);
  let { patch } = options;
  let doubt: string | null = null;
  let hasResumed = false;
  for (;;) {
    try {
      return await attempt({ ...options, patch }, state, receiver, { last, accepted }, doubt);
    } catch (error) {
      if (error instanceof ChangesDoubted && doubt === null) doubt = error.message;
      else if (isStillpointError(error, 'bad-patch') && patch !== 'never') {
        patch = 'never';
        onEvent({ type: 'notice', text: `${error.message} A new session sends whole blocks.` });
      } else if (error instanceof ResumeDoubted && !hasResumed) {
        hasResumed = true;
        onEvent({ type: 'notice', text: `a new session begins: ${error.message}` });
        // It may have been committed meanwhile.
        last = await lastPoint();
      } else throw error;
    }
  }
}

/** @returns what is accepted, for the point. @throws StillpointError `store-changed` */
async function checkAcknowledged(
  { path, device, acceptStore = false }: BackupOptions,
  state: DeviceState,
  last: Point | null,
): Promise<string[]> {
  const { tree, pending } = state.local;
  const ownIds = [tree?.pointId, pending?.pointId];
  const missing = whyPointsAreMissing(device, await state.acknowledged(), last, ownIds);
  if (missing === null) return [];
  if (acceptStore) return [`the store has lost points, which was accepted: ${missing}`];
  throw new StillpointError('store-changed', {
    thing: `device ${device}`,
    reason: missing,
    remedy: `If an older copy of the store was put back, go on with "stillpoint backup ${path} --name ${device} --accept-store"; else find out first where its points are.`,
  });
}

/**
 * One instant, one session; or that of a process that was killed, where the view still stands.
 * @param doubt why an earlier attempt did not believe the tracker; null: none has doubted it
 */
async function attempt(
  options: BackupOptions,
  state: DeviceState,
  receiver: DataPort,
  { last, accepted }: Pick<SessionFacts, 'last' | 'accepted'>,
  doubt: string | null,
): Promise<BackupResult> {
  const { path, signal, onEvent = () => undefined } = options;
  const provider = options.provider ?? offlineProvider;
  const blockSize = options.blockSize ?? last?.geometry.blockSize ?? BLOCK_SIZE_DEFAULT;
  const sessionId = randomBytes(16).toString('hex');
  onEvent({ type: 'phase', phase: 'snapshot' });
  const sizeBytes = last?.geometry.sizeBytes ?? 0;
  const expected = planBase(localBase(state, options.compare), last, { sizeBytes, blockSize });
  const willCompare = expected.start === 'compare';
  if (last === null && holdsPoint(state.local) && doubt === null)
    onEvent({ type: 'notice', text: `${expected.reason}; all that it does not hold is shipped` });
  const snapshot = await provider.hold(path, {
    sessionId,
    blockSize,
    basePointId: last?.geometry.blockSize === blockSize ? last.id : null,
    doubt,
    // What could not be read last time is tried again.
    full: options.full === true || willCompare || doubt !== null || (last?.badRanges.length ?? 0) > 0,
    fuzzy: options.fuzzy ?? false,
    signal,
  });
  const facts = { sessionId, instant: snapshot.instant.toISOString(), provider: provider.name, blockSize };
  try {
    if (options.acceptHalfRestored !== true) await refuseHalfRestored(path, snapshot);
    await noteFormat(path, snapshot, onEvent);
    const resumed = await findResumable(state, receiver, snapshot, {
      ...facts,
      lastPointId: last?.id ?? null,
    });
    if (resumed !== null) onEvent({ type: 'notice', text: resumedText(resumed) });
    const isResumed = resumed !== null;
    const session = { ...facts, ...(resumed ?? {}), isResumed, last, accepted };
    return await new BackupSession(options, state, snapshot, session).run(doubt);
  } catch (error) {
    throw (await snapshot.lost?.()) ?? error;
  } finally {
    await snapshot.release();
  }
}

/**
 * A point of a container is what it says, and restores as one: a notice. Who wanted the disk in it, by the raw blocks, must hear of it.
 * Under a tap it was settled when that was put there.
 */
async function noteFormat(
  path: string,
  { device, tracking }: Snapshot,
  onEvent: OnAgentEvent,
): Promise<void> {
  const format = tracking === undefined ? await readImageFormat(device) : null;
  if (format === null) return;
  const remedy = 'For points of the disk itself, convert it: qemu-img convert -O raw.';
  onEvent({
    type: 'notice',
    text: `${path}: ${describeFormat(format)}. The point is of the container. ${remedy}`,
  });
}

/** Of what a tracker calls unchanged nothing can be read; but then the first block is that of the last point, which had no mark. */
async function refuseHalfRestored(path: string, { device, tracking }: Snapshot): Promise<void> {
  const changes = tracking?.changes ?? null;
  const isReadable = changes === null || changes.sample.includes(0) || changes.ranges[0]?.[0] === 0;
  const mark = (isReadable ? await readMark(device) : null) ?? (await readMarkOfDisk(path));
  if (mark !== null) throw halfRestoredError(path, mark);
}
