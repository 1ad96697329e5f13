/**
 * Where the receiver's schedules and the addresses of dialled agents are kept: one place, and commands change
 * them there.
 *
 * | receiver.toml or a drop-in    | the truth                             | commands write               |
 * |-------------------------------|---------------------------------------|------------------------------|
 * | does not name this store      | files in the store (remote-settings)  | those                        |
 * | names it: `store = DIR`       | the configuration                     | receiver.d/schedule-NAME.toml |
 * |                               |                                       | receiver.d/dial-AGENT.toml   |
 *
 * When a configuration comes to name the store, its files go over into drop-ins. What the configuration has
 * already under a name counts. Each drop-in is durable before the files go; if the process dies between
 * them, the same is done again.
 */

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { dropInPath, isDropIn, removeDropIn, writeDropIn } from '../../config/drop-ins.js';
import type { ReceiverConfig } from '../../config/receiver-config.js';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { tomlLines } from '../../config/toml/write.js';
import { StillpointError } from '../../domain/base/errors.js';
import { syncDirectory } from '../../native/files.js';
import { type ListenAddress, receiverDirectory } from '../access/identity.js';
import { addressText } from './dial-out.js';
import {
  dialPath,
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
  /** Each file is written once, and may be again. @throws StillpointError `config` */
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
  const schedules = async (): Promise<readonly Schedule[]> => {
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
  const placeOf = (config: ReceiverConfig, kind: 'schedule' | 'dial', name: string): string =>
    dropInPath(config.directory, 'receiver', `${kind}-${name}`);
  const checkRename = async (from: string, to: string | null): Promise<void> => {
    const config = await load();
    const thing = `agent ${from}`;
    await requireOwn(originText(config, `dial.${from}`), placeOf(config, 'dial', from), thing);
    for (const { name } of schedulesOf(config, from))
      await requireOwn(scheduleFile(config, name), placeOf(config, 'schedule', name), thing);
    // Points that stay under the former name are still under its policy.
    if (to === null) return;
    const at = config.settings.retention.policy.findIndex(({ agent }) => agent === from);
    if (at >= 0) await requireOwn(originText(config, `retention.policy[${at}]`), '', thing);
  };
  return {
    schedules,
    checkRename,
    renameAgent: async (from, to) => {
      await checkRename(from, to);
      const config = await load();
      const address = config.settings.dial[from];
      if (address !== undefined) {
        if (to !== null) await writeDialDropIn(placeOf(config, 'dial', to), to, address);
        await removeDropIn(placeOf(config, 'dial', from));
      }
      for (const { name, at, agents: named, parallel, wait, retries } of schedulesOf(config, from)) {
        const others = (named ?? []).filter((agent) => agent !== from && agent !== to);
        const agents = to === null ? others : [...others, to];
        const place = placeOf(config, 'schedule', name);
        // A file without names would be for all.
        if (agents.length === 0) await removeDropIn(place);
        else
          await writeScheduleDropIn(place, {
            name,
            at: at.text,
            agents,
            parallel,
            retries,
            waitMs: wait * 1000,
          });
      }
    },
    addresses: async () => new Map(Object.entries((await load()).settings.dial)),
    setSchedule: async (schedule) => {
      const config = await load();
      const path = placeOf(config, 'schedule', schedule.name);
      await requireOwn(scheduleFile(config, schedule.name), path, `schedule ${schedule.name}`);
      await writeScheduleDropIn(path, schedule);
    },
    clearSchedules: async (name) => {
      const config = await load();
      const names = config.settings.schedule
        .map((schedule) => schedule.name)
        .filter((each) => name === null || each === name);
      // Nothing is removed if not all can be.
      for (const each of names)
        await requireOwn(scheduleFile(config, each), placeOf(config, 'schedule', each), `schedule ${each}`);
      for (const each of names) await removeDropIn(placeOf(config, 'schedule', each));
      return names;
    },
    setAddress: async (agent, address) => {
      const config = await load();
      const path = placeOf(config, 'dial', agent);
      await requireOwn(originText(config, `dial.${agent}`), path, `agent ${agent}`);
      if (address === null) await removeDropIn(path);
      else await writeDialDropIn(path, agent, address);
    },
  };
}

/** What the store's own files have, once. @param tell is told what counts no longer */
export async function adoptDirectoryRounds(
  dir: string,
  config: ReceiverConfig,
  tell: (text: string) => void,
): Promise<void> {
  const { settings, directory } = config;
  for (const schedule of await readSchedules(dir)) {
    const place = scheduleFile(config, schedule.name);
    if (place === null)
      await writeScheduleDropIn(dropInPath(directory, 'receiver', `schedule-${schedule.name}`), schedule);
    else tell(`schedule ${schedule.name}: ${place.text} counts, not what "receiver schedule set" kept`);
    await removeSchedules(dir, schedule.name);
  }
  const addresses = await readAddresses(dir);
  if (addresses.size === 0) return;
  for (const [agent, address] of addresses) {
    if (settings.dial[agent] === undefined)
      await writeDialDropIn(dropInPath(directory, 'receiver', `dial-${agent}`), agent, address);
    else tell(`agent ${agent}: the configuration's address counts, not what "receiver dial" kept`);
  }
  await rm(dialPath(dir), { force: true });
  await syncDirectory(receiverDirectory(dir));
}

interface Written {
  readonly file: string;
  /** `FILE:LINE` */
  readonly text: string;
}

function originText({ origins }: ReceiverConfig, key: string): Written | null {
  const origin = origins.get(key);
  return origin === undefined ? null : { file: origin.file, text: `${origin.file}:${origin.line}` };
}

function scheduleFile(config: ReceiverConfig, name: string): Written | null {
  const at = config.settings.schedule.findIndex((schedule) => schedule.name === name);
  return at < 0 ? null : originText(config, `schedule[${at}]`);
}

function schedulesOf({ settings }: ReceiverConfig, agent: string): ReceiverConfig['settings']['schedule'] {
  return settings.schedule.filter(({ agents }) => agents?.includes(agent) === true);
}

async function requireOwn(written: Written | null, path: string, thing: string): Promise<void> {
  if (written === null || (written.file === path && (await isDropIn(path)))) return;
  throw new StillpointError('config', {
    thing,
    reason: `it is in ${written.text}, which no command wrote`,
    remedy: 'Change it there.',
  });
}

function writeScheduleDropIn(path: string, schedule: Omit<Schedule, 'setAt'>): Promise<void> {
  const { name, at, agents, parallel, waitMs, retries } = schedule;
  const commands = {
    writes: 'receiver schedule set',
    removes: `receiver schedule clear --name ${name}`,
  };
  const wait = Math.ceil(waitMs / 1000);
  const values = { name, at, agents: agents ?? undefined, parallel, wait, retries };
  return writeDropIn(path, commands, ['[[schedule]]', ...tomlLines(values)]);
}

function writeDialDropIn(path: string, agent: string, address: ListenAddress): Promise<void> {
  const commands = { writes: 'receiver dial', removes: `receiver dial ${agent} none` };
  return writeDropIn(path, commands, ['[dial]', ...tomlLines({ [agent]: addressText(address) })]);
}
