/** What a backup resulted in, for people and for programs: of a device, or of a group. */
import type { BackupResult } from '../../agent/backup/options.js';
import { failureOf, failureText } from '../../agent/common/failure.js';
import type { GroupBackupResult } from '../../agent/group/options.js';
import type { OrderFailure } from '../../domain/order/order.js';
import { type PointGroup, pointLabel } from '../../domain/point/point.js';
import { sentAgain } from './agent-progress.js';
import { formatBytes, formatDuration, formatInstant } from './format.js';
import { leftOutLines } from './left-out.js';

export type Told = Pick<BackupResult, 'point' | 'warnings' | 'wireBytes' | 'tracking'> & {
  readonly base: { readonly start: string; readonly reason: string };
};

export function backupJson({ point, warnings, wireBytes, base, tracking }: Told): object {
  return { point, warnings, wireBytes, base: { start: base.start, reason: base.reason }, tracking };
}

export function backupLines({ point, wireBytes, base, tracking }: Told): string[] {
  const { changedBytes, durationMs } = point.statistics;
  const rate = durationMs === 0 ? '' : ` (${formatBytes((point.geometry.sizeBytes * 1000) / durationMs)}/s)`;
  const basis =
    point.baseSequence === null
      ? `everything that is not zero: ${base.reason}`
      : `what differs from ${pointLabel({ device: point.device, sequence: point.baseSequence })}`;
  return [
    `${pointLabel(point)}: committed, ${point.kind}, ${formatInstant(point.instant)}`,
    `  shipped  ${basis}`,
    ...(tracking === null
      ? []
      : [`  read     ${tracking.used ? 'what its map names' : 'everything'}: ${tracking.reason}`]),
    ...leftOutLines(point).map((text) => `  left out ${text}`),
    ...sentAgain(point.providerFacts).map((text) => `  again    ${text}`),
    `  size     ${formatBytes(point.geometry.sizeBytes)} in ${formatDuration(durationMs)}${rate}`,
    `  changed  ${formatBytes(changedBytes)}, on the wire ${formatBytes(wireBytes)}, stored ${formatBytes(point.storedBytes)}`,
  ];
}

export interface ToldGroup {
  readonly group: PointGroup;
  readonly members: readonly Told[];
  readonly leftOut: readonly (OrderFailure & { readonly device: string })[];
}

export function toldGroup({ group, results, leftOut }: GroupBackupResult): ToldGroup {
  return {
    ...{ group, members: results },
    leftOut: leftOut.map(({ device, error }) => ({ device, ...failureOf(error) })),
  };
}

export function groupJson({ group, members, leftOut }: ToldGroup): object {
  return { group, members: members.map(backupJson), leftOut };
}

export function groupLines({ group, members, leftOut }: ToldGroup): string[] {
  const points = members.map(({ point }) => pointLabel(point)).join(', ');
  const [first] = members;
  const what = first === undefined ? '' : `, ${first.point.kind}, ${formatInstant(first.point.instant)}`;
  return [
    `${groupLabel(group)}: committed${what}: ${points}`,
    ...leftOut.map((each) => `  left out ${each.device}, ${failureText(each)}`),
    ...members.flatMap(backupLines),
  ];
}

export function groupLabel({ name, sequence }: PointGroup): string {
  return pointLabel({ device: name, sequence });
}

export function hasWarnings(told: Told | ToldGroup): boolean {
  if (!('group' in told)) return told.warnings.length > 0;
  return told.leftOut.length > 0 || told.members.some(hasWarnings);
}
