/**
 * Devices that are offered with `--provider live` are tracked for as long as the agent waits for orders, also
 * while nobody uses them: what is mounted and written between two backups then has its marks. Others are
 * tracked from their first live backup on.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import type { Logger } from 'pino';
import type { DeviceSettings } from '../../config/agent-config.js';
import { onDevice } from '../../devices/system/device-error.js';
import { isStillpointError } from '../../domain/base/errors.js';
import { findTrackPlace } from '../../track/place.js';
import { readTrackState, takeTracked } from '../../track/tracked.js';

export interface KeepTrackingOptions {
  readonly listDevices: () => Promise<readonly DeviceSettings[]>;
  readonly log: Logger;
  /** Aborted: it ends; trackers stay. */
  readonly signal: AbortSignal;
  /** A device may come, or come back, at any time. */
  readonly everyMs?: number;
}

const EVERY_MS = 60_000;

/** Never rejects. What goes wrong is told once. */
export async function keepTracking(options: KeepTrackingOptions): Promise<void> {
  const { listDevices, log, signal, everyMs = EVERY_MS } = options;
  const told = new Map<string, string>();
  while (!signal.aborted) {
    // One that is damaged is told of by those who need it.
    const offers = await listDevices().catch(() => []);
    for (const { path } of offers.filter(({ provider }) => provider === 'live')) {
      try {
        if (await track(path)) log.info({ path }, 'writes to it are tracked from now on');
        told.delete(path);
      } catch (error) {
        const { message } = error as Error;
        // Whoever is at work with it tracks it, too.
        if (isStillpointError(error, 'session-busy') || told.get(path) === message) continue;
        told.set(path, message);
        log.warn({ path, reason: message }, 'it is not tracked');
      }
    }
    await sleep(everyMs, undefined, { signal }).catch(() => undefined);
  }
}

/** @returns false if it was tracked before. */
async function track(path: string): Promise<boolean> {
  const place = await onDevice(path, () => findTrackPlace(path));
  if ((await readTrackState(place, false)).state === 'tracked') return false;
  const tracked = await takeTracked(place);
  await tracked.close();
  return true;
}
