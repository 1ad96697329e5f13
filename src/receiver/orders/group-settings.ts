/** The receiver's groups over several hosts that commands set, under DIR/receiver/groups.json. */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { GROUP_MEMBERS_MAX, GROUPS_MAX } from '../../domain/base/limits.js';
import { NAME_CHARS_MAX } from '../../domain/base/names.js';
import type { ReceiverGroup } from '../../domain/order/receiver-group.js';
import { syncDirectory } from '../../native/files.js';
import { receiverDirectory } from '../access/identity.js';
import { removeGroupRuns } from './last-group-run.js';

const name = z.string().min(1).max(NAME_CHARS_MAX);

export const receiverGroupSchema: z.ZodType<ReceiverGroup> = z.strictObject({
  name,
  members: z
    .array(z.strictObject({ agent: name, device: name }))
    .min(1)
    .max(GROUP_MEMBERS_MAX),
  missing: z.enum(['fail', 'leave-out']),
});

const groupsFormat: StateFormat<{ readonly groups: readonly ReceiverGroup[] }> = {
  format: 'stillpoint-receiver-groups',
  version: 1,
  schema: z.strictObject({ groups: z.array(receiverGroupSchema).max(GROUPS_MAX) }),
};

const groupsPath = (dir: string) => join(receiverDirectory(dir), 'groups.json');

export async function readGroups(dir: string): Promise<readonly ReceiverGroup[]> {
  return (await readStateFile(groupsPath(dir), groupsFormat))?.groups ?? [];
}

/** @throws StillpointError `usage` if there is none of the name */
export function findGroup(groups: readonly ReceiverGroup[], wanted: string): ReceiverGroup {
  const found = groups.find((group) => group.name === wanted);
  if (found !== undefined) return found;
  throw new StillpointError('usage', {
    thing: `group ${wanted}`,
    reason: 'the receiver has no group of this name',
    remedy:
      groups.length === 0
        ? 'Make it with "stillpoint receiver group set NAME AGENT/DEVICE...".'
        : `Its groups are ${groups.map((group) => group.name).join(', ')}.`,
  });
}

/** In the place of the one of this name. */
export async function writeGroup(dir: string, group: ReceiverGroup): Promise<void> {
  const others = (await readGroups(dir)).filter((other) => other.name !== group.name);
  if (others.length >= GROUPS_MAX) {
    throw new StillpointError('usage', {
      thing: `group ${group.name}`,
      reason: `there are ${others.length} others, and ${GROUPS_MAX} is the limit`,
      remedy: 'Remove one with "stillpoint receiver group remove NAME".',
    });
  }
  await writeGroups(dir, [...others, group]);
}

/** @throws StillpointError `usage` if there is none of the name */
export async function removeGroup(dir: string, wanted: string): Promise<void> {
  const groups = await readGroups(dir);
  const found = findGroup(groups, wanted);
  await writeGroups(
    dir,
    groups.filter((group) => group !== found),
  );
  await removeGroupRuns(dir, wanted);
}

/** Those that go with the agent: all their members are its own. */
export function groupsOnlyOf(groups: readonly ReceiverGroup[], agent: string): string[] {
  return groups
    .filter(({ members }) => members.every((member) => member.agent === agent))
    .map(({ name }) => name);
}

/** An agent has another name now; null: it is gone, and its members with it. May be repeated. */
export async function renameInGroups(dir: string, from: string, to: string | null): Promise<void> {
  const groups = await readGroups(dir);
  if (!groups.some(({ members }) => members.some(({ agent }) => agent === from))) return;
  const renamed = groups.map((group) => ({
    ...group,
    members: group.members.flatMap((member) => {
      if (member.agent !== from) return [member];
      return to === null ? [] : [{ ...member, agent: to }];
    }),
  }));
  await writeGroups(
    dir,
    renamed.filter(({ members }) => members.length > 0),
  );
  for (const { name, members } of renamed) if (members.length === 0) await removeGroupRuns(dir, name);
}

async function writeGroups(dir: string, groups: readonly ReceiverGroup[]): Promise<void> {
  if (groups.length > 0) return writeStateFile(groupsPath(dir), groupsFormat, { groups });
  await rm(groupsPath(dir), { force: true });
  await syncDirectory(receiverDirectory(dir));
}
