/** A backup of a group as a part of a round, and what the round keeps of it. */
import type { ItemOutcome } from '../../domain/order/round.js';
import { pointLabel } from '../../domain/point/point.js';
import type { RoundGroupWish } from '../orders/rounds.js';
import type { GroupBackups } from './backup.js';

/** @throws StillpointError of the host that was at fault; `unreachable` of the group if one is not there */
export async function backUpInRound(
  backups: Pick<GroupBackups, 'run'>,
  wish: RoundGroupWish,
): Promise<ItemOutcome> {
  const { points, hosts, warnings } = await backups.run({
    ...wish,
    onChange: () => undefined,
  });
  const [first] = points;
  if (first?.group === undefined) throw new Error(`group ${wish.group.name} has no points`);
  const leftOut = hosts.filter(({ state }) => state === 'out');
  return {
    state: 'done',
    point: pointLabel({ device: wish.group.name, sequence: first.group.sequence }),
    warningCount: warnings.length + leftOut.length,
    wireBytes: points.reduce((sum, { statistics }) => sum + statistics.wireBytes, 0),
  };
}
