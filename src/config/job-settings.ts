/** What devices and groups have alike: when they are backed up, and how all comes to rest for the instant. */
import type { AnnounceWish } from '../domain/device/announce-wish.js';
import type { Schedule } from '../domain/order/schedule.js';
import type { RateSchedule } from '../domain/session/rate-limit.js';
import type { DeviceEntry } from './schema/device.js';
import type { GroupEntry } from './schema/group.js';
import type { Origin } from './toml/parse.js';

export interface JobSettings {
  readonly origin: Origin;
  readonly enabled: boolean;
  /** Null: only on demand. */
  readonly schedule: Schedule | null;
  readonly randomDelayMs: number;
  readonly retriesMax: number;
  readonly fullEveryMs: number | null;
  /** When its last point is too old; 0: never. */
  readonly staleAfterMs: number;
  /** Of its scheduled backups; at most one of the two. */
  readonly receiver: string | null;
  readonly store: string | null;
  readonly limitRate: RateSchedule | null;
  /** Absolute. */
  readonly hooks: readonly string[];
  readonly freeze: 'auto' | 'none' | readonly string[];
  readonly freezeDeadlineMs: number | null;
  readonly hookDeadlineMs: number | null;
  readonly quiet: { readonly quietMs: number; readonly deadlineMs: number } | null;
  readonly announce: AnnounceWish | null;
}

/** Keys that both have. */
type JobEntry = Pick<DeviceEntry, keyof DeviceEntry & Exclude<keyof GroupEntry, 'name'>>;

/** @param of the value of a key that applies */
export function jobSettings(
  of: <K extends keyof JobEntry>(key: K) => JobEntry[K],
): Omit<JobSettings, 'origin' | 'receiver' | 'store' | 'limitRate'> {
  const quietMs = of('quiet');
  const program = of('announce');
  return {
    enabled: of('enabled'),
    schedule: of('schedule'),
    randomDelayMs: of('random-delay'),
    retriesMax: of('retries'),
    fullEveryMs: of('full-every'),
    staleAfterMs: of('stale-after'),
    hooks: of('hooks'),
    freeze: of('freeze'),
    freezeDeadlineMs: of('freeze-deadline'),
    hookDeadlineMs: of('hook-deadline'),
    quiet: quietMs === null ? null : { quietMs, deadlineMs: of('quiet-deadline') },
    announce:
      program === null ? null : { program, graceMs: of('grace'), isRequired: of('announce-required') },
  };
}
