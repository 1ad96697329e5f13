/**
 * What the daemon remembers of the runs of its devices and groups, `<state>/daemon.json`: written as a whole
 * before a run begins and after it has ended. If the file is damaged it is put aside: schedules then count
 * from now on.
 */
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  makeDirectory,
  readStateFile,
  STATE_CHARS_MAX,
  type StateFormat,
  writeStateFile,
} from '../../config/state-file.js';
import { isStillpointError } from '../../domain/base/errors.js';
import { GROUPS_MAX, OFFERS_MAX } from '../../domain/base/limits.js';
import type { Pause, RunRecord } from '../../domain/order/run-plan.js';

export type RunReason = 'due' | 'retry' | 'asked' | 'ordered';

export interface LastRun {
  readonly why: RunReason;
  /** ISO 8601, as all times here. */
  readonly startedAt: string;
  /** Null: it runs, or the process ended meanwhile. */
  readonly endedAt: string | null;
  readonly state: 'running' | 'done' | 'failed' | 'cancelled' | 'interrupted';
  /** `NAME@SEQUENCE`, of a device or a group. */
  readonly point: string | null;
  readonly warningCount: number;
  readonly wireBytes: number;
  /** Of what did not go well, `thing: reason`; of a group that is done: who was left out. */
  readonly reason: string | null;
}

export interface JobMemory {
  readonly name: string;
  readonly record: RunRecord;
  readonly last: LastRun | null;
  readonly lastGood: { readonly point: string; readonly instant: string } | null;
}

export interface DeviceMemory extends JobMemory {
  readonly path: string;
  /** The path with wildcards that it matched; null: it is named itself. */
  readonly pattern: string | null;
}

export interface DaemonMemory {
  readonly devices: readonly DeviceMemory[];
  readonly groups: readonly JobMemory[];
  /** Of all. */
  readonly pause: Pause | null;
}

const text = z.string().max(4096);
const time = z.number().min(-8.64e15).max(8.64e15);
const count = z.int().min(0);
const pause = z.strictObject({ fromMs: time, untilMs: time.nullable() }).nullable();

const group = z.strictObject({
  name: text,
  record: z.strictObject({
    ...{ anchorMs: time, failures: count, retries: count, retryAtMs: time.nullable(), pause },
    fullAtMs: time.nullable(),
  }),
  last: z
    .strictObject({
      why: z.enum(['due', 'retry', 'asked', 'ordered']),
      startedAt: text,
      endedAt: text.nullable(),
      state: z.enum(['running', 'done', 'failed', 'cancelled', 'interrupted']),
      point: text.nullable(),
      warningCount: count,
      wireBytes: count,
      reason: text.nullable(),
    })
    .nullable(),
  lastGood: z.strictObject({ point: text, instant: text }).nullable(),
});

const device = group.extend({ path: text, pattern: text.nullable() });

/** Those that have vanished are kept, too. */
const DEVICES_MAX = 4 * OFFERS_MAX;
const devices = z.array(device).max(DEVICES_MAX);

type Remembered = Pick<DaemonMemory, 'devices' | 'groups'>;

const memoryFormat: StateFormat<DaemonMemory> = {
  format: 'stillpoint-daemon',
  version: 2,
  schema: z.strictObject({ pause, devices, groups: z.array(group).max(GROUPS_MAX) }),
  // There were no groups.
  former: { 1: z.strictObject({ pause, devices }).transform((memory) => ({ ...memory, groups: [] })) },
};

/** For what is in the file beside the devices and groups. */
const REST_CHARS = 1_024;

/**
 * What fits into the file: one that can't be read back is put aside as damaged, with the pauses in it. Groups
 * come first, as there are few; of each kind those that are paused, then in the order of the list.
 */
function fitting({ groups, devices: all }: Remembered): Remembered {
  let room = STATE_CHARS_MAX - REST_CHARS;
  const isPaused = ({ record }: JobMemory) => Number(record.pause !== null);
  const those = <T extends JobMemory>(memories: readonly T[], schema: z.ZodType<T>, most: number): T[] =>
    memories
      .toSorted((a, b) => isPaused(b) - isPaused(a))
      .filter((memory) => {
        // It is text in a text.
        const chars = JSON.stringify(`${JSON.stringify(memory)},`).length;
        if (chars > room || !schema.safeParse(memory).success) return false;
        room -= chars;
        return true;
      })
      .slice(0, most);
  return { groups: those(groups, group, GROUPS_MAX), devices: those(all, device, DEVICES_MAX) };
}

export const NOTHING_REMEMBERED: DaemonMemory = { devices: [], groups: [], pause: null };

const memoryPath = (stateDirectory: string): string => join(stateDirectory, 'daemon.json');

/** @throws StillpointError `config` if it is damaged */
export async function readMemory(stateDirectory: string): Promise<DaemonMemory> {
  return (await readStateFile(memoryPath(stateDirectory), memoryFormat)) ?? NOTHING_REMEMBERED;
}

/** @param onDamage is told what was put aside, and why */
export async function recallMemory(
  stateDirectory: string,
  onDamage: (reason: string) => void,
): Promise<DaemonMemory> {
  try {
    return await readMemory(stateDirectory);
  } catch (error) {
    if (!isStillpointError(error, 'config')) throw error;
    await rename(memoryPath(stateDirectory), `${memoryPath(stateDirectory)}.damaged`);
    onDamage(error.message);
    return NOTHING_REMEMBERED;
  }
}

/** @param memory what it has, in the order of its worth: the file is bounded */
export async function writeMemory(
  stateDirectory: string,
  { pause: pausedAll, ...remembered }: DaemonMemory,
): Promise<void> {
  await makeDirectory(stateDirectory);
  const memory = { ...fitting(remembered), pause: pausedAll };
  await writeStateFile(memoryPath(stateDirectory), memoryFormat, memory);
}
