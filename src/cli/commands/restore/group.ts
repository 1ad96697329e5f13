/** `stillpoint restore GROUP NAME=TARGET...`: all points of a group point, each to its target. */
import type { RestoreOptions } from '../../../agent/restore/options.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { asNamed, type GroupPoint, isPart, partText } from '../../../domain/point/group.js';
import type { Point } from '../../../domain/point/point.js';
import { deviceName, pointName } from '../../../domain/point/point-ref.js';
import { formatCount, formatInstant } from '../../output/format.js';
import { groupView } from '../../output/group-points.js';
import type { Output } from '../../output/output.js';
import { exitCodeOf, linesOf, type Restored, viewOf } from './told.js';

export interface GroupRestore {
  readonly output: Output;
  /** As of `pointName`. */
  readonly own: string | null;
  /** What is the same for each point. */
  readonly common: Omit<RestoreOptions, 'point' | 'target'>;
}

export async function restoreGroup(
  { output, own, common }: GroupRestore,
  group: GroupPoint,
  texts: readonly string[],
): Promise<Restored[]> {
  const targets = targetsOf(group, texts, own);
  const name = pointName(asNamed(group), own);
  if (isPart(group)) output.note(`group point ${name}: ${partText(group)}`);
  for (const member of group.missing) {
    output.note(`group point ${name} has no point of ${member}, which was left out when it was made`);
  }
  const members = targets.map(({ point, target }) => ({
    name: pointName(point, own),
    options: { ...common, point, target },
  }));
  const { restoreTogether } = await import('../../../agent/restore/together.js');
  const results = await restoreTogether({
    ...{ group: name, members },
    onMember: (member, step) =>
      output.note(
        step === 'check'
          ? `${member.name}: looking at ${member.options.target}`
          : `${member.name}: restoring to ${member.options.target}`,
      ),
  });
  return members.flatMap(({ options, ...member }, i) => {
    const result = results[i];
    return result === undefined ? [] : [{ ...member, ...options, result }];
  });
}

/** @returns the exit code */
export function tellGroup(
  output: Output,
  group: GroupPoint,
  restored: readonly Restored[],
  own: string | null,
): number {
  const name = pointName(asNamed(group), own);
  output.stands(`The group point ${name} was restored anyway.`);
  output.result({ group: groupView(group), restores: restored.map(viewOf) }, [
    ...restored.flatMap(linesOf),
    `Group point ${name} of ${formatInstant(group.instant)} restored: ${formatCount(restored.length, 'point')} of one instant`,
  ]);
  return exitCodeOf(restored.map(({ result }) => result));
}

interface MemberTarget {
  readonly point: Point;
  readonly target: string;
}

/**
 * By the place of the point. @param texts NAME=TARGET: a device's name, also as AGENT/DEVICE
 * @throws StillpointError `usage`
 */
export function targetsOf(group: GroupPoint, texts: readonly string[], own: string | null): MemberTarget[] {
  const refuse = (reason: string, remedy: string) =>
    new StillpointError('usage', { thing: `group point ${pointName(asNamed(group), own)}`, reason, remedy });
  const names = group.points.map((point) => deviceName(point, own));
  const example = `Write ${names.map((name) => `${name}=TARGET`).join(' ')}`;
  const targets = new Map<Point, string>();
  const unknown: string[] = [];
  for (const text of texts) {
    const [, name, target] = /^([^=]*)=(.+)$/s.exec(text) ?? [];
    if (name === undefined || target === undefined)
      throw refuse(`"${text}" does not say which of its ${names.length} points goes where`, `${example}.`);
    if (target === '-')
      throw refuse(`${name} can't go to standard output`, 'Give it a device or an image file.');
    const point = memberOf(group, name);
    if (point === undefined) unknown.push(name);
    else if (targets.has(point)) throw refuse(`${name} has two targets`, 'Omit one of them.');
    else targets.set(point, target);
  }
  if (unknown.length > 0)
    throw refuse(`it has no point of ${unknown.join(' and ')}`, `Its devices are ${names.join(', ')}.`);
  const missing = group.points.filter((point) => !targets.has(point));
  if (missing.length > 0) {
    const [one] = group.points;
    const single =
      one === undefined
        ? ''
        : ` To restore only one of its points, name that, such as ${pointName(one, own)}.`;
    throw refuse(
      `${missing.map((point) => deviceName(point, own)).join(' and ')} ${missing.length === 1 ? 'has' : 'have'} no target`,
      `${example}.${single}`,
    );
  }
  return group.points.map((point) => ({ point, target: targets.get(point) ?? '' }));
}

/** @param name a device's, or AGENT/DEVICE where several agents have one of that name */
function memberOf({ points }: GroupPoint, name: string): Point | undefined {
  const named = points.filter(({ device }) => device === name);
  if (named.length === 1) return named[0];
  return points.find(({ agent, device }) => `${agent}/${device}` === name);
}
