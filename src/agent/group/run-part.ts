/** A host's part in a group over several hosts: its devices, with one instant that a receiver leads. */
import type { DeviceSettings } from '../../config/agent-config.js';
import type { GroupOrder } from '../../domain/order/order.js';
import type { ConfiguredBackup } from '../backup/configured.js';
import { memberOf } from './configured.js';
import type { GroupBackupOptions, GroupBackupResult } from './options.js';
import { type GroupStepPort, RemoteLeader } from './remote-leader.js';
import { runGroupBackup } from './run-group.js';
import { unitedRate, unitedRest } from './united.js';

export interface GroupPart
  extends Omit<ConfiguredBackup, 'device' | 'onEvent'>,
    Required<Pick<GroupBackupOptions, 'onEvent'>> {
  readonly group: GroupOrder;
  /** Its devices, in order. */
  readonly devices: readonly DeviceSettings[];
  readonly steps: GroupStepPort;
  /**
   * Names of devices of which the last part found out, after its instant, that it should have read
   * everything. A single backup would do so at once; here that takes another instant of all hosts.
   */
  readonly doubted: Set<string>;
}

/** @throws StillpointError as `runGroupBackup`; `group-failed`: the receiver gave it up; `config` */
export async function runGroupPart(part: GroupPart): Promise<GroupBackupResult> {
  const { group, devices, full, stateDirectory, openReceiver, onEvent, steps, doubted } = part;
  const { name, runId } = group;
  const leader = new RemoteLeader({ steps, runId, name });
  let failure: unknown = null;
  try {
    const rest = unitedRest(name, devices);
    const { receiver, meter, place } = await openReceiver(unitedRate(devices, Date.now()));
    try {
      const result = await runGroupBackup({
        ...{ name, receiver, meter, place, stateDirectory, onEvent, rest, leader },
        signal: AbortSignal.any([part.signal, leader.signal]),
        missing: 'fail',
        members: devices.map((device) => {
          const member = memberOf(device, full || doubted.has(device.name));
          return doubted.has(device.name) ? { ...member, patch: 'never' as const } : member;
        }),
        onDoubt: (device) => doubted.add(device),
      });
      for (const device of devices) doubted.delete(device.name);
      return result;
    } finally {
      await receiver.close();
    }
  } catch (error) {
    // What it was given up for says more than that it was cancelled for that.
    failure = part.signal.aborted ? error : (leader.end ?? error);
    throw failure;
  } finally {
    await leader.close(failure);
  }
}
