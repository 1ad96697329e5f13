/** What commands ask of groups over several hosts. */
import { z } from 'zod';
import type { Run, RunHost } from '../../domain/group/run.js';
import type { Groups } from '../groups/groups.js';
import type { GroupView } from '../groups/views.js';
import { receiverGroupSchema } from '../orders/group-settings.js';
import { groupRunEndSchema } from '../orders/last-group-run.js';
import type { Remote } from '../orders/remote.js';
import type { ControlRequest, GroupHostView } from './messages.js';

export type GroupRequest = Extract<
  ControlRequest,
  { op: 'group-backup' | 'group-cancel' | 'group-check' | 'groups' }
>;

export const groupWarningsSchema = z.strictObject({ warnings: z.array(z.string()) });

const text = z.string();
export const groupViewsSchema: z.ZodType<GroupView[]> = z.array(
  z.strictObject({
    group: receiverGroupSchema,
    running: z
      .strictObject({
        ...{ startedAt: text, phase: text, phaseSince: text, try: z.int() },
        hosts: z.array(
          z.strictObject({
            ...{ agent: text, devices: z.array(text), state: text, since: text },
            reason: text.nullable(),
          }),
        ),
      })
      .nullable(),
    cutOffAt: text.nullable(),
    lastRun: groupRunEndSchema.nullable(),
    lastPoint: z.strictObject({ point: text, committedAt: text }).nullable(),
    members: z.array(
      z.strictObject({
        ...{ agent: text, device: text },
        state: z.enum(['connected', 'not connected', 'not enrolled', 'revoked', 'unknown']),
        isOffered: z.boolean().nullable(),
        canGroup: z.boolean().nullable(),
      }),
    ),
  }),
);

export async function performGroup(
  remote: Remote,
  groups: Groups,
  request: GroupRequest,
  signal: AbortSignal,
  tell: (event: object) => void,
): Promise<unknown> {
  switch (request.op) {
    case 'groups':
      return groups.views(request.name);
    case 'group-check':
      return { warnings: await groups.check(request.group) };
    case 'group-cancel':
      return groups.cancel(request.name);
    case 'group-backup':
      return backUpGroup(remote, groups, request, signal, tell);
  }
}

async function backUpGroup(
  remote: Remote,
  groups: Groups,
  { name, waitMs }: Extract<GroupRequest, { op: 'group-backup' }>,
  signal: AbortSignal,
  tell: (event: object) => void,
): Promise<object> {
  const group = await groups.find(name);
  const onChange = ({ phase, try: of, hosts }: Run) => tell({ phase, try: of, hosts: hosts.map(hostView) });
  const { points, hosts, warnings } = await remote.groupBackup(group, (whyAbsent) =>
    groups.backups.run({ group, by: 'operator', waitMs, signal, onChange, whyAbsent }),
  );
  return { points, hosts: hosts.map(hostView), warnings };
}

function hostView({ agent, devices, state, stalls, failure }: RunHost): GroupHostView {
  const reason = failure === null ? null : `${failure.thing}: ${failure.reason}`;
  return { agent, devices: [...devices], state, stalls: [...stalls], reason };
}
