/**
 * Where the receiver's schedules and the addresses of dialled agents come from. Commands keep theirs in the
 * store (remote-settings), where the receiver's own user may write. A configuration that names the store adds
 * others.
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
import { type ListenAddress, receiverDirectory } from '../access/identity.js';
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
  addresses(): Promise<ReadonlyMap<string, ListenAddress>>;
  /** In the place of the one of this name. @throws StillpointError `config` where somebody else wrote that */
  setSchedule(schedule: Schedule): Promise<void>;
  /** @param name null: all. @returns the names of those that there were */
  clearSchedules(name: string | null): Promise<string[]>;
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
    addresses: () => readAddresses(dir),
    setSchedule: (schedule) => writeSchedule(dir, schedule),
    clearSchedules: (name) => removeSchedules(dir, name),
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
    const found = settings.schedule.map(({ name, at, agents, parallel, wait, retries }): Schedule => {
      const known = before.find((each) => each.name === name && each.at === at.text);
      const setAt = known?.setAt ?? now().toISOString();
      return { name, at: at.text, agents, parallel, retries, waitMs: wait * 1000, setAt };
    });
    const seen = found.map(({ name, at, setAt }) => ({ name, at, setAt }));
    if (JSON.stringify(seen) !== JSON.stringify(before))
      await writeStateFile(seenPath(dir), seenFormat, { seen });
    return found;
  };
  return {
    schedules: async () => {
      const first = await configured();
      const isHidden = ({ name }: Schedule) => first.some((schedule) => schedule.name === name);
      return [...first, ...(await own.schedules()).filter((schedule) => !isHidden(schedule))];
    },
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
    setAddress: async (agent, address) => {
      refuseWritten({ thing: `agent ${agent}`, place: placeOf(await load(), `dial.${agent}`) });
      await own.setAddress(agent, address);
    },
    checkRename: async (from, to) => refuseWritten(...agentIn(await load(), from, to !== null)),
    renameAgent: (from, to) => own.renameAgent(from, to),
  };
}

/** Sentences about what commands have kept, and a configuration with the same names now hides. */
export async function hiddenRounds(dir: string, config: ReceiverConfig): Promise<string[]> {
  const hidden = (thing: string, place: string | null) =>
    place === null ? [] : [`${thing}: ${place} counts, not what a command has set`];
  return [
    ...(await readSchedules(dir)).flatMap(({ name }) =>
      hidden(`schedule ${name}`, placeOfSchedule(config, name)),
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

function placeOfSchedule(config: ReceiverConfig, name: string): string | null {
  const at = config.settings.schedule.findIndex((schedule) => schedule.name === name);
  return at < 0 ? null : placeOf(config, `schedule[${at}]`);
}

interface Written {
  readonly thing: string;
  readonly place: string | null;
}

const scheduleIn = (config: ReceiverConfig, name: string): Written => ({
  thing: `schedule ${name}`,
  place: placeOfSchedule(config, name),
});

/** All places that name the agent. A policy that stays behind still covers the points that do. */
function agentIn(config: ReceiverConfig, agent: string, isRenamed: boolean): Written[] {
  const { schedule, retention } = config.settings;
  const keys = [
    `dial.${agent}`,
    ...schedule.flatMap(({ agents }, at) => (agents?.includes(agent) === true ? [`schedule[${at}]`] : [])),
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
