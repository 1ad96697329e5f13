/** Which devices can be a group. */
import { type Footprint, footprintOf, overlaps } from '../../devices/system/footprint.js';
import { StillpointError } from '../../domain/base/errors.js';
import { GROUP_MEMBERS_MAX } from '../../domain/base/limits.js';
import { checkName } from '../../domain/base/names.js';
import { checkGroupName } from '../../domain/point/group.js';
import type { GroupBackupOptions, GroupMember } from './options.js';

const MEMBERS_MIN = 2;

/** @throws StillpointError `usage`, `bad-name` */
export async function checkMembers({
  name,
  members,
  leader,
}: Pick<GroupBackupOptions, 'name' | 'members' | 'leader'>): Promise<void> {
  checkGroupName(name);
  const thing = `group ${name}`;
  // Other hosts have the others.
  const leastCount = leader === undefined ? MEMBERS_MIN : 1;
  if (members.length < leastCount)
    throw new StillpointError('usage', {
      thing,
      reason: `it has ${members.length === 1 ? 'one device' : 'no device'}, and a group has two at least`,
      remedy: 'Name its other devices, or back up the one by itself.',
    });
  if (members.length > GROUP_MEMBERS_MAX)
    throw new StillpointError('usage', {
      thing,
      reason: `it has ${members.length} devices, and a group has ${GROUP_MEMBERS_MAX} at most`,
    });
  for (const { device } of members) checkName('device name', device);
  if (members.some(({ device }) => device === name))
    throw new StillpointError('usage', {
      thing,
      reason: 'there is a device of that name, with points of its own',
      remedy: 'Choose another name for the group.',
    });
  await checkApart(thing, members);
}

/** Bytes that two of them share would be of both, and closing one could hold up the other. */
async function checkApart(thing: string, members: readonly GroupMember[]): Promise<void> {
  const known: { readonly member: GroupMember; readonly footprint: Footprint }[] = [];
  for (const member of members) {
    const footprint = await footprintOf(member.path);
    for (const other of known) {
      if (other.member.device === member.device)
        throw twice(thing, other.member, member, 'have the same name');
      if (overlaps(footprint, other.footprint) || overlaps(other.footprint, footprint))
        throw twice(
          thing,
          other.member,
          member,
          'share bytes: they are one device, or one lies in the other',
        );
    }
    known.push({ member, footprint });
  }
}

function twice(thing: string, one: GroupMember, other: GroupMember, what: string): StillpointError {
  return new StillpointError('usage', {
    thing,
    reason: `${one.device} (${one.path}) and ${other.device} (${other.path}) ${what}`,
    remedy: 'Name each device once, with a name of its own.',
  });
}
