/**
 * Commands about a receiver's directory: the receiver that serves it carries them out. If none does, this
 * process opens the store and does it itself.
 */
import type { ControlWish } from '../../receiver/control/messages.js';
import type { AgentCommands } from '../../receiver/control/server.js';
import type { Store } from '../../store/port/store.js';
import type { CommandContext } from './context.js';

interface Asking<T> {
  readonly wish: ControlWish;
  /** Of the receiver's answer. */
  readonly parse: (answer: unknown) => T;
  readonly onEvent?: (event: unknown) => void;
}

/** @param direct what to do if no receiver serves */
export async function askReceiverOr<T>(
  { signal }: CommandContext,
  dir: string,
  { wish, parse, onEvent }: Asking<T>,
  direct: () => Promise<T>,
): Promise<T> {
  const { askReceiver, NotServed } = await import('../../receiver/control/client.js');
  let answer: unknown;
  try {
    answer = await askReceiver(dir, wish, { signal, ...(onEvent === undefined ? {} : { onEvent }) });
  } catch (error) {
    if (error instanceof NotServed) return direct();
    throw error;
  }
  return parse(answer);
}

/** Has the receiver that serves, if there is one, read what was written. */
export function reload(context: CommandContext, dir: string): Promise<boolean> {
  const asking = { wish: { op: 'reload' }, parse: () => true } as const;
  return askReceiverOr(context, dir, asking, async () => false);
}

/** This process owns the store meanwhile. */
export async function withStore<T>(
  { output, signal }: CommandContext,
  dir: string,
  work: (store: Store) => Promise<T>,
): Promise<T> {
  const { openStoreInTurn } = await import('./open-store.js');
  const store = await openStoreInTurn(output, dir, signal);
  try {
    return await work(store);
  } finally {
    await store.close();
  }
}

export function withAgentCommands<T>(
  context: CommandContext,
  dir: string,
  wish: ControlWish,
  parse: (answer: unknown) => T,
  direct: (commands: AgentCommands) => Promise<T>,
): Promise<T> {
  return askReceiverOr(context, dir, { wish, parse }, () =>
    withStore(context, dir, async (store) => {
      const { openAgentAdmin } = await import('../../receiver/agent-admin.js');
      const { roundsOf } = await import('./receiver-settings.js');
      const warn = (problem: string) => context.output.warn(problem);
      const rounds = await roundsOf(context, dir, warn);
      const { commands, close } = await openAgentAdmin(dir, store, rounds, warn);
      try {
        return await direct(commands);
      } finally {
        await close();
      }
    }),
  );
}
