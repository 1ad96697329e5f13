/** `[retention]`: what the receiver keeps, and for how long. */
import { zoneCalendar } from '../../domain/retention/calendar.js';
import {
  checkPolicy,
  KEEP_COUNT_MAX,
  POLICIES_MAX,
  parseLongPeriod,
  type RetentionPolicy,
} from '../../domain/retention/policy.js';
import {
  JOURNAL_KEEP_MS_MAX,
  type ManagedRetention,
  MIN_AGE_MS_MAX,
} from '../../domain/retention/settings.js';
import { type Fields, optional, parsedBy, preset, required, type Settings } from './kinds.js';
import { flag, nameOf, wholeNumber } from './values.js';

const kept = (what: string, example: number) =>
  optional(wholeNumber(1, KEEP_COUNT_MAX), {
    about: `Keep the last point of each of so many ${what}.`,
    ...{ allowed: `a number from 1 to ${KEEP_COUNT_MAX}`, example, otherwise: 'not a rule' },
  });

const scopeFields = {
  agent: optional(nameOf('agent name'), {
    about: 'Whose devices it is for.',
    ...{
      allowed: 'the name of an agent',
      example: 'web1',
      otherwise: 'all that have no policy of their own',
    },
  }),
  device: optional(nameOf('device name'), {
    about: 'The one device of the agent that it is for.',
    ...{ allowed: 'the name of a device', example: 'data', otherwise: 'all of the agent' },
  }),
} satisfies Fields;

const policyFields = {
  ...scopeFields,
  'keep-last': optional(wholeNumber(1, KEEP_COUNT_MAX), {
    about: 'Keep so many last points.',
    ...{ allowed: `a number from 1 to ${KEEP_COUNT_MAX}`, example: 10, otherwise: 'not a rule' },
  }),
  'keep-hourly': kept('hours', 48),
  'keep-daily': kept('days', 7),
  'keep-weekly': kept('weeks', 8),
  'keep-monthly': kept('months', 12),
  'keep-yearly': kept('years', 5),
  'keep-within': optional(
    parsedBy((text) => parseLongPeriod('period', text)),
    {
      about: 'Keep all points younger than this.',
      ...{ allowed: 'a period, as "36h", "30d", "8w" or "2y"', example: '30d', otherwise: 'not a rule' },
    },
  ),
  'keep-all': preset(flag, {
    about: 'Keep everything, whatever the policy of the agent or of all others says.',
    ...{ allowed: 'true or false', preset: false, example: true },
  }),
} satisfies Fields;

const minAge = parsedBy((text) => parseLongPeriod('period', text)).refine(
  (periodMs) => periodMs <= MIN_AGE_MS_MAX,
  'it is longer than ten years',
);

const journalKeep = parsedBy((text) => parseLongPeriod('period', text)).refine(
  (periodMs) => periodMs > 0 && periodMs <= JOURNAL_KEEP_MS_MAX,
  'it is not between an hour and ten years',
);

const journalFields = {
  ...scopeFields,
  keep: required(journalKeep, {
    about: 'For how long every second can be restored.',
    ...{ allowed: 'a period from "1h" to ten years', example: '48h' },
  }),
} satisfies Fields;

export const receiverRetention = {
  retention: {
    kind: 'table',
    about: 'What is kept: docs/retention.md. If anything is said here, `retention set` refuses to.',
    fields: {
      'min-age': optional(minAge, {
        about:
          'Younger points can not be removed by anyone. A lower one counts after the present one has passed.',
        ...{ allowed: 'a period up to ten years, as "14d"', example: '14d', otherwise: 'none' },
      }),
      'time-zone': optional(
        parsedBy((text) => {
          zoneCalendar(text);
          return text;
        }),
        {
          about: 'Whose hours and days count.',
          ...{ allowed: 'the name of a time zone', example: 'Europe/Berlin' },
          otherwise: 'as it was set first, else that of the machine',
        },
      ),
      policy: {
        kind: 'list',
        about: 'Rules for a device, an agent or all others. The nearest policy counts alone.',
        most: POLICIES_MAX,
        fields: policyFields,
      },
      journal: {
        kind: 'list',
        about:
          'How long the journals of a device, an agent or all others are kept; 24 hours where nothing is said.',
        most: POLICIES_MAX,
        fields: journalFields,
      },
    },
  },
} satisfies Fields;

type PolicySettings = Settings<typeof policyFields>;
type ScopeSettings = Settings<typeof scopeFields>;

/** What is wrong with whom an entry is for, as a clause; null: nothing. */
export function scopeFault(written: ScopeSettings, before: readonly ScopeSettings[]): string | null {
  if (written.device !== null && written.agent === null) return 'it names a device, and not its agent';
  const isSame = ({ agent, device }: ScopeSettings) => agent === written.agent && device === written.device;
  return before.some(isSame) ? 'another one is for the same' : null;
}

/** What is wrong with a policy as a whole. */
export function policyFault(written: PolicySettings, before: readonly PolicySettings[]): string | null {
  const fault = scopeFault(written, before);
  if (fault !== null) return fault;
  try {
    checkPolicy('policy', policyOf(written));
    return null;
  } catch (error) {
    return (error as { reason?: string }).reason ?? String(error);
  }
}

export function managedRetention({
  policy,
  journal,
  ...of
}: Settings<typeof receiverRetention.retention.fields>): ManagedRetention {
  return {
    policies: policy.map((written) => ({
      ...{ agent: written.agent, device: written.device, policy: policyOf(written) },
    })),
    ...(journal.length === 0
      ? {}
      : { journalKeep: journal.map(({ agent, device, keep }) => ({ agent, device, keepMs: keep })) }),
    ...(of['time-zone'] === null ? {} : { timeZone: of['time-zone'] }),
    ...(of['min-age'] === null ? {} : { minAgeMs: of['min-age'] }),
  };
}

function policyOf(written: PolicySettings): RetentionPolicy {
  if (written['keep-all']) return { keepAll: true, ...countsOf(written) };
  return countsOf(written);
}

function countsOf(written: PolicySettings): RetentionPolicy {
  const rules = {
    keepLast: written['keep-last'],
    keepHourly: written['keep-hourly'],
    keepDaily: written['keep-daily'],
    keepWeekly: written['keep-weekly'],
    keepMonthly: written['keep-monthly'],
    keepYearly: written['keep-yearly'],
    keepWithinMs: written['keep-within'],
  };
  return Object.fromEntries(Object.entries(rules).filter(([, value]) => value !== null));
}
