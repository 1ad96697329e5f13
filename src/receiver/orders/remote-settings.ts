/**
 * The settings of the receiver's own initiative, under DIR/receiver/. Commands write them; the running
 * receiver reads them when it starts and when a command tells it to.
 *
 *   dial-out.json    agents that are dialled, and where
 *   groups.json      groups over several hosts: group-settings.ts; how their last backups ended is in
 *                    last-group-NAME.json: last-group-run.ts
 *   schedule.json    when rounds begin: schedules, each with a name
 *   last-round.json  the last one that the schedule `default` began: written when it begins, and again when
 *                    it ends; last-round-NAME.json for the others
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { GROUPS_MAX, ROUND_ITEMS_KEPT, ROUND_PARALLEL_MAX } from '../../domain/base/limits.js';
import { checkName, NAME_CHARS_MAX } from '../../domain/base/names.js';
import type { RoundItem, RoundSummary } from '../../domain/order/round.js';
import type { RoundChoice } from '../../domain/order/round-choice.js';
import { parseEvery, parseSchedule, type Schedule as Timing } from '../../domain/order/schedule.js';
import { syncDirectory } from '../../native/files.js';
import { type ListenAddress, receiverDirectory } from '../access/identity.js';
import { groupsOnlyOf, readGroups, renameInGroups } from './group-settings.js';

export interface Schedule extends RoundChoice {
  readonly name: string;
  /** As src/domain/order/schedule.ts reads it. */
  readonly at: string;
  readonly parallel: number;
  /** For agents that are not connected when a round begins. */
  readonly waitMs: number;
  /** How often a round goes back to what failed, before the next one is due. */
  readonly retries: number;
  /** ISO 8601. Nothing is due before. */
  readonly setAt: string;
}

export interface LastRound {
  readonly startedAt: string;
  /** Null: it runs, or the receiver was stopped meanwhile. */
  readonly endedAt: string | null;
  readonly summary: RoundSummary | null;
}

/** Of the schedule that has no other name. */
export const DEFAULT_SCHEDULE = 'default';
export const ROUND_RETRIES_DEFAULT = 2;
export const ROUND_RETRIES_MAX = 10;
const SCHEDULES_MAX = 16;
const SCHEDULE_CHARS_MAX = 4096;
const AGENTS_MAX = 1024;
const ROUND_WAIT_MS_MAX = 24 * 60 * 60_000;

const text = z.string().max(1024);
const count = z.int().min(0);
export const waitMsSchema = z.number().min(0).max(ROUND_WAIT_MS_MAX);
export const parallelSchema = z.int().min(1).max(ROUND_PARALLEL_MAX);
export const agentsSchema = z.array(text).max(AGENTS_MAX).nullable();
/** As many as commands and a configuration may have together. */
export const groupsSchema = z
  .array(text)
  .max(2 * GROUPS_MAX)
  .nullable();

const dialFormat: StateFormat<{ readonly agents: readonly ({ readonly agent: string } & ListenAddress)[] }> =
  {
    format: 'stillpoint-dial-out',
    version: 1,
    schema: z.strictObject({
      agents: z
        .array(z.strictObject({ agent: text, host: text, port: z.int().min(1).max(65_535) }))
        .max(AGENTS_MAX),
    }),
  };

const timing = z.string().max(SCHEDULE_CHARS_MAX).refine(isSchedule);

const agentSchedule = z.strictObject({
  name: z.string().max(NAME_CHARS_MAX),
  at: timing,
  parallel: parallelSchema,
  waitMs: waitMsSchema,
  agents: agentsSchema,
  retries: count.max(ROUND_RETRIES_MAX),
  setAt: z.iso.datetime(),
});
const scheduleSchema: z.ZodType<Schedule> = agentSchedule.extend({ groups: groupsSchema });

interface Schedules {
  readonly schedules: readonly Schedule[];
}

const schedulesOf = <S extends z.ZodType>(schema: S) =>
  z.strictObject({ schedules: z.array(schema).max(SCHEDULES_MAX) });

/** Of version 2: without groups. */
const schedulesOfAgents: z.ZodType<Schedules> = schedulesOf(
  agentSchedule.transform((schedule) => ({ ...schedule, groups: null })),
);

/** Of version 1: a single one, at minutes of the day or every so often. */
const singleSchedule: z.ZodType<Schedules> = z
  .strictObject({
    timing: z.discriminatedUnion('kind', [
      z.strictObject({ kind: z.literal('at'), minutes: z.array(count.max(24 * 60 - 1)).min(1) }),
      z.strictObject({ kind: z.literal('every'), everyMs: z.int().min(60_000) }),
    ]),
    parallel: parallelSchema,
    waitMs: waitMsSchema,
    agents: agentsSchema,
    setAt: z.iso.datetime(),
  })
  .transform(({ timing, ...rest }) => {
    const pad = (value: number) => String(value).padStart(2, '0');
    const at =
      timing.kind === 'every'
        ? parseEvery(`${Math.round(timing.everyMs / 60_000)}m`).text
        : timing.minutes.map((m) => `${pad(Math.floor(m / 60))}:${pad(m % 60)}`).join(',');
    const schedule = { ...rest, name: DEFAULT_SCHEDULE, at, groups: null, retries: ROUND_RETRIES_DEFAULT };
    return { schedules: [schedule] };
  });

const scheduleFormat: StateFormat<Schedules> = {
  format: 'stillpoint-schedule',
  version: 3,
  schema: schedulesOf(scheduleSchema),
  former: { 1: singleSchedule, 2: schedulesOfAgents },
};

function isSchedule(text: string): boolean {
  try {
    return parseSchedule(text).text !== '';
  } catch {
    return false;
  }
}

export function timingOf({ at }: Schedule): Timing {
  return parseSchedule(at);
}

const agentItem = z.strictObject({
  agent: text.nullable(),
  device: text.nullable(),
  state: z.enum(['waiting', 'running', 'done', 'failed', 'skipped']),
  point: text.nullable(),
  warningCount: count,
  wireBytes: count,
  durationMs: count,
  reason: z.string().nullable(),
});
export const roundItemSchema: z.ZodType<RoundItem> = agentItem.extend({ group: text.nullable() });

const summaryOf = (item: z.ZodType<RoundItem>): z.ZodType<RoundSummary> =>
  z.strictObject({
    done: count,
    failed: count,
    skipped: count,
    withWarnings: count,
    wireBytes: count,
    durationMs: z.number().min(0),
    items: z.array(item).max(ROUND_ITEMS_KEPT),
  });
export const roundSummarySchema = summaryOf(roundItemSchema);

const lastRoundOf = (item: z.ZodType<RoundItem>): z.ZodType<LastRound> =>
  z.strictObject({
    startedAt: z.iso.datetime(),
    endedAt: z.iso.datetime().nullable(),
    summary: summaryOf(item).nullable(),
  });

const lastRoundFormat: StateFormat<LastRound> = {
  format: 'stillpoint-last-round',
  version: 2,
  schema: lastRoundOf(roundItemSchema),
  // Without groups.
  former: { 1: lastRoundOf(agentItem.transform((item) => ({ ...item, group: null }))) },
};

/** Of an item, so that a whole round fits into a file of its bounded size. */
const REASON_CHARS_KEPT = 300;

const dialPath = (dir: string) => join(receiverDirectory(dir), 'dial-out.json');
const schedulePath = (dir: string) => join(receiverDirectory(dir), 'schedule.json');
const lastRoundPath = (dir: string, name: string) =>
  join(
    receiverDirectory(dir),
    name === DEFAULT_SCHEDULE ? 'last-round.json' : `last-round-${checkName('schedule name', name)}.json`,
  );

export async function readAddresses(dir: string): Promise<Map<string, ListenAddress>> {
  const content = await readStateFile(dialPath(dir), dialFormat);
  return new Map((content?.agents ?? []).map(({ agent, host, port }) => [agent, { host, port }]));
}

/** @param address null: it is no longer dialled. */
export async function writeAddress(dir: string, agent: string, address: ListenAddress | null): Promise<void> {
  const addresses = await readAddresses(dir);
  if (address === null) addresses.delete(agent);
  else addresses.set(agent, address);
  const agents = [...addresses].map(([name, at]) => ({ agent: name, ...at }));
  await writeStateFile(dialPath(dir), dialFormat, { agents });
}

/** An agent has another name now; null: it is gone. Each file is written once, and may be again. */
export async function renameInSettings(dir: string, from: string, to: string | null): Promise<void> {
  const address = (await readAddresses(dir)).get(from);
  if (address !== undefined) {
    if (to !== null) await writeAddress(dir, to, address);
    await writeAddress(dir, from, null);
  }
  // Before the groups: these are what says which of them go.
  const gone = to === null ? groupsOnlyOf(await readGroups(dir), from) : [];
  for (const schedule of await readSchedules(dir)) {
    const agents = renamed(schedule.agents, from, to);
    const groups = gone.reduce((names, name) => renamed(names, name, null), schedule.groups);
    if (agents === schedule.agents && groups === schedule.groups) continue;
    // It was for what is gone alone; without any names it would be for everything.
    if (agents === null && groups === null) await removeSchedules(dir, schedule.name);
    else await writeSchedule(dir, { ...schedule, agents, groups });
  }
  await renameInGroups(dir, from, to);
}

/** @returns the same if it is not there; null: nothing is left */
function renamed(names: readonly string[] | null, from: string, to: string | null): readonly string[] | null {
  if (names?.includes(from) !== true) return names;
  const others = names.filter((name) => name !== from && name !== to);
  if (to !== null) return [...others, to];
  return others.length === 0 ? null : others;
}

export async function readSchedules(dir: string): Promise<readonly Schedule[]> {
  return (await readStateFile(schedulePath(dir), scheduleFormat))?.schedules ?? [];
}

/** In the place of the one of this name. */
export async function writeSchedule(dir: string, schedule: Schedule): Promise<void> {
  const others = (await readSchedules(dir)).filter(({ name }) => name !== schedule.name);
  if (others.length >= SCHEDULES_MAX) {
    throw new StillpointError('usage', {
      thing: `schedule ${schedule.name}`,
      reason: `there are ${others.length} others, and ${SCHEDULES_MAX} is the limit`,
      remedy: 'Remove one with "stillpoint receiver schedule clear --name NAME".',
    });
  }
  await writeStateFile(schedulePath(dir), scheduleFormat, { schedules: [...others, schedule] });
}

/** @param name null: all. @returns the names of those that there were */
export async function removeSchedules(dir: string, name: string | null): Promise<string[]> {
  const present = await readSchedules(dir);
  const kept = present.filter((schedule) => name !== null && schedule.name !== name);
  if (kept.length > 0) await writeStateFile(schedulePath(dir), scheduleFormat, { schedules: kept });
  else {
    await rm(schedulePath(dir), { force: true });
    await syncDirectory(receiverDirectory(dir));
  }
  return present.filter((schedule) => !kept.includes(schedule)).map((schedule) => schedule.name);
}

export function readLastRound(dir: string, name: string): Promise<LastRound | null> {
  return readStateFile(lastRoundPath(dir, name), lastRoundFormat);
}

export async function writeLastRound(dir: string, name: string, round: LastRound): Promise<void> {
  const { summary } = round;
  const items = summary?.items.map((item) => ({
    ...item,
    reason: item.reason?.slice(0, REASON_CHARS_KEPT) ?? null,
  }));
  await writeStateFile(lastRoundPath(dir, name), lastRoundFormat, {
    ...round,
    summary: summary === null ? null : { ...summary, items: items ?? [] },
  });
}
