/**
 * How the last backup of each group over several hosts ended, under DIR/receiver/last-group-NAME.json. It is
 * written when a run begins, and again when it ends: what has begun and does not run was cut off.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { GROUP_MEMBERS_MAX } from '../../domain/base/limits.js';
import { checkName, NAME_CHARS_MAX } from '../../domain/base/names.js';
import { receiverDirectory } from '../access/identity.js';

export interface GroupHostEnd {
  readonly agent: string;
  readonly devices: readonly string[];
  readonly isOut: boolean;
  /** Why it is out, as a sentence. */
  readonly reason: string | null;
  readonly stalls: readonly { readonly device: string; readonly stallMs: number }[];
}

export interface GroupRunEnd {
  /** ISO 8601, as all times here. */
  readonly startedAt: string;
  readonly endedAt: string;
  readonly by: 'operator' | 'schedule';
  /** Of the instant. */
  readonly tries: number;
  /** How often a host missed one. */
  readonly missed: number;
  readonly instant: string | null;
  /** `db@3`; null: it made none. */
  readonly point: string | null;
  /** Why it made none, as a sentence. */
  readonly failure: string | null;
  readonly hosts: readonly GroupHostEnd[];
  /** How long each took, over all tries, in their order. */
  readonly phases: readonly { readonly phase: string; readonly durationMs: number }[];
  readonly warningCount: number;
}

export interface GroupRunsKept {
  /** Of one that has not ended. */
  readonly begunAt: string | null;
  readonly last: GroupRunEnd | null;
}

const PHASES_MAX = 16;
const REASON_CHARS_MAX = 300;

const name = z.string().max(NAME_CHARS_MAX);
const reason = z.string().max(REASON_CHARS_MAX).nullable();
const count = z.int().min(0);
const at = z.iso.datetime();

export const groupRunEndSchema: z.ZodType<GroupRunEnd> = z.strictObject({
  startedAt: at,
  endedAt: at,
  by: z.enum(['operator', 'schedule']),
  tries: count,
  missed: count,
  instant: at.nullable(),
  point: z
    .string()
    .max(2 * NAME_CHARS_MAX)
    .nullable(),
  failure: reason,
  hosts: z
    .array(
      z.strictObject({
        agent: name,
        devices: z.array(name).max(GROUP_MEMBERS_MAX),
        isOut: z.boolean(),
        reason,
        stalls: z.array(z.strictObject({ device: name, stallMs: z.number().min(0) })).max(GROUP_MEMBERS_MAX),
      }),
    )
    .max(GROUP_MEMBERS_MAX),
  phases: z.array(z.strictObject({ phase: name, durationMs: z.number().min(0) })).max(PHASES_MAX),
  warningCount: count,
});

const lastGroupRunFormat: StateFormat<GroupRunsKept> = {
  format: 'stillpoint-last-group-run',
  version: 1,
  schema: z.strictObject({ begunAt: at.nullable(), last: groupRunEndSchema.nullable() }),
};

const lastRunPath = (dir: string, group: string) =>
  join(receiverDirectory(dir), `last-group-${checkName('group name', group)}.json`);

export async function readGroupRuns(dir: string, group: string): Promise<GroupRunsKept> {
  return (await readStateFile(lastRunPath(dir, group), lastGroupRunFormat)) ?? { begunAt: null, last: null };
}

export async function writeGroupRuns(dir: string, group: string, kept: GroupRunsKept): Promise<void> {
  await writeStateFile(lastRunPath(dir, group), lastGroupRunFormat, kept);
}

/** So that another group of its name begins anew. */
export async function removeGroupRuns(dir: string, group: string): Promise<void> {
  await rm(lastRunPath(dir, group), { force: true });
}

/** A text as the file takes it. */
export function keptReason(text: string): string {
  return text.slice(0, REASON_CHARS_MAX);
}
