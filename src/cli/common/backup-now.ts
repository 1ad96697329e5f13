/** `backup --now NAME`: the daemon makes the backup; this command shows it, and ends as `backup` does. */
import { z } from 'zod';
import type { BackupResult } from '../../agent/backup/options.js';
import type { AgentEvent } from '../../agent/common/events.js';
import { askAgent } from '../../agent/control/client.js';
import { agentSocketPath } from '../../agent/control/messages.js';
import { checkName } from '../../domain/base/names.js';
import { pointSchema } from '../../protocol/messages/schemas.js';
import { agentProgress } from '../output/agent-progress.js';
import type { CommandContext } from './context.js';

const basePlan = z.object({ start: z.string(), reason: z.string() });
const resultSchema = z.object({
  point: pointSchema,
  warnings: z.array(z.string()),
  wireBytes: z.number(),
  base: basePlan,
  tracking: z.object({ used: z.boolean(), reason: z.string() }).nullable(),
});

export type DaemonResult = Pick<BackupResult, 'point' | 'warnings' | 'wireBytes' | 'tracking'> & {
  readonly base: { readonly start: string; readonly reason: string };
};

/** @throws the error of the backup; StillpointError `unreachable` if no agent runs */
export async function backUpByDaemon(
  { stateDirectory, environment, userId, signal, output }: CommandContext,
  name: string,
  full: boolean,
): Promise<DaemonResult> {
  const progress = agentProgress(output);
  const path = `devices/${checkName('device name', name)}/backup`;
  const last = await askAgent(agentSocketPath(stateDirectory, environment, userId), {
    ...{ method: 'POST', path, signal, body: { full } },
    onLine: (line) => {
      const event = eventOf(line);
      if (event !== null) progress.onEvent(event);
    },
  }).finally(progress.end);
  return z.object({ result: resultSchema }).parse(last).result;
}

/** Of an agent of this very program: what is not an event is the result. */
function eventOf(line: unknown): AgentEvent | null {
  return typeof line === 'object' && line !== null && 'event' in line ? (line.event as AgentEvent) : null;
}
