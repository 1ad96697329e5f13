/** Asks for the state of groups over several hosts: the receiver, or where none serves its files. */

import type { ReceiverGroup } from '../../../domain/order/receiver-group.js';
import type { AccessOf, GroupView } from '../../../receiver/groups/views.js';
import type { StoreToRead } from '../../../store/reading/reader-store.js';
import type { CommandContext } from '../../common/context.js';
import { askReceiverOr } from '../../common/served.js';

export interface GroupsSeen {
  readonly groups: readonly GroupView[];
  /** A receiver runs: it knows what goes on, and which agents are there. */
  readonly isServed: boolean;
}

/**
 * @param list as they are set, for a receiver that does not run
 * @param name null: all
 * @throws StillpointError `usage` if there is none of the name
 */
export async function groupsSeen(
  context: CommandContext,
  dir: string,
  list: () => Promise<readonly ReceiverGroup[]>,
  name: string | null,
): Promise<GroupsSeen> {
  const { groupViewsSchema } = await import('../../../receiver/control/groups.js');
  const asking = {
    wish: { op: 'groups', name },
    parse: (answer: unknown): GroupsSeen => ({ groups: groupViewsSchema.parse(answer), isServed: true }),
  } as const;
  return askReceiverOr(context, dir, asking, async () => {
    const { findGroup } = await import('../../../receiver/orders/group-settings.js');
    const { groupViews } = await import('../../../receiver/groups/views.js');
    const all = await list();
    const groups = name === null ? all : [findGroup(all, name)];
    if (groups.length === 0) return { groups: [], isServed: false };
    const access = await accessIn(dir, groups);
    const views = await reading(context, dir, async (store) =>
      groupViews(groups, { dir, points: await store.points({}), access, served: null }),
    );
    return { groups: views, isServed: false };
  });
}

/** @returns warnings. @throws StillpointError as checkNewGroup */
export async function groupWarnings(
  context: CommandContext,
  dir: string,
  group: ReceiverGroup,
): Promise<string[]> {
  const { groupWarningsSchema } = await import('../../../receiver/control/groups.js');
  const asking = {
    wish: { op: 'group-check', group },
    parse: (answer: unknown) => groupWarningsSchema.parse(answer).warnings,
  } as const;
  return askReceiverOr(context, dir, asking, async () => {
    const { checkNewGroup } = await import('../../../receiver/groups/check.js');
    const access = await accessIn(dir, [group]);
    return reading(context, dir, (store) => checkNewGroup(group, { store, access, presence: null }));
  });
}

async function accessIn(dir: string, groups: readonly ReceiverGroup[]): Promise<AccessOf> {
  const { findAgent } = await import('../../../receiver/access/agent-file.js');
  const known = new Map<string, 'enrolled' | 'revoked'>();
  for (const { agent } of groups.flatMap(({ members }) => members)) {
    const found = await findAgent(dir, agent);
    if (found !== null) known.set(agent, found.revoked === undefined ? 'enrolled' : 'revoked');
  }
  return (agent) => known.get(agent) ?? null;
}

async function reading<T>(
  { output }: CommandContext,
  dir: string,
  work: (store: StoreToRead) => Promise<T>,
): Promise<T> {
  const { openStoreToRead } = await import('../../common/open-store.js');
  const store = await openStoreToRead(output, dir);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}
