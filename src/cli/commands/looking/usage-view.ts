/** What `usage` shows to people. docs/usage.md defines each figure. */
import type { DeviceUsage } from '../../../domain/usage/devices.js';
import type { GrowthPeriod, GrowthRate } from '../../../domain/usage/growth.js';
import type { NeededBytes } from '../../../store/usage/needed.js';
import type { Portion } from '../../../store/usage/owner-table.js';
import type { StoreSizes } from '../../../store/usage/sizes.js';
import { type Column, formatBytes, formatCount, formatInstant, formatTable } from '../../output/format.js';

export interface StoreUsage extends StoreSizes {
  /** Of all points. */
  readonly fullBytes: number;
  readonly rate: GrowthRate | null;
  /** Null: too little history, or no end is in sight. */
  readonly daysLeft: number | null;
}

export interface Usage {
  /** Agent or device that was asked for; null: all. */
  readonly name: string | null;
  readonly devices: readonly DeviceUsage[];
  readonly growth: { readonly periodDays: number; readonly periods: readonly GrowthPeriod[] };
  /** Of these devices. */
  readonly rate: GrowthRate | null;
  /** Of unfinished backups. */
  readonly partialBytes: number;
  /** Null over the network. */
  readonly store: StoreUsage | null;
  /** Null without `--exact`. */
  readonly needed: NeededBytes | null;
}

export function usageLines(usage: Usage): string[] {
  const { devices, store, needed } = usage;
  if (devices.length === 0) return ['There are no points.', ...(store === null ? [] : storeLines(usage))];
  return [
    ...formatTable(deviceColumns(needed !== null), deviceRows(usage)),
    ...growthLines(usage),
    ...(needed === null ? [] : neededLines(usage, needed)),
    ...(store === null ? [] : storeLines(usage)),
  ];
}

function deviceColumns(isExact: boolean): Column[] {
  return [
    { title: 'DEVICE' },
    { title: 'POINTS', align: 'right' },
    { title: 'SIZE', align: 'right' },
    { title: 'AS IMAGES', align: 'right' },
    { title: 'ADDED', align: 'right' },
    { title: 'PER WEEK', align: 'right' },
    ...(isExact ? [{ title: 'UNIQUE', align: 'right' } as const] : []),
  ];
}

function deviceRows({ devices, needed, name }: Usage): string[][] {
  const rows = devices.map(({ agent, device, pointCount, sizeBytes, fullBytes, addedBytes, rate }) => [
    `${agent}/${device}`,
    ...[String(pointCount), formatBytes(sizeBytes), formatBytes(fullBytes), formatBytes(addedBytes)],
    perWeek(rate),
    ...(needed === null ? [] : [portion(uniqueOf(needed, agent, device))]),
  ]);
  if (devices.length < 2) return rows;
  const sum = (of: (device: DeviceUsage) => number) => devices.reduce((total, one) => total + of(one), 0);
  return [
    ...rows,
    [
      name === null ? 'all' : `all of ${name}`,
      String(sum(({ pointCount }) => pointCount)),
      formatBytes(sum(({ sizeBytes }) => sizeBytes)),
      formatBytes(sum(({ fullBytes }) => fullBytes)),
      formatBytes(sum(({ addedBytes }) => addedBytes)),
    ],
  ];
}

function uniqueOf({ devices }: NeededBytes, agent: string, device: string): Portion {
  return (
    devices.find((one) => one.agent === agent && one.device === device)?.unique ?? {
      ...{ bytes: 0, errorBytes: 0 },
    }
  );
}

function growthLines({ growth: { periodDays, periods } }: Usage): string[] {
  if (periods.length === 0) return [];
  const columns: Column[] = [
    { title: `${periodDays} DAYS FROM` },
    { title: 'POINTS', align: 'right' },
    { title: 'ADDED', align: 'right' },
    { title: 'BY FIRST POINTS', align: 'right' },
  ];
  const rows = periods.map(({ startAt, pointCount, addedBytes, firstBytes }) => [
    formatInstant(startAt),
    ...[String(pointCount), formatBytes(addedBytes), firstBytes === 0 ? '-' : formatBytes(firstBytes)],
  ]);
  return ['', ...formatTable(columns, rows)];
}

function neededLines({ store, partialBytes }: Usage, needed: NeededBytes): string[] {
  const { agents, sharedByAgents, total, scale, lostCount } = needed;
  const restBytes = Math.max(0, (store?.packBytes ?? 0) - total.bytes);
  return [
    '',
    ...agents.map(
      ({ agent, unique, shared }) =>
        `Needed by agent ${agent} alone: ${portion(unique)}, of which ${portion(shared)} by several of its devices`,
    ),
    `Needed by several agents: ${portion(sharedByAgents)}`,
    `Needed by points: ${portion(total)}; other content of packs: ${formatBytes(restBytes)}, ` +
      `of which unfinished backups keep at most ${formatBytes(partialBytes)}`,
    ...(scale === 1
      ? []
      : [
          `These figures are estimates from 1 record in ${scale}; after ± is the error that 19 of 20 estimates stay within.`,
        ]),
    ...(lostCount === 0
      ? []
      : [
          `${formatCount(lostCount, 'record')} can't be read, so the figures are too low. Run "stillpoint verify".`,
        ]),
  ];
}

function storeLines({ store, partialBytes }: Usage): string[] {
  if (store === null) return [];
  const { packCount, packBytes, indexBytes, manifestBytes, openBytes, journalBytes } = store;
  const { freeBytes, reserveBytes, fullBytes } = store;
  const total = packBytes + indexBytes + manifestBytes + openBytes + journalBytes;
  return [
    '',
    `Store: ${formatBytes(total)}: ${formatCount(packCount, 'pack')} ${formatBytes(packBytes)}, index ${formatBytes(indexBytes)}, ` +
      `manifests ${formatBytes(manifestBytes)}, open sessions ${formatBytes(openBytes)}` +
      (journalBytes === 0 ? '' : `, journals ${formatBytes(journalBytes)}`),
    `Unfinished backups keep ${formatBytes(partialBytes)}`,
    ...(packBytes === 0
      ? []
      : [
          `All points as images: ${formatBytes(fullBytes)}, ${(fullBytes / packBytes).toFixed(1)} times what their packs take`,
        ]),
    `Free: ${formatBytes(freeBytes)}, of which ${formatBytes(reserveBytes)} stay in reserve`,
    timeLeft(store),
  ];
}

function timeLeft({ rate, daysLeft }: StoreUsage): string {
  if (rate === null) return 'Time left: unknown, as there are too few points or they are of less than 7 days';
  const basis =
    `${formatBytes(rate.bytesPerDay)} a day, by the ${formatCount(rate.pointCount, 'point')} of the last ${formatCount(rate.days, 'day')}, ` +
    'first points left out';
  return daysLeft === null
    ? `Time left: more than ten years at ${basis}`
    : `Time left: about ${formatCount(daysLeft, 'day')} if nothing is removed, at ${basis}`;
}

function perWeek(rate: GrowthRate | null): string {
  return rate === null ? '-' : formatBytes(rate.bytesPerDay * 7);
}

function portion({ bytes, errorBytes }: Portion): string {
  return errorBytes === 0 ? formatBytes(bytes) : `${formatBytes(bytes)} ± ${formatBytes(errorBytes)}`;
}
