/** A backup of a group as its configuration says: for schedules and `backup --now` alike. */
import type { DeviceSettings } from '../../config/agent-config.js';
import type { GroupSettings } from '../../config/groups.js';
import { type ConfiguredBackup, restOf } from '../backup/configured.js';
import type { GroupBackupOptions, GroupBackupResult, GroupMember } from './options.js';
import { runGroupBackup } from './run-group.js';

export interface ConfiguredGroupBackup
  extends Omit<ConfiguredBackup, 'device' | 'onEvent'>,
    Required<Pick<GroupBackupOptions, 'onEvent'>> {
  readonly group: GroupSettings;
  /** Its members, in order. */
  readonly devices: readonly DeviceSettings[];
}

export async function backUpConfiguredGroup(options: ConfiguredGroupBackup): Promise<GroupBackupResult> {
  const { group, devices, full, stateDirectory, openReceiver, signal, onEvent } = options;
  const { name, missing } = group;
  const { receiver, meter, place } = await openReceiver(group.limitRate);
  try {
    return await runGroupBackup({
      ...{ name, missing, receiver, meter, place, stateDirectory, signal, onEvent },
      rest: restOf(group),
      members: devices.map((device) => memberOf(device, full)),
    });
  } finally {
    await receiver.close();
  }
}

/** As its own configuration says. */
export function memberOf(device: DeviceSettings, full: boolean): GroupMember {
  const { path, name, compressionLevel, patch, exclusion } = device;
  return {
    ...{ path, device: name, compressionLevel, patch, exclusion, full },
    blockSize: device.blockSize ?? undefined,
    provider: device.provider ?? undefined,
  };
}
