/** `backup --now NAME`: the daemon makes the backup; this command shows it, and ends as `backup` does. */
import { z } from 'zod';
import type { AgentEvent } from '../../agent/common/events.js';
import { askAgent } from '../../agent/control/client.js';
import { agentSocketPath } from '../../agent/control/messages.js';
import { checkName } from '../../domain/base/names.js';
import { errorBodySchema } from '../../protocol/messages/error-body.js';
import { pointGroupSchema, pointSchema } from '../../protocol/schemas/messages.js';
import type { Told, ToldGroup } from '../output/backup-result.js';
import { groupProgress } from '../output/group-progress.js';
import type { CommandContext } from './context.js';

const basePlan = z.object({ start: z.string(), reason: z.string() });
const resultSchema = z.object({
  point: pointSchema,
  warnings: z.array(z.string()),
  wireBytes: z.number(),
  base: basePlan,
  tracking: z.object({ used: z.boolean(), reason: z.string() }).nullable(),
});

const groupSchema = z.object({
  group: pointGroupSchema,
  members: z.array(resultSchema),
  leftOut: z.array(errorBodySchema.and(z.object({ device: z.string() }))),
});

/** @throws the error of the backup; StillpointError `unreachable` if no agent runs */
export async function backUpByDaemon(
  { stateDirectory, environment, userId, signal, output }: CommandContext,
  name: string,
  full: boolean,
): Promise<Told | ToldGroup> {
  const progress = groupProgress(output, name);
  const path = `devices/${checkName('name', name)}/backup`;
  const last = await askAgent(agentSocketPath(stateDirectory, environment, userId), {
    ...{ method: 'POST', path, signal, body: { full } },
    onLine: (line) => {
      const told = eventOf(line);
      if (told !== null) progress.onEvent(told.event, told.device);
    },
  }).finally(progress.end);
  return z.object({ result: z.union([groupSchema, resultSchema]) }).parse(last).result;
}

/** Of an agent of this very program: what is not an event is the result. */
function eventOf(line: unknown): { readonly event: AgentEvent; readonly device?: string } | null {
  return typeof line === 'object' && line !== null && 'event' in line
    ? (line as { event: AgentEvent; device?: string })
    : null;
}
