/**
 * The groups of the agent's configuration. How a device is read is said by its own `[[device]]`, what belongs
 * to the one instant by the `[[group]]`. `[defaults]` is for devices: a group does not have their schedule.
 */
import { formatRateLimit } from '../domain/session/rate-limit.js';
import { type JobSettings, jobSettings } from './job-settings.js';
import { type ConfigFault, faultAt } from './load/faults.js';
import { suggestion } from './load/suggest.js';
import type { GroupEntry } from './schema/group.js';
import type { Origin } from './toml/parse.js';

export interface GroupSettings extends JobSettings {
  readonly name: string;
  /** Of devices that are named themselves. */
  readonly members: readonly string[];
  /** What becomes of a backup if one of them can't take part. */
  readonly missing: 'fail' | 'leave-out';
}

/** As much of a device as matters to its groups. */
interface Member extends Pick<JobSettings, 'origin' | 'enabled' | 'receiver' | 'store' | 'limitRate'> {
  readonly name: string;
}

export interface Devices {
  /** Without those of wildcards. */
  readonly named: readonly Member[];
  /** Others may be in files that are not looked at. */
  readonly isAll: boolean;
}

/** @param originOf of a key of the group; null: of the group itself */
export function groupOf(
  entry: GroupEntry,
  { named }: Devices,
  originOf: (key: keyof GroupEntry | null) => Origin,
): GroupSettings {
  const members = named.filter(({ name }) => entry.members?.includes(name));
  const [first] = members;
  const { receiver, store } = entry.receiver === null && entry.store === null ? (first ?? entry) : entry;
  return {
    ...{ name: entry.name ?? '', members: entry.members ?? [], missing: entry.missing },
    ...{ receiver, store, limitRate: entry['limit-rate'] ?? first?.limitRate ?? null },
    ...jobSettings((key) => entry[key]),
    origin: originOf(null),
  };
}

/** @param others the groups before it */
export function faultsOfGroup(
  entry: GroupEntry,
  { named, isAll }: Devices,
  others: readonly GroupSettings[],
  originOf: (key: keyof GroupEntry | null) => Origin,
): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const say = (key: keyof GroupEntry, reason: string, remedy: string | null = null) =>
    faults.push(faultAt(originOf(key), `group.${key}`, reason, remedy));
  if (entry.receiver !== null && entry.store !== null)
    say('store', 'it has a receiver, too', 'Keep one of the two.');
  const rename = 'Choose another name for the group.';
  for (const [kind, known] of Object.entries({ device: named, group: others })) {
    const same = known.find(({ name }) => name === entry.name);
    if (same === undefined) continue;
    const { file, line } = same.origin;
    say('name', `${same.name} is the name of the ${kind} in ${file}:${line}, too`, rename);
  }
  const members: Member[] = [];
  for (const [at, name] of (entry.members ?? []).entries()) {
    const member = named.find((device) => device.name === name);
    if (entry.members?.indexOf(name) !== at) say('members', `${name} is there twice`);
    else if (member !== undefined) members.push(member);
    else if (isAll) say('members', `no device has the name ${name}`, remedyOfUnknown(name, named));
  }
  return [...faults, ...faultsOfMembers(entry, members, originOf)];
}

/** What they do not agree in, and the group does not say either. */
function faultsOfMembers(
  entry: GroupEntry,
  members: readonly Member[],
  originOf: (key: keyof GroupEntry | null) => Origin,
): ConfigFault[] {
  const say = (reason: string, remedy: string) =>
    faultAt(originOf('members'), 'group.members', reason, remedy);
  const [first, ...rest] = members;
  if (first === undefined) return [];
  const other = (of: (member: Member) => string) => rest.find((member) => of(member) !== of(first));
  const faults: ConfigFault[] = [];
  const disabled = entry.enabled ? members.find(({ enabled }) => !enabled) : undefined;
  if (disabled !== undefined)
    faults.push(say(`${disabled.name} is not enabled`, 'Remove it from the group, or disable the group.'));
  const elsewhere =
    entry.receiver === null && entry.store === null
      ? other(({ receiver, store }) => JSON.stringify([receiver, store]))
      : undefined;
  if (elsewhere !== undefined) {
    const reason = `the backups of ${first.name} and ${elsewhere.name} go to different places`;
    faults.push(say(reason, 'Write a receiver or a store for the group.'));
  }
  const slower =
    entry['limit-rate'] === null
      ? other(({ limitRate }) => (limitRate === null ? '' : formatRateLimit(limitRate)))
      : undefined;
  if (slower !== undefined) {
    const reason = `${first.name} and ${slower.name} have different limits of their rate`;
    faults.push(say(reason, 'Write limit-rate for the group.'));
  }
  return faults;
}

function remedyOfUnknown(name: string, named: readonly Member[]): string {
  const meant = suggestion(
    name,
    named.map((device) => device.name),
  );
  if (meant !== null) return `Did you mean ${meant}?`;
  return 'Write a [[device]] of that name. What wildcards match can not be a member.';
}
