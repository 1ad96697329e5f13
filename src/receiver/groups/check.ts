/** Whether a group over several hosts can be backed up, when it is made. */
import { StillpointError } from '../../domain/base/errors.js';
import type { ReceiverGroup } from '../../domain/order/receiver-group.js';
import type { Store } from '../../store/port/store.js';
import type { Presence } from '../orders/orders.js';
import { checkReceiverGroup, hostsOf } from './backup.js';
import type { AccessOf } from './views.js';

export interface GroupCheckSource {
  readonly store: Pick<Store, 'points'>;
  readonly access: AccessOf;
  /** Null: no receiver runs. */
  readonly presence: ((agent: string) => Presence) | null;
}

/**
 * @returns warnings, as sentences: what has to be mended before its next backup
 * @throws StillpointError `usage` for an agent that is not enrolled, `bad-name`
 */
export async function checkNewGroup(
  group: ReceiverGroup,
  { store, access, presence }: GroupCheckSource,
): Promise<string[]> {
  const warnings: string[] = [];
  for (const { agent, devices } of hostsOf(group)) {
    const state = access(agent);
    if (state === null) throw notEnrolled(group, agent);
    if (state === 'revoked') warnings.push(`the access of ${agent} was revoked`);
    const { isConnected, devices: offered, canGroup } = presence?.(agent) ?? ABSENT;
    if (offered.includes(group.name)) throw nameTaken(group, agent);
    if (!isConnected) continue;
    if (!canGroup)
      warnings.push(`${agent} runs an older version, which can't take part in a group over several hosts`);
    const missing = devices.filter((device) => !offered.includes(device));
    if (missing.length > 0) warnings.push(`${agent} does not offer ${missing.join(', ')} now`);
  }
  await checkReceiverGroup(store, group);
  return warnings;
}

const ABSENT: Pick<Presence, 'isConnected' | 'devices' | 'canGroup'> = {
  ...{ isConnected: false, devices: [], canGroup: false },
};

function notEnrolled({ name }: ReceiverGroup, agent: string): StillpointError {
  return new StillpointError('usage', {
    thing: `group ${name}`,
    reason: `no agent of the name ${agent} is enrolled here`,
    remedy: 'See "stillpoint receiver agents".',
  });
}

function nameTaken({ name }: ReceiverGroup, agent: string): StillpointError {
  return new StillpointError('bad-name', {
    thing: `group ${name}`,
    reason: `it is the name of a device that the agent ${agent} offers`,
    remedy: 'Choose another name.',
  });
}
