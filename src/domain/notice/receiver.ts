/** What is not well at a receiver, by what is known of it at one moment. Pure. */
import { describeBytes, describeTime } from './describe.js';
import type { Condition } from './events.js';

export interface KnownDevice {
  readonly agent: string;
  readonly device: string;
  /** Of its last point, by the receiver's clock. */
  readonly lastPointMs: number;
}

export interface KnownAgent {
  readonly agent: string;
  readonly isConnected: boolean;
  /** Enrolled, heard, or a point made: the last of these. */
  readonly lastHeardMs: number;
}

export interface KnownRound {
  readonly schedule: string;
  readonly endedMs: number;
  readonly failed: number;
  readonly skipped: number;
}

/** Over several hosts. */
export interface KnownGroup {
  readonly group: string;
  /** Of its last group point; null: it has none. */
  readonly lastPointMs: number | null;
}

/** Of a device. */
export interface KnownJournals {
  readonly agent: string;
  readonly device: string;
  /** What an audit found, of the latest journal that is wrong; null: none is. */
  readonly fault: string | null;
}

export interface KnownRoom {
  readonly freeBytes: number;
  /** Null: not known. */
  readonly daysLeft: number | null;
}

export interface ReceiverKnown {
  readonly nowMs: number;
  readonly devices: readonly KnownDevice[];
  /** Those that may connect. */
  readonly agents: readonly KnownAgent[];
  readonly rounds: readonly KnownRound[];
  readonly groups: readonly KnownGroup[];
  readonly journals: readonly KnownJournals[];
  readonly room: KnownRoom | null;
  /** `AGENT/DEVICE@SEQUENCE` */
  readonly damagedPoints: readonly string[];
  /** What the receiver could not do for itself, by what it is. */
  readonly problems: ReadonlyMap<string, string>;
}

export interface ReceiverLimits {
  /** 0: never. */
  readonly staleAfterMs: number;
  /** Null names: all. The last that fits counts. */
  readonly staleOf: readonly {
    readonly agent: string;
    readonly device: string | null;
    readonly afterMs: number;
  }[];
  /** 0: never. */
  readonly silentAfterMs: number;
  readonly spaceBelowBytes: number | null;
  /** 0: never. */
  readonly daysLeft: number;
}

/** The nearest counts: of the device, of its agent, of all. */
export function staleAfter({ staleAfterMs, staleOf }: ReceiverLimits, agent: string, device: string): number {
  const ofAgent = staleOf.filter((each) => each.agent === agent);
  const nearest =
    ofAgent.find((each) => each.device === device) ?? ofAgent.find((each) => each.device === null);
  return nearest?.afterMs ?? staleAfterMs;
}

export function receiverConditions(known: ReceiverKnown, limits: ReceiverLimits): Condition[] {
  const { nowMs, room } = known;
  const conditions: Condition[] = [];
  for (const { agent, device, lastPointMs } of known.devices) {
    const afterMs = staleAfter(limits, agent, device);
    if (afterMs > 0 && nowMs - lastPointMs > afterMs)
      conditions.push({
        ...{ event: 'device-stale', subject: `${agent}/${device}` },
        text: `its last point is of ${describeTime(lastPointMs)}`,
      });
  }
  const { staleAfterMs } = limits;
  for (const { group, lastPointMs } of known.groups)
    if (lastPointMs !== null && staleAfterMs > 0 && nowMs - lastPointMs > staleAfterMs)
      conditions.push({
        ...{ event: 'device-stale', subject: group },
        text: `the last point of the group is of ${describeTime(lastPointMs)}`,
      });
  for (const { agent, isConnected, lastHeardMs } of known.agents)
    if (!isConnected && limits.silentAfterMs > 0 && nowMs - lastHeardMs > limits.silentAfterMs)
      conditions.push({
        ...{ event: 'agent-silent', subject: agent },
        text: `it was last heard of at ${describeTime(lastHeardMs)}`,
      });
  for (const point of known.damagedPoints)
    conditions.push({ event: 'damage', subject: point, text: 'it needs what is damaged in the store' });
  for (const { agent, device, fault } of known.journals)
    if (fault !== null)
      conditions.push({ event: 'journal-fault', subject: `${agent}/${device}`, text: fault });
  for (const { schedule, endedMs, failed, skipped } of known.rounds)
    if (failed + skipped > 0)
      conditions.push({
        ...{ event: 'round-failed', subject: schedule },
        text: `the round that ended at ${describeTime(endedMs)}: ${failed} failed, ${skipped} not reached`,
      });
  for (const [what, reason] of known.problems)
    conditions.push({ event: 'upkeep-failed', subject: what, text: reason });
  if (room !== null) conditions.push(...roomConditions(room, limits));
  return conditions;
}

function roomConditions(
  { freeBytes, daysLeft }: KnownRoom,
  { spaceBelowBytes, daysLeft: least }: ReceiverLimits,
): Condition[] {
  const conditions: Condition[] = [];
  if (spaceBelowBytes !== null && freeBytes < spaceBelowBytes)
    conditions.push({
      ...{ event: 'space-low', subject: 'store' },
      text: `${describeBytes(freeBytes)} are free, and ${describeBytes(spaceBelowBytes)} should be`,
    });
  if (daysLeft !== null && daysLeft < least)
    conditions.push({
      ...{ event: 'space-soon-low', subject: 'store' },
      text: `it is full in ${Math.floor(daysLeft)} days, with ${describeBytes(freeBytes)} free`,
    });
  return conditions;
}
