/** The options of a backup of several devices, and how each of them is named. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { defaultName } from '../../config/default-name.js';
import { StillpointError } from '../../domain/base/errors.js';
import { GROUP_MEMBERS_MAX } from '../../domain/base/limits.js';
import { checkName } from '../../domain/base/names.js';
import { checkGroupName, refuseGroupName } from '../../domain/point/group.js';

export interface GroupOptions {
  readonly group?: string;
  /** Undefined: fail. */
  readonly missing?: 'fail' | 'leave-out';
}

export interface NamedDevice {
  readonly path: string;
  /** The name of its points. */
  readonly device: string;
}

export function addGroupOptions(command: Command): Command {
  return command
    .option('--group <name>', 'with several devices: the name of their group point')
    .addOption(
      new Option(
        '--missing <how>',
        'with several devices: what becomes of the backup if one can not take part (default: fail)',
      ).choices(['fail', 'leave-out']),
    );
}

/** @param texts `PATH` or `NAME=PATH`. @throws StillpointError `usage`, `bad-name` */
export function membersOf(texts: readonly string[], group: string | undefined): NamedDevice[] {
  if (group === undefined) {
    throw new StillpointError('usage', {
      thing: `${texts.length} devices`,
      reason: 'their points make a group point, which needs a name',
      remedy: `Name it, as in "stillpoint backup --group NAME ${texts.join(' ')}".`,
    });
  }
  if (texts.length > GROUP_MEMBERS_MAX) {
    throw new StillpointError('usage', {
      thing: `${texts.length} devices`,
      reason: `${GROUP_MEMBERS_MAX} is the limit of a group`,
    });
  }
  const members = texts.map(memberOf);
  refuseGroupName(
    checkGroupName(group),
    members.map(({ device }) => device),
  );
  for (const [at, { path, device }] of members.entries()) {
    const before = members.slice(0, at);
    if (before.some((other) => other.path === path)) throw twice(path, 'it is there twice');
    if (before.some((other) => other.device === device))
      throw twice(`device name ${device}`, 'two devices have it', 'Name one of them otherwise: NAME=PATH.');
  }
  return members;
}

function twice(thing: string, reason: string, remedy?: string): StillpointError {
  return new StillpointError('usage', { thing, reason, ...(remedy === undefined ? {} : { remedy }) });
}

/** A path whose first part has an equals sign is written with a directory: `./a=b`. */
function memberOf(text: string): NamedDevice {
  const [, name, path = text] = /^([^/=]+)=(.+)$/.exec(text) ?? [];
  const absolute = resolve(path);
  return { path: absolute, device: checkName('device name', name ?? defaultName(absolute)) };
}
