/** The receiver's directory that commands use if none is named: one answer for all of them. */
import { resolve } from 'node:path';
import type { CommandContext } from '../common/context.js';

type Context = Pick<CommandContext, 'configDirectory' | 'stateDirectory'>;

export const RECEIVER_DIRECTORY_HELP =
  'the directory of the store (default: as receiver.toml says, else "receiver" in the state directory)';

/** As named, else what receiver.toml says. @throws StillpointError `config` */
export async function receiverDirectory(context: Context, named: string | undefined): Promise<string> {
  if (named !== undefined) return resolve(named);
  const { loadReceiverConfig, storeOfConfig } = await import('../../config/receiver-config.js');
  const config = await loadReceiverConfig(context.configDirectory);
  return storeOfConfig(config, context.stateDirectory);
}
