/**
 * What a store keeps about retention: `retention/settings`, its copy, and `retention/clock`, as sealed texts
 * (docs/format.md section 5). The copy is written first, so that one of the two is always whole.
 */
import { join } from 'node:path';
import { z } from 'zod';
import { StillpointError } from '../../domain/base/errors.js';
import { MiB } from '../../domain/base/limits.js';
import { NAME_CHARS_MAX } from '../../domain/base/names.js';
import { zoneCalendar } from '../../domain/retention/calendar.js';
import type { ClockRecord } from '../../domain/retention/clock.js';
import { LOCK_WISHES_MAX } from '../../domain/retention/lock.js';
import { checkPolicy, POLICIES_MAX, scopeName } from '../../domain/retention/policy.js';
import { PINS_MAX, type RetentionSettings } from '../../domain/retention/settings.js';
import { type Disk, makeDirs, readSmallFile, writeDurably } from '../disk/disk.js';
import { decodeSealed, encodeSealed } from '../disk/sealed-text.js';

const RETENTION_DIR = 'retention';
export const SETTINGS_FILE = `${RETENTION_DIR}/settings`;
export const SETTINGS_COPY = `${RETENTION_DIR}/settings-copy`;
export const CLOCK_FILE = `${RETENTION_DIR}/clock`;
const SETTINGS_BYTES_MAX = 32 * MiB;

const name = z.string().min(1).max(NAME_CHARS_MAX);
const timeMs = z.number();
const count = z.int().min(1).optional();

export const policySchema = z.strictObject({
  keepAll: z.literal(true).optional(),
  ...{ keepLast: count, keepHourly: count, keepDaily: count, keepWeekly: count },
  ...{ keepMonthly: count, keepYearly: count, keepWithinMs: z.number().positive().optional() },
});

const settingsSchema = z.strictObject({
  timeZone: z.string().max(200).nullable(),
  policies: z
    .array(z.strictObject({ agent: name.nullable(), device: name.nullable(), policy: policySchema }))
    .max(POLICIES_MAX),
  journalKeep: z
    .array(z.strictObject({ agent: name.nullable(), device: name.nullable(), keepMs: z.number().positive() }))
    .max(POLICIES_MAX)
    .optional(),
  lock: z
    .array(z.strictObject({ minAgeMs: z.number().min(0), askedAtMs: timeMs, fromMs: timeMs }))
    .max(LOCK_WISHES_MAX),
  pins: z
    .array(
      z.strictObject({
        ...{ pointId: z.string().regex(/^[0-9a-f]{32}$/), agent: name, device: name },
        ...{ sequence: z.int().min(1), reason: z.string().max(1000) },
        ...{ pinnedAtMs: timeMs, untilMs: timeMs.nullable() },
      }),
    )
    .max(PINS_MAX),
  managedBy: z.string().max(4096).nullable(),
});

const clockSchema = z.strictObject({
  anchor: z.strictObject({ wallMs: timeMs, upMs: z.number().min(0), bootId: z.string().max(100) }),
  latestMs: timeMs,
});

/** Null if there is no such file. @throws StillpointError `store-damaged`, `version`; or as reading fails */
export async function readSettings(disk: Disk, dir: string, file: string): Promise<RetentionSettings | null> {
  const path = join(dir, file);
  const bytes = await readSmallFile(disk, path, SETTINGS_BYTES_MAX);
  if (bytes === null) return null;
  const settings = parsed(settingsSchema, decodeSealed('stillpoint-retention', bytes, path).body, path);
  for (const { policy, ...scope } of settings.policies) checkPolicy(`policy of ${scopeName(scope)}`, policy);
  if (settings.timeZone !== null) zoneCalendar(settings.timeZone);
  return settings;
}

/** Durable when it resolves. */
export async function writeSettings(disk: Disk, dir: string, settings: RetentionSettings): Promise<void> {
  const bytes = encodeSealed('stillpoint-retention', settings);
  await makeDirs(disk, dir, RETENTION_DIR);
  for (const file of [SETTINGS_COPY, SETTINGS_FILE]) await writeDurably(disk, join(dir, file), bytes);
}

/** As `readSettings`. */
export async function readClock(disk: Disk, dir: string): Promise<ClockRecord | null> {
  const path = join(dir, CLOCK_FILE);
  const bytes = await readSmallFile(disk, path, MiB);
  return bytes === null
    ? null
    : parsed(clockSchema, decodeSealed('stillpoint-clock', bytes, path).body, path);
}

export async function writeClock(disk: Disk, dir: string, record: ClockRecord): Promise<void> {
  await makeDirs(disk, dir, RETENTION_DIR);
  await writeDurably(disk, join(dir, CLOCK_FILE), encodeSealed('stillpoint-clock', record));
}

function parsed<T>(schema: z.ZodType<T>, body: unknown, thing: string): T {
  const result = schema.safeParse(body);
  if (result.success) return result.data;
  const [issue] = result.error.issues;
  throw new StillpointError('store-damaged', {
    thing,
    reason: `its content is not what it should be: ${issue?.path.join('.')}: ${issue?.message}`,
  });
}
