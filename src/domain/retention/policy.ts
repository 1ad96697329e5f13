/**
 * What is kept: rules that a point must match one of. A policy is for a device, for an agent's other devices,
 * or for all others; the nearest one counts alone. Without any, everything is kept.
 */
import { StillpointError } from '../base/errors.js';

export interface RetentionPolicy {
  /** Keep everything, whatever the agent's or the store's policy says. Stands alone. */
  readonly keepAll?: true | undefined;
  readonly keepLast?: number | undefined;
  readonly keepHourly?: number | undefined;
  readonly keepDaily?: number | undefined;
  readonly keepWeekly?: number | undefined;
  readonly keepMonthly?: number | undefined;
  readonly keepYearly?: number | undefined;
  readonly keepWithinMs?: number | undefined;
}

/** Whose policy it is: agent and device; an agent, for its devices without their own; or neither. */
export interface PolicyScope {
  readonly agent: string | null;
  readonly device: string | null;
}

export interface ScopedPolicy extends PolicyScope {
  readonly policy: RetentionPolicy;
}

/** Rules that keep a number of points or of calendar periods, in the order in which they are shown. */
export const COUNT_RULES = [
  ['keepLast', 'keep-last'],
  ['keepHourly', 'keep-hourly'],
  ['keepDaily', 'keep-daily'],
  ['keepWeekly', 'keep-weekly'],
  ['keepMonthly', 'keep-monthly'],
  ['keepYearly', 'keep-yearly'],
] as const;

export const KEEP_COUNT_MAX = 100_000;
export const POLICIES_MAX = 10_000;

const DAY_MS = 86_400_000;
const UNITS_MS: readonly (readonly [string, number])[] = [
  ['y', 365 * 86_400_000],
  ['w', 7 * 86_400_000],
  ['d', 86_400_000],
  ['h', 3_600_000],
];
const PERIOD_MS_MAX = 100 * 365 * 86_400_000;

/** `36h`, `30d`, `8w`, `2y`: a year has 365 days. @throws StillpointError `usage` */
export function parseLongPeriod(what: string, text: string): number {
  const [, digits = '', unit = ''] = /^\s*(\d{1,6})\s*([hdwy])\s*$/i.exec(text) ?? [];
  const unitMs = UNITS_MS.find(([name]) => name === unit.toLowerCase())?.[1] ?? Number.NaN;
  const periodMs = Number(digits) * unitMs;
  if (digits !== '' && periodMs <= PERIOD_MS_MAX) return periodMs;
  throw new StillpointError('usage', {
    thing: `${what} ${JSON.stringify(text.slice(0, 80))}`,
    reason: digits === '' ? 'it is not a period' : 'it is longer than 100 years',
    remedy: 'Write for example 36h, 30d, 8w or 2y.',
  });
}

/** As it is written: in the largest unit that has no rest, but days up to 90. */
export function formatLongPeriod(periodMs: number): string {
  if (periodMs === 0) return '0d';
  if (periodMs % DAY_MS === 0 && periodMs <= 90 * DAY_MS) return `${periodMs / DAY_MS}d`;
  const [name, unitMs] = UNITS_MS.find(([, ms]) => periodMs % ms === 0) ?? ['h', 3_600_000];
  return `${Number((periodMs / unitMs).toFixed(2))}${name}`;
}

/** @param what names it in errors. @throws StillpointError `config` */
export function checkPolicy(what: string, policy: RetentionPolicy): RetentionPolicy {
  const refuse = (reason: string) =>
    new StillpointError('config', {
      thing: what,
      reason,
      remedy: 'Give at least one rule, such as --keep-last 3 or --keep-daily 7, or --keep-all alone.',
    });
  const counts = COUNT_RULES.map(([key, name]) => [name, policy[key]] as const);
  for (const [name, count] of counts) {
    if (count === undefined || (Number.isInteger(count) && count >= 1 && count <= KEEP_COUNT_MAX)) continue;
    throw refuse(`${name} is ${count}, which is not a whole number from 1 to ${KEEP_COUNT_MAX}`);
  }
  const { keepWithinMs, keepAll } = policy;
  if (keepWithinMs !== undefined && !(keepWithinMs > 0 && keepWithinMs <= PERIOD_MS_MAX))
    throw refuse('keep-within is not a period from an hour to 100 years');
  const ruleCount = counts.filter(([, count]) => count !== undefined).length + (keepWithinMs ? 1 : 0);
  if (keepAll === true && ruleCount > 0)
    throw refuse('keep-all is given with rules, which then mean nothing');
  if (keepAll !== true && ruleCount === 0) throw refuse('it has no rule, and so would keep nothing');
  return policy;
}

/**
 * An agent that commits very many points pushes the earlier ones out of such a policy. Calendar periods and
 * ages go by the receiver's clock, so it can't hurry them.
 */
export function countsPointsOnly(policy: RetentionPolicy): boolean {
  const others = COUNT_RULES.filter(([key]) => key !== 'keepLast' && policy[key] !== undefined);
  return policy.keepLast !== undefined && others.length === 0 && policy.keepWithinMs === undefined;
}

/** As on the command line, for people. */
export function describePolicy(policy: RetentionPolicy): string {
  if (policy.keepAll === true) return 'keep-all';
  const counts = COUNT_RULES.flatMap(([key, name]) =>
    policy[key] === undefined ? [] : [`${name} ${policy[key]}`],
  );
  const { keepWithinMs } = policy;
  return [
    ...counts,
    ...(keepWithinMs === undefined ? [] : [`keep-within ${formatLongPeriod(keepWithinMs)}`]),
  ].join(', ');
}

/** The one that counts for a device; null: everything is kept. */
export function policyFor(
  policies: readonly ScopedPolicy[],
  key: { readonly agent: string; readonly device: string },
): ScopedPolicy | null {
  return nearestTo(policies, key);
}

/** Of the device, of its agent, of all others. */
export function nearestTo<T extends PolicyScope>(
  entries: readonly T[],
  key: { readonly agent: string; readonly device: string },
): T | null {
  const of = (agent: string | null, device: string | null) =>
    entries.find((entry) => entry.agent === agent && entry.device === device);
  return of(key.agent, key.device) ?? of(key.agent, null) ?? of(null, null) ?? null;
}

export function scopeName({ agent, device }: PolicyScope): string {
  if (agent === null) return 'all others';
  return device === null ? `agent ${agent}` : `${agent}/${device}`;
}
