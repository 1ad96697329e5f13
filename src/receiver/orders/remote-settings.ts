/**
 * The settings of the receiver's own initiative, under DIR/receiver/. Commands write them; the running
 * receiver reads them when it starts and when a command tells it to.
 *
 *   dial-out.json    agents that are dialled, and where
 *   schedule.json    when rounds begin
 *   last-round.json  the last one that the schedule began: written when it begins, and again when it ends
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { ROUND_ITEMS_KEPT, ROUND_PARALLEL_MAX } from '../../domain/base/limits.js';
import type { RoundItem, RoundSummary } from '../../domain/order/round.js';
import { MINUTES_PER_DAY, type Timing } from '../../domain/order/schedule.js';
import { syncDirectory } from '../../native/files.js';
import { type ListenAddress, receiverDirectory } from '../access/identity.js';

export interface Schedule {
  readonly timing: Timing;
  readonly parallel: number;
  /** For agents that are not connected when a round begins. */
  readonly waitMs: number;
  /** Null: all that are enrolled. */
  readonly agents: readonly string[] | null;
  /** ISO 8601. Nothing is due before. */
  readonly setAt: string;
}

export interface LastRound {
  readonly startedAt: string;
  /** Null: it runs, or the receiver was stopped meanwhile. */
  readonly endedAt: string | null;
  readonly summary: RoundSummary | null;
}

const AGENTS_MAX = 1024;
const ROUND_WAIT_MS_MAX = 24 * 60 * 60_000;

const text = z.string().max(1024);
const count = z.int().min(0);
export const waitMsSchema = z.number().min(0).max(ROUND_WAIT_MS_MAX);
export const parallelSchema = z.int().min(1).max(ROUND_PARALLEL_MAX);
export const agentsSchema = z.array(text).max(AGENTS_MAX).nullable();

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

const timing: z.ZodType<Timing> = z.discriminatedUnion('kind', [
  z.strictObject({
    kind: z.literal('at'),
    minutes: z
      .array(count.max(MINUTES_PER_DAY - 1))
      .min(1)
      .max(MINUTES_PER_DAY),
  }),
  z.strictObject({ kind: z.literal('every'), everyMs: z.int().min(1) }),
]);

export const scheduleSchema: z.ZodType<Schedule> = z.strictObject({
  timing,
  parallel: parallelSchema,
  waitMs: waitMsSchema,
  agents: agentsSchema,
  setAt: z.iso.datetime(),
});

const scheduleFormat: StateFormat<Schedule> = {
  format: 'stillpoint-schedule',
  version: 1,
  schema: scheduleSchema,
};

export const roundItemSchema: z.ZodType<RoundItem> = z.strictObject({
  agent: text,
  device: text.nullable(),
  state: z.enum(['waiting', 'running', 'done', 'failed', 'skipped']),
  point: text.nullable(),
  warningCount: count,
  wireBytes: count,
  durationMs: count,
  reason: z.string().nullable(),
});

export const roundSummarySchema: z.ZodType<RoundSummary> = z.strictObject({
  done: count,
  failed: count,
  skipped: count,
  withWarnings: count,
  wireBytes: count,
  durationMs: z.number().min(0),
  items: z.array(roundItemSchema).max(ROUND_ITEMS_KEPT),
});

const lastRoundFormat: StateFormat<LastRound> = {
  format: 'stillpoint-last-round',
  version: 1,
  schema: z.strictObject({
    startedAt: z.iso.datetime(),
    endedAt: z.iso.datetime().nullable(),
    summary: roundSummarySchema.nullable(),
  }),
};

/** Of an item, so that a whole round fits into a file of its bounded size. */
const REASON_CHARS_KEPT = 300;

const dialPath = (dir: string) => join(receiverDirectory(dir), 'dial-out.json');
const schedulePath = (dir: string) => join(receiverDirectory(dir), 'schedule.json');
const lastRoundPath = (dir: string) => join(receiverDirectory(dir), 'last-round.json');

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
  const schedule = await readSchedule(dir);
  if (schedule?.agents?.includes(from) !== true) return;
  const others = schedule.agents.filter((agent) => agent !== from && agent !== to);
  await writeSchedule(dir, { ...schedule, agents: to === null ? others : [...others, to] });
}

export function readSchedule(dir: string): Promise<Schedule | null> {
  return readStateFile(schedulePath(dir), scheduleFormat);
}

export async function writeSchedule(dir: string, schedule: Schedule | null): Promise<void> {
  if (schedule !== null) return writeStateFile(schedulePath(dir), scheduleFormat, schedule);
  await rm(schedulePath(dir), { force: true });
  await syncDirectory(receiverDirectory(dir));
}

export function readLastRound(dir: string): Promise<LastRound | null> {
  return readStateFile(lastRoundPath(dir), lastRoundFormat);
}

export async function writeLastRound(dir: string, round: LastRound): Promise<void> {
  const { summary } = round;
  const items = summary?.items.map((item) => ({
    ...item,
    reason: item.reason?.slice(0, REASON_CHARS_KEPT) ?? null,
  }));
  await writeStateFile(lastRoundPath(dir), lastRoundFormat, {
    ...round,
    summary: summary === null ? null : { ...summary, items: items ?? [] },
  });
}
