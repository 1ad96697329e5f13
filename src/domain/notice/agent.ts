/** What is not well at an agent, by what is known of it at one moment. Pure. */
import { describeTime } from './describe.js';
import type { Condition } from './events.js';

export interface KnownOwnDevice {
  readonly device: string;
  /** Why its last runs failed, a clause; null: they did not. */
  readonly failure: string | null;
  /** A run goes on, or it is tried again soon. */
  readonly isOpen: boolean;
  /** The instant of its last point; null: none that this agent made. */
  readonly lastPointMs: number | null;
  /** 0: never, and without a schedule. */
  readonly staleAfterMs: number;
}

export interface AgentKnown {
  readonly nowMs: number;
  /** Those that are to be backed up now. */
  readonly devices: readonly KnownOwnDevice[];
  /** By address, why they do not answer, a clause; null: they do. */
  readonly receivers: ReadonlyMap<string, string | null>;
  readonly journals: readonly KnownJournal[];
}

export interface KnownJournal {
  /** `data at https://backup1`: what it is of, and where it goes. */
  readonly subject: string;
  /** Null: it is not. */
  readonly brokenMs: number | null;
  /** For how long writes have waited to be shipped; null: not known. */
  readonly lagMs: number | null;
  /** What is wrong, a clause; null: nothing. */
  readonly problem: string | null;
}

const UNREACHABLE_AFTER_MS = 15 * 60_000;
const BROKEN_AFTER_MS = 60 * 60_000;
const BEHIND_AFTER_MS = 15 * 60_000;

export function agentConditions({ nowMs, devices, receivers, journals }: AgentKnown): Condition[] {
  const conditions: Condition[] = [];
  for (const { device, failure, isOpen, lastPointMs, staleAfterMs } of devices) {
    if (failure !== null) conditions.push({ event: 'backup-failed', subject: device, text: failure, isOpen });
    if (staleAfterMs === 0) continue;
    if (lastPointMs === null)
      conditions.push({
        ...{ event: 'device-stale', subject: device, text: 'it has no point yet', afterMs: staleAfterMs },
      });
    else if (nowMs - lastPointMs > staleAfterMs)
      conditions.push({
        ...{ event: 'device-stale', subject: device },
        text: `its last point is of ${describeTime(lastPointMs)}`,
      });
  }
  for (const [url, problem] of receivers)
    if (problem !== null)
      conditions.push({
        ...{ event: 'receiver-unreachable', subject: url, text: problem },
        afterMs: UNREACHABLE_AFTER_MS,
      });
  conditions.push(...journals.flatMap((journal) => conditionsOf(journal, nowMs)));
  return conditions;
}

function conditionsOf({ subject, brokenMs, lagMs, problem }: KnownJournal, nowMs: number): Condition[] {
  const conditions: Condition[] = [];
  if (brokenMs !== null && nowMs - brokenMs > BROKEN_AFTER_MS)
    conditions.push({ event: 'journal-broken', subject, text: problem ?? 'it is broken' });
  if (lagMs !== null && lagMs > BEHIND_AFTER_MS) {
    const since = `nothing that was written since ${describeTime(nowMs - lagMs)} is at the receiver`;
    const why = brokenMs === null && problem !== null ? `, because ${problem}` : '';
    conditions.push({ event: 'journal-behind', subject, text: since + why });
  }
  return conditions;
}
