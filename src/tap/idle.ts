/** Can a tap be stopped without taking the device away from a user? */
import { setTimeout as sleep } from 'node:timers/promises';
import type { DeviceUse } from '../devices/system/in-use.js';
import { StillpointError } from '../domain/base/errors.js';
import { attachedDevice, attachedInUse, attachmentUses } from './attach.js';
import { reportOf } from './launch.js';
import type { RegisteredTap } from './registry/registry.js';

/**
 * A client that has just ended is counted until its connection is closed; udev reads a device
 * that was just written to.
 */
const SETTLE_TRIES = 10;
const SETTLE_MS = 100;

/** A tap that does not run has no clients. @throws StillpointError `device-in-use` */
export async function checkIdle(tap: RegisteredTap): Promise<void> {
  const device = await attachedDevice(tap);
  const own = device === null ? 0 : 1;
  let use: DeviceUse | undefined;
  let others = 0;
  for (let tries = 0; tries < SETTLE_TRIES; tries += 1) {
    [use] = await attachmentUses(tap);
    const report = await reportOf(tap);
    others = (report?.status.counters.connections ?? 0) - own;
    if (use === undefined && others <= 0) return;
    await sleep(SETTLE_MS);
  }
  if (device !== null && use !== undefined) throw attachedInUse(device, use);
  throw new StillpointError('device-in-use', {
    thing: `tap ${tap.settings.name}`,
    reason: others === 1 ? 'a client is connected' : `${others} clients are connected`,
    remedy: 'Stop what uses it first.',
    permanent: false,
  });
}
