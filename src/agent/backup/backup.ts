/**
 * One backup: the last point, then attempts (attempt.ts) until there is a point. If the known changes turn
 * out not to be reliable, or the session not to be what it was taken for, another attempt does without.
 */

import { deviceError } from '../../devices/system/device-error.js';
import { native } from '../../native/index.js';
import { throwIfCancelled } from '../common/cancel.js';
import { keepLinkHint, readLinkHint } from '../common/link-hint.js';
import { retrying } from '../common/retrying.js';
import { DeviceState } from '../state/device-state.js';
import { checkStore } from '../state/known-stores.js';
import { attempt } from './attempt.js';
import type { Backup } from './context.js';
import { FoundOut } from './findings.js';
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
  const found = await FoundOut.begin(backup);
  for (;;) {
    try {
      return await attempt(backup, found.findings);
    } catch (error) {
      await found.learn(error);
    }
  }
}
