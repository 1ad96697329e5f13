/** Groups of the receiver: devices of several agents, which are backed up at one common instant. Pure. */
import { StillpointError } from '../base/errors.js';
import { GROUP_MEMBERS_MAX } from '../base/limits.js';
import { parseDeviceRef } from '../point/point-ref.js';

export interface GroupDevice {
  readonly agent: string;
  readonly device: string;
}

export interface ReceiverGroup {
  readonly name: string;
  readonly members: readonly GroupDevice[];
  /** What becomes of the others if a host can't take part. */
  readonly missing: 'fail' | 'leave-out';
}

/** As users write it. @throws StillpointError `usage`, `bad-name` */
export function parseMember(text: string): GroupDevice {
  const { agent, device } = parseDeviceRef(text);
  if (agent !== undefined) return { agent, device };
  throw new StillpointError('usage', {
    thing: `member ${device}`,
    reason: 'it does not say of which agent it is',
    remedy: `Write AGENT/${device}.`,
  });
}

export function memberName({ agent, device }: GroupDevice): string {
  return `${agent}/${device}`;
}

/** Each once, in the order of the members. */
export function agentsOf({ members }: Pick<ReceiverGroup, 'members'>): string[] {
  return [...new Set(members.map(({ agent }) => agent))];
}

/** A clause and a sentence; null: nothing is wrong. */
export function faultOfMembers({
  name,
  members,
}: Pick<ReceiverGroup, 'name' | 'members'>): { readonly reason: string; readonly remedy: string } | null {
  const same = members.find(({ device }) => device === name);
  if (same !== undefined)
    return {
      reason: `${memberName(same)} has the name of the group`,
      remedy: 'Choose another name for the group.',
    };
  const names = members.map(memberName);
  const twice = names.find((each, at) => names.indexOf(each) !== at);
  if (twice !== undefined) return { reason: `${twice} is named twice`, remedy: 'Omit one of them.' };
  if (members.length <= GROUP_MEMBERS_MAX) return null;
  return {
    reason: `it has ${members.length} members, and ${GROUP_MEMBERS_MAX} is the limit`,
    remedy: 'Name fewer.',
  };
}
