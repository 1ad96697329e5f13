/**
 * Commands about agents: the receiver that serves the directory carries them out; if none does, this process
 * opens the store and does it itself.
 */
import { isStillpointError } from '../../domain/base/errors.js';
import type { ControlWish } from '../../receiver/control/messages.js';
import type { AgentCommands } from '../../receiver/control/server.js';
import type { CommandContext } from './context.js';

export async function withAgentCommands<T>(
  { output, signal }: CommandContext,
  dir: string,
  wish: ControlWish,
  parse: (answer: unknown) => T,
  direct: (commands: AgentCommands) => Promise<T>,
): Promise<T> {
  const { askReceiver } = await import('../../receiver/control/client.js');
  try {
    return parse(await askReceiver(dir, wish, { signal }));
  } catch (error) {
    if (!isStillpointError(error, 'unreachable')) throw error;
  }
  const { openStoreInTurn } = await import('./open-store.js');
  const { openAgentAdmin } = await import('../../receiver/agent-admin.js');
  const store = await openStoreInTurn(output, dir, signal);
  try {
    const { commands, close } = await openAgentAdmin(dir, store, (problem) => output.warn(problem));
    try {
      return await direct(commands);
    } finally {
      await close();
    }
  } finally {
    await store.close();
  }
}
