/** An order of a group over several hosts: this host's devices, with one instant that the receiver leads. */
import type { DeviceSettings } from '../../config/agent-config.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { AgentOrder, GroupOrder } from '../../domain/order/order.js';
import type { OpenReceiver } from '../backup/configured.js';
import type { BackupResult } from '../backup/options.js';
import type { AgentEvent } from '../common/events.js';
import type { GroupBackupResult } from '../group/options.js';
import type { GroupStepPort } from '../group/remote-leader.js';
import { runGroupPart } from '../group/run-part.js';

/** @param device whose event it is; undefined: of all */
export type OnMemberEvent = (event: AgentEvent, device?: string) => void;

/** Carries out a part beside the backups that are begun otherwise. @throws StillpointError `session-busy` */
export type PerformGroup = (
  wish: { readonly name: string; readonly devices: readonly DeviceSettings[]; readonly full: boolean },
  signal: AbortSignal,
  work: (signal: AbortSignal, onEvent: OnMemberEvent) => Promise<GroupBackupResult>,
) => Promise<GroupBackupResult>;

export interface GroupOrderContext {
  readonly order: AgentOrder;
  readonly group: GroupOrder;
  /** Its devices, in its order. */
  readonly devices: readonly DeviceSettings[];
  readonly stateDirectory: string;
  readonly steps: GroupStepPort;
  readonly openReceiver: OpenReceiver;
  /** Default: at once. */
  readonly performGroup?: PerformGroup | undefined;
  readonly doubted: Set<string>;
  readonly onEvent: OnMemberEvent;
}

/** @returns the point of the order's device, with the bytes and warnings of all */
export async function backUpGroupByOrder(
  context: GroupOrderContext,
  signal: AbortSignal,
): Promise<Pick<BackupResult, 'point' | 'wireBytes' | 'warnings'>> {
  const { order, group, devices, stateDirectory, steps, openReceiver, doubted } = context;
  const { full } = order;
  const perform: PerformGroup =
    context.performGroup ?? ((_wish, inner, work) => work(inner, () => undefined));
  const { results } = await perform({ name: group.name, devices, full }, signal, (inner, onInner) =>
    runGroupPart({
      ...{ group, devices, full, stateDirectory, steps, openReceiver, doubted, signal: inner },
      onEvent: (name, event) => {
        const device = name ?? undefined;
        onInner(event, device);
        context.onEvent(event, device);
      },
    }),
  );
  const own = results.find(({ point }) => point.device === order.device);
  if (own === undefined) throw notAMember(order.device, group);
  return {
    point: own.point,
    wireBytes: results.reduce((sum, { wireBytes }) => sum + wireBytes, 0),
    warnings: results.flatMap(({ point, warnings }) => warnings.map((text) => `${point.device}: ${text}`)),
  };
}

function notAMember(device: string, { name }: GroupOrder): StillpointError {
  return new StillpointError('bad-message', {
    thing: `device ${device}`,
    reason: `the order names it, and its group ${name} does not`,
  });
}
