/** What is known of a receiver at one moment: for metrics, and for what is told if it is not well. */
import { X509Certificate } from 'node:crypto';
import { type StoredJournal, stampMs } from '../../domain/journal/journal.js';
import type {
  KnownAgent,
  KnownDevice,
  KnownGroup,
  KnownJournals,
  KnownRoom,
  KnownRound,
  ReceiverKnown,
} from '../../domain/notice/receiver.js';
import { type Point, pointsByDevice } from '../../domain/point/point.js';
import { type DeviceUsage, usageByDevice } from '../../domain/usage/devices.js';
import { daysLeft, type GrowthRate, growthRate } from '../../domain/usage/growth.js';
import type { Store } from '../../store/port/store.js';
import type { ScrubStatus } from '../../store/port/upkeep.js';
import type { Tenants } from '../access/tenants.js';
import type { Groups } from '../groups/groups.js';
import type { GroupView } from '../groups/views.js';
import type { OrderBook } from '../orders/orders.js';
import { readLastRound } from '../orders/remote-settings.js';
import type { RoundsSource } from '../orders/rounds-source.js';
import type { Heard } from './heard.js';

export interface DeviceFacts extends KnownDevice {
  readonly usage: DeviceUsage;
  readonly lastPoint: Point;
  /** In a row, as the agent last told; null: it told nothing. */
  readonly failures: number | null;
  readonly damagedPoints: number;
}

export interface AgentFacts extends KnownAgent {
  readonly certificateExpiresMs: number;
}

export interface RoomFacts extends KnownRoom {
  readonly reserveBytes: number;
}

export interface GroupFacts extends KnownGroup {
  readonly view: GroupView;
}

export interface JournalFacts extends KnownJournals {
  /** Of the last record, by its host's clock; null: there is none. */
  readonly lastMs: number | null;
  readonly sizeBytes: number;
  readonly endedCount: number;
  readonly wrongCount: number;
}

export interface ReceiverFacts extends ReceiverKnown {
  readonly groups: readonly GroupFacts[];
  readonly devices: readonly DeviceFacts[];
  readonly journals: readonly JournalFacts[];
  readonly agents: readonly AgentFacts[];
  readonly room: RoomFacts | null;
  readonly growth: GrowthRate | null;
  /** Null: the store is not this process's. */
  readonly scrub: ScrubStatus | null;
  readonly openSessions: number;
}

export interface FactsSource {
  readonly dir: string;
  readonly store: Store;
  readonly tenants: Tenants;
  readonly orders: OrderBook;
  readonly rounds: RoundsSource;
  readonly groups: Pick<Groups, 'views'>;
  readonly heard: Heard;
  readonly scrubStatus: () => Promise<ScrubStatus>;
  readonly problems: ReadonlyMap<string, string>;
  readonly now: () => Date;
}

export async function receiverFacts(source: FactsSource): Promise<ReceiverFacts> {
  const { store, now, problems } = source;
  const nowMs = now().getTime();
  const points = await store.points({});
  const damaged = await store.pointDamage({});
  const growth = growthRate(points, nowMs);
  const room = (await store.upkeep?.room()) ?? null;
  const left = room && growth && daysLeft(growth, room.freeBytes - room.reserveBytes);
  return {
    nowMs,
    devices: deviceFacts(
      points,
      damaged.map(({ point }) => point),
      source,
      nowMs,
    ),
    journals: journalFacts(await store.journals.list({})),
    agents: agentFacts(points, source),
    rounds: await roundFacts(source),
    groups: (await source.groups.views(null)).map((view) => ({
      ...{ group: view.group.name, view },
      lastPointMs: view.lastPoint === null ? null : Date.parse(view.lastPoint.committedAt),
    })),
    room: room && { ...room, daysLeft: left },
    growth,
    scrub: store.upkeep === null ? null : await source.scrubStatus(),
    openSessions: store.captures().length,
    damagedPoints: damaged.map(({ point }) => `${point.agent}/${point.device}@${point.sequence}`),
    problems: new Map(problems),
  };
}

function deviceFacts(
  points: readonly Point[],
  damaged: readonly Point[],
  { orders }: FactsSource,
  nowMs: number,
): DeviceFacts[] {
  const byDevice = pointsByDevice(points);
  return usageByDevice(points, nowMs).flatMap((usage) => {
    const { agent, device } = usage;
    // By sequence, as the store lists them.
    const lastPoint = byDevice.get(`${agent}/${device}`)?.at(-1);
    if (lastPoint === undefined) return [];
    const plan = orders.presence(agent).plans.find((each) => each.device === device);
    return {
      ...{ agent, device, usage, lastPoint, lastPointMs: Date.parse(lastPoint.committedAt) },
      failures: plan?.failures ?? null,
      damagedPoints: damaged.filter((point) => point.agent === agent && point.device === device).length,
    };
  });
}

/** @param journals by device */
function journalFacts(journals: readonly StoredJournal[]): JournalFacts[] {
  const byDevice = new Map<string, StoredJournal[]>();
  for (const journal of journals) {
    const key = `${journal.agent}/${journal.device}`;
    byDevice.set(key, [...(byDevice.get(key) ?? []), journal]);
  }
  return [...byDevice.values()].flatMap((ofDevice) => {
    const [first] = ofDevice;
    if (first === undefined) return [];
    const faults = ofDevice.flatMap(({ audits }) => audits.flatMap(({ fault }) => fault ?? []));
    const times = ofDevice.flatMap(({ last }) => (last === null ? [] : [stampMs(last.stamp)]));
    return {
      ...{ agent: first.agent, device: first.device, fault: faults.at(-1) ?? null },
      lastMs: times.length === 0 ? null : Math.max(...times),
      sizeBytes: ofDevice.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0),
      endedCount: ofDevice.filter(({ end }) => end !== null).length,
      wrongCount: faults.length,
    };
  });
}

function agentFacts(points: readonly Point[], { tenants, orders, heard }: FactsSource): AgentFacts[] {
  const lastPointMs = new Map<string, number>();
  for (const { agent, committedAt } of points)
    lastPointMs.set(agent, Math.max(lastPointMs.get(agent) ?? 0, Date.parse(committedAt)));
  return tenants.all().flatMap(({ name: agent, certificate, enrolledAt, revoked }) => {
    if (revoked !== undefined) return [];
    const { isConnected, lastSeenMs } = orders.presence(agent);
    const times = [lastSeenMs, heard.lastMs(agent), lastPointMs.get(agent) ?? 0, Date.parse(enrolledAt)];
    return {
      ...{ agent, isConnected, lastHeardMs: Math.max(...times) },
      certificateExpiresMs: Date.parse(new X509Certificate(certificate).validTo),
    };
  });
}

async function roundFacts({ dir, rounds }: FactsSource): Promise<KnownRound[]> {
  const known: KnownRound[] = [];
  for (const { name } of await rounds.schedules()) {
    const last = await readLastRound(dir, name);
    if (last === null || last.endedAt === null || last.summary === null) continue;
    const { failed, skipped } = last.summary;
    known.push({ schedule: name, endedMs: Date.parse(last.endedAt), failed, skipped });
  }
  return known;
}
