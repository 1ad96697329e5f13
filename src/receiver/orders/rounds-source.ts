/**
 * Where the receiver's schedules, its groups and the addresses of dialled agents come from. Commands keep
 * theirs in the store (remote-settings, group-settings), where the receiver's own user may write. A
 * configuration that names the store adds others.
 *
 * | is in              | counts                                              | commands                     |
 * |--------------------|-----------------------------------------------------|------------------------------|
 * | the store          | unless the configuration has one of the same name   | change it                    |
 * | the configuration  | always                                              | refuse, and say where it is  |
 */
import { join } from 'node:path';
import { z } from 'zod';
import type { ReceiverConfig } from '../../config/receiver-config.js';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { ReceiverGroup } from '../../domain/order/receiver-group.js';
import { type ListenAddress, receiverDirectory } from '../access/identity.js';
import { findGroup, groupsOnlyOf, readGroups, removeGroup, writeGroup } from './group-settings.js';
import {
  readAddresses,
  readSchedules,
  removeSchedules,
  renameInSettings,
  type Schedule,
  writeAddress,
  writeSchedule,
} from './remote-settings.js';

export interface RoundsSource {
  schedules(): Promise<readonly Schedule[]>;
  groups(): Promise<readonly ReceiverGroup[]>;
  addresses(): Promise<ReadonlyMap<string, ListenAddress>>;
  /** In the place of the one of this name. @throws StillpointError `config` where somebody else wrote that */
  setSchedule(schedule: Schedule): Promise<void>;
  /** @param name null: all. @returns the names of those that there were */
  clearSchedules(name: string | null): Promise<string[]>;
  /** In the place of the one of this name. @throws StillpointError as `setSchedule` */
  setGroup(group: ReceiverGroup): Promise<void>;
  /** @throws StillpointError as `setSchedule`; `usage` if there is none, or a schedule names it */
  removeGroup(name: string): Promise<void>;
  /** @param address null: it is no longer dialled. */
  setAddress(agent: string, address: ListenAddress | null): Promise<void>;
  /**
   * Whether all that names the agent can follow it to another name, or be without it (null).
   * @throws StillpointError `config` where somebody else wrote that, with its place
   */
  checkRename(from: string, to: string | null): Promise<void>;
  /** Of what commands have set. May be repeated. */
  renameAgent(from: string, to: string | null): Promise<void>;
}

export function roundsOfDirectory(dir: string): RoundsSource {
  return {
    schedules: () => readSchedules(dir),
    groups: () => readGroups(dir),
    addresses: () => readAddresses(dir),
    setSchedule: (schedule) => writeSchedule(dir, schedule),
    clearSchedules: (name) => removeSchedules(dir, name),
    setGroup: (group) => writeGroup(dir, group),
    removeGroup: async (name) => {
      refuseScheduled(name, await readSchedules(dir), () => null);
      await removeGroup(dir, name);
    },
    setAddress: (agent, address) => writeAddress(dir, agent, address),
    checkRename: async () => undefined,
    renameAgent: (from, to) => renameInSettings(dir, from, to),
  };
}

/** When schedules of a configuration were first seen: nothing of them is due before. */
interface Seen {
  readonly seen: readonly { readonly name: string; readonly at: string; readonly setAt: string }[];
}

const seenFormat: StateFormat<Seen> = {
  format: 'stillpoint-schedules-seen',
  version: 1,
  schema: z.strictObject({
    seen: z.array(z.strictObject({ name: z.string(), at: z.string(), setAt: z.iso.datetime() })).max(16),
  }),
};

const seenPath = (dir: string) => join(receiverDirectory(dir), 'schedules-seen.json');

/** @param load the configuration as it is now. @throws StillpointError `config` */
export function roundsOfConfiguration(
  dir: string,
  load: () => Promise<ReceiverConfig>,
  now: () => Date,
): RoundsSource {
  const own = roundsOfDirectory(dir);
  const configured = async (): Promise<readonly Schedule[]> => {
    const { settings } = await load();
    const before = (await readStateFile(seenPath(dir), seenFormat))?.seen ?? [];
    const found = settings.schedule.map(({ at, wait, ...rest }): Schedule => {
      const known = before.find((each) => each.name === rest.name && each.at === at.text);
      const setAt = known?.setAt ?? now().toISOString();
      return { ...rest, at: at.text, waitMs: wait * 1000, setAt };
    });
    const seen = found.map(({ name, at, setAt }) => ({ name, at, setAt }));
    if (JSON.stringify(seen) !== JSON.stringify(before))
      await writeStateFile(seenPath(dir), seenFormat, { seen });
    return found;
  };
  const groupsOf = ({ settings }: ReceiverConfig): readonly ReceiverGroup[] =>
    settings.group.map(({ name, members, missing }) => ({ name, members, missing }));
  const schedules = async () => beside(await configured(), await own.schedules());
  const groups = async () => beside(groupsOf(await load()), await own.groups());
  return {
    schedules,
    groups,
    addresses: async () =>
      new Map([...(await own.addresses()), ...Object.entries((await load()).settings.dial)]),
    setSchedule: async (schedule) => {
      refuseWritten(scheduleIn(await load(), schedule.name));
      await own.setSchedule(schedule);
    },
    // Nothing is removed if not all can be.
    clearSchedules: async (name) => {
      const config = await load();
      const names = name === null ? config.settings.schedule.map((each) => each.name) : [name];
      refuseWritten(...names.map((each) => scheduleIn(config, each)));
      return own.clearSchedules(name);
    },
    setGroup: async (group) => {
      refuseWritten(groupIn(await load(), group.name));
      await own.setGroup(group);
    },
    removeGroup: async (name) => {
      const config = await load();
      refuseWritten(groupIn(config, name));
      findGroup(await groups(), name);
      refuseScheduled(name, await schedules(), (schedule) => placeOfNamed(config, 'schedule', schedule));
      await removeGroup(dir, name);
    },
    setAddress: async (agent, address) => {
      refuseWritten({ thing: `agent ${agent}`, place: placeOf(await load(), `dial.${agent}`) });
      await own.setAddress(agent, address);
    },
    checkRename: async (from, to) => {
      const config = await load();
      const gone = to === null ? groupsOnlyOf(await own.groups(), from) : [];
      refuseWritten(
        ...agentIn(config, from, to !== null),
        ...gone.flatMap((name) => namesOfGroup(config, name)),
      );
    },
    renameAgent: (from, to) => own.renameAgent(from, to),
  };
}

/** Sentences about what commands have kept, and a configuration with the same names now hides. */
export async function hiddenRounds(dir: string, config: ReceiverConfig): Promise<string[]> {
  const hidden = (thing: string, place: string | null) =>
    place === null ? [] : [`${thing}: ${place} counts, not what a command has set`];
  return [
    ...(await readSchedules(dir)).flatMap(({ name }) =>
      hidden(`schedule ${name}`, placeOfNamed(config, 'schedule', name)),
    ),
    ...(await readGroups(dir)).flatMap(({ name }) =>
      hidden(`group ${name}`, placeOfNamed(config, 'group', name)),
    ),
    ...[...(await readAddresses(dir)).keys()].flatMap((agent) =>
      hidden(`address of agent ${agent}`, placeOf(config, `dial.${agent}`)),
    ),
  ];
}

/** @returns `FILE:LINE`, if it is written */
function placeOf({ origins }: ReceiverConfig, key: string): string | null {
  const origin = origins.get(key);
  return origin === undefined ? null : `${origin.file}:${origin.line}`;
}

function placeOfNamed(config: ReceiverConfig, kind: 'schedule' | 'group', name: string): string | null {
  const all: readonly { readonly name: string }[] = config.settings[kind];
  const at = all.findIndex((each) => each.name === name);
  return at < 0 ? null : placeOf(config, `${kind}[${at}]`);
}

/** What commands have set counts unless the configuration has one of the same name. */
function beside<T extends { readonly name: string }>(first: readonly T[], own: readonly T[]): readonly T[] {
  return [...first, ...own.filter(({ name }) => !first.some((each) => each.name === name))];
}

interface Written {
  readonly thing: string;
  readonly place: string | null;
}

const scheduleIn = (config: ReceiverConfig, name: string): Written => ({
  thing: `schedule ${name}`,
  place: placeOfNamed(config, 'schedule', name),
});

const groupIn = (config: ReceiverConfig, name: string): Written => ({
  thing: `group ${name}`,
  place: placeOfNamed(config, 'group', name),
});

/** All schedules that name the group. */
function namesOfGroup(config: ReceiverConfig, name: string): Written[] {
  return config.settings.schedule.flatMap(({ groups }, at) =>
    groups?.includes(name) === true
      ? [{ thing: `group ${name}`, place: placeOf(config, `schedule[${at}]`) }]
      : [],
  );
}

/** All places that name the agent. A policy that stays behind still covers the points that do. */
function agentIn(config: ReceiverConfig, agent: string, isRenamed: boolean): Written[] {
  const { schedule, group, retention } = config.settings;
  const keys = [
    `dial.${agent}`,
    ...schedule.flatMap(({ agents }, at) => (agents?.includes(agent) === true ? [`schedule[${at}]`] : [])),
    ...group.flatMap(({ members }, at) =>
      members.some((member) => member.agent === agent) ? [`group[${at}]`] : [],
    ),
    ...retention.policy.flatMap((policy, at) =>
      isRenamed && policy.agent === agent ? [`retention.policy[${at}]`] : [],
    ),
  ];
  return keys.map((key) => ({ thing: `agent ${agent}`, place: placeOf(config, key) }));
}

/** What somebody wrote into a configuration is theirs to change. */
function refuseWritten(...all: readonly Written[]): void {
  for (const { thing, place } of all)
    if (place !== null)
      throw new StillpointError('config', { thing, reason: `it is in ${place}`, remedy: 'Change it there.' });
}

/** Without its group a schedule would no longer do what it was made for. */
function refuseScheduled(
  group: string,
  schedules: readonly Schedule[],
  placeOf: (schedule: string) => string | null,
): void {
  const found = schedules.find(({ groups }) => groups?.includes(group) === true);
  if (found === undefined) return;
  const { name } = found;
  const place = placeOf(name);
  throw new StillpointError('usage', {
    thing: `group ${group}`,
    reason: `schedule ${name}${place === null ? '' : `, in ${place},`} backs it up`,
    remedy:
      place === null
        ? `Set the schedule without it first, or remove it with "stillpoint receiver schedule clear --name ${name}".`
        : 'Take it out there first.',
  });
}
