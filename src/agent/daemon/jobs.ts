/**
 * What the daemon backs up: a device by itself, or a group of devices with one instant. Both are jobs, with a
 * schedule and a memory of their own. A device may be in several: it is backed up by one of them at a time.
 */
import { hostname } from 'node:os';
import type { DeviceSettings } from '../../config/agent-config.js';
import type { GroupSettings } from '../../config/groups.js';
import type { JobSettings } from '../../config/job-settings.js';
import { delayOf, type RunSettings } from '../../domain/order/run-plan.js';

interface Common
  extends Pick<
    JobSettings,
    'enabled' | 'schedule' | 'randomDelayMs' | 'retriesMax' | 'fullEveryMs' | 'staleAfterMs'
  > {
  /** Of its points. */
  readonly name: string;
}

export interface DeviceJob extends Common {
  readonly group: null;
  readonly devices: readonly [DeviceSettings];
}

export interface GroupJob extends Common {
  readonly group: GroupSettings;
  /** In order. */
  readonly devices: readonly DeviceSettings[];
}

export type Job = DeviceJob | GroupJob;

function common(name: string, settings: JobSettings): Common {
  const { enabled, schedule, randomDelayMs, retriesMax, fullEveryMs, staleAfterMs } = settings;
  return { name, enabled, schedule, randomDelayMs, retriesMax, fullEveryMs, staleAfterMs };
}

export function jobOfDevice(device: DeviceSettings): DeviceJob {
  return { ...common(device.name, device), group: null, devices: [device] };
}

/** @param devices all that are configured */
export function jobOfGroup(group: GroupSettings, devices: readonly DeviceSettings[]): GroupJob {
  const members = group.members.flatMap((name) => devices.find((device) => device.name === name) ?? []);
  return { ...common(group.name, group), group, devices: members };
}

/** Of a group that a receiver leads: it has no settings here, and runs once. */
export function jobOfOrder(name: string, devices: readonly [DeviceSettings, ...DeviceSettings[]]): GroupJob {
  const group: GroupSettings = {
    ...devices[0],
    ...{ name, members: devices.map((device) => device.name), missing: 'fail', schedule: null },
  };
  return { ...common(name, group), group, devices };
}

export function thingOf({ name, group }: Job): string {
  return `${group === null ? 'device' : 'group'} ${name}`;
}

export function runSettings({ name, enabled, schedule, ...job }: Job): RunSettings {
  const { randomDelayMs, retriesMax, fullEveryMs } = job;
  return {
    schedule: enabled ? schedule : null,
    delayMs: delayOf(`${hostname()}/${name}`, randomDelayMs),
    ...{ retriesMax, fullEveryMs },
  };
}

/** @param missing the names of its devices that are not there */
export function canRun({ group, devices }: Job, missing: readonly string[]): boolean {
  if (missing.length === 0) return true;
  return group?.missing === 'leave-out' && missing.length < devices.length;
}
