/** Sessions of several devices that become one group point, as a store sees them. */
import { randomBytes } from 'node:crypto';
import type { GroupCommit } from '../../../src/domain/point/group.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { Store, TogetherCommit } from '../../../src/store/port/store.js';
import {
  changesBetween,
  commitRequest,
  type DeviceState,
  describe,
  sendChanges,
} from '../worlds/store-device.js';

export interface MemberChange {
  /** Default: `alpha`. */
  readonly agent?: string;
  readonly device: string;
  readonly before: DeviceState | null;
  readonly after: DeviceState;
}

/** All that arrives before the commit. */
export async function sendGroup(
  store: Store,
  name: string,
  members: readonly MemberChange[],
  { id = randomBytes(16).toString('hex'), isOfReceiver = false } = {},
): Promise<{ readonly commits: TogetherCommit[]; readonly group: GroupCommit }> {
  const sent: { capture: TogetherCommit['capture']; after: DeviceState; batchCount: number }[] = [];
  for (const { agent = 'alpha', device, before, after } of members) {
    const base = await store.baseFor({ agent, device });
    const capture = await store.createCapture({ ...describe(device, after, base?.id ?? null), agent });
    const batchCount = await sendChanges(capture, changesBetween(base === null ? null : before, after), 8);
    sent.push({ capture, after, batchCount });
  }
  const group: GroupCommit = {
    ...{ id, name },
    sessionIds: sent.map(({ capture }) => capture.description.sessionId),
    ...(isOfReceiver ? { isOfReceiver } : {}),
  };
  const commits = sent.map(({ capture, after, batchCount }) => ({
    capture,
    request: commitRequest(after, batchCount, { group }),
  }));
  return { commits, group };
}

/** @throws the first error, if there is one */
export function valuesOf(results: readonly PromiseSettledResult<Point>[]): Point[] {
  return results.map((result) => {
    if (result.status === 'rejected') throw result.reason;
    return result.value;
  });
}

export async function backUpGroup(
  store: Store,
  name: string,
  members: readonly MemberChange[],
  options: { readonly isOfReceiver?: boolean } = {},
): Promise<Point[]> {
  const { commits, group } = await sendGroup(store, name, members, options);
  return valuesOf(await store.commitTogether(commits, group));
}
