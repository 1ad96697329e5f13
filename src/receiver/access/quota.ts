/**
 * What an agent may take of a receiver, and whether it may take more. The defaults only protect memory and
 * disk. Pure.
 *
 * Stored bytes of an agent: what its points' sessions added to the store when they were committed
 * (`storedBytes` of each point), what its sessions without a point delivered, and its journals. A block that
 * two agents have counts for the one that sent it first; a point that is removed no longer counts, even if
 * later points still need a part of it.
 */
import { StillpointError } from '../../domain/base/errors.js';
import {
  AGENT_DEVICES_MAX,
  AGENT_POINTS_MAX,
  AGENT_REQUESTS_PER_SECOND,
  SESSIONS_PER_AGENT_MAX,
} from '../../domain/base/limits.js';

/** Null: no limit. */
export interface Quota {
  readonly storedBytes: number | null;
  readonly points: number | null;
  /** Names of devices that it has ever used here. */
  readonly devices: number | null;
  /** Open at once. */
  readonly sessions: number | null;
  /** In. */
  readonly bytesPerSecond: number | null;
  readonly requestsPerSecond: number | null;
}
export type QuotaChange = { readonly [Name in keyof Quota]?: Quota[Name] | undefined };

export const QUOTA_DEFAULT: Quota = {
  storedBytes: null,
  points: AGENT_POINTS_MAX,
  devices: AGENT_DEVICES_MAX,
  sessions: SESSIONS_PER_AGENT_MAX,
  bytesPerSecond: null,
  requestsPerSecond: AGENT_REQUESTS_PER_SECOND,
};

/** What an agent has taken. */
export interface QuotaUse {
  readonly storedBytes: number;
  readonly points: number;
  readonly devices: number;
  readonly sessions: number;
}

const WHAT: Readonly<Record<keyof QuotaUse, string>> = {
  storedBytes: 'bytes in the store',
  points: 'points',
  devices: 'names of devices',
  sessions: 'open sessions',
};

/**
 * @param more what is to be added
 * @throws StillpointError `quota`
 */
export function checkQuota(agent: string, quota: Quota, used: QuotaUse, more: Partial<QuotaUse>): void {
  for (const name of Object.keys(WHAT) as (keyof QuotaUse)[]) {
    const most = quota[name];
    const added = more[name] ?? 0;
    if (most === null || added === 0 || used[name] + added <= most) continue;
    throw new StillpointError('quota', {
      thing: `agent ${agent}`,
      reason: `it has ${used[name]} ${WHAT[name]}, and may have ${most}`,
      remedy:
        name === 'sessions'
          ? 'Wait until one of its backups has ended.'
          : `On the receiver, remove points that are not needed, or see "stillpoint receiver quota show ${agent}".`,
      // Its other backups end by themselves.
      permanent: name !== 'sessions',
    });
  }
}
