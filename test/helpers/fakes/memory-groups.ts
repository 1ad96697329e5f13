/** Commits of a group in the memory store: nothing has an effect before all can be made. */
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { GroupCommit } from '../../../src/domain/point/group.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { TogetherCommit } from '../../../src/store/port/store.js';
import type { MemoryCapture } from './memory-capture.js';

export async function commitTogether(
  commits: readonly TogetherCommit[],
  { id, name, missing, isOfReceiver = false }: GroupCommit,
  points: () => readonly Point[],
): Promise<PromiseSettledResult<Point>[]> {
  const prepared = await Promise.allSettled(
    commits.map(({ capture, request }) => (capture as MemoryCapture).prepare(request)),
  );
  const groupFailed = new StillpointError('group-failed', { thing: `group ${name}`, reason: 'one failed' });
  if (prepared.some(({ status }) => status === 'rejected'))
    return prepared.map((each) => ({
      status: 'rejected',
      reason: each.status === 'rejected' ? each.reason : groupFailed,
    }));
  const isIt = ({ group }: Point) => group?.name === name && (group.ownCount !== undefined) === isOfReceiver;
  const sequence =
    Math.max(0, ...points().map((point) => (isIt(point) ? (point.group?.sequence ?? 0) : 0))) + 1;
  const group = { id, name, sequence, memberCount: commits.length, ...(missing && { missing }) };
  const agents = commits.map(({ capture }) => capture.description.agent);
  const ownOf = ({ agent }: Point) =>
    isOfReceiver ? { ownCount: agents.filter((other) => other === agent).length } : {};
  return prepared.flatMap((each) => {
    if (each.status === 'rejected') return [];
    const point = { ...each.value.point, group: { ...group, ...ownOf(each.value.point) } };
    each.value.publish(point);
    return [{ status: 'fulfilled', value: point }];
  });
}
