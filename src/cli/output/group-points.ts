/** Group points as commands show them. */
import {
  asNamed,
  type BrokenGroupPoint,
  type GroupPoint,
  isPart,
  partText,
} from '../../domain/point/group.js';
import { pointName } from '../../domain/point/point-ref.js';
import { formatCount, formatInstant, formatTable } from './format.js';

const COLUMNS = ['GROUP POINT', 'INSTANT', 'KIND', 'MEMBERS', 'MISSING', 'ID'].map((title) => ({ title }));

/** For programs: its points by their ids. */
export function groupView(group: GroupPoint): object {
  const { name, sequence, id, agent, instant, kind, memberCount, missing, points } = group;
  return {
    ...{ name, sequence, id, agent, instant, kind, memberCount, missing },
    points: points.map((point) => point.id),
  };
}

/** @param own as of `pointName` */
export function groupTable(groups: readonly GroupPoint[], own: string | null): string[] {
  if (groups.length === 0) return [];
  return formatTable(
    COLUMNS,
    groups.map((group) => [
      pointName(asNamed(group), own),
      formatInstant(group.instant),
      group.kind,
      membersOf(group),
      group.missing.length === 0 ? '-' : group.missing.join(', '),
      group.id.slice(0, 12),
    ]),
  );
}

function membersOf(group: GroupPoint): string {
  const names = group.points.map((point) => pointName(point, group.agent)).join(', ');
  return isPart(group) ? `${names} (${partText(group)})` : names;
}

export function brokenLines(groups: readonly BrokenGroupPoint[], own: string | null): string[] {
  return groups.map((group) => {
    const { memberCount, points } = group;
    const left = points.map((point) => pointName(point, own)).join(', ');
    return `${pointName(asNamed(group), own)}: not whole any more: of ${formatCount(memberCount, 'point')} only ${left} ${points.length === 1 ? 'is' : 'are'} left`;
  });
}
