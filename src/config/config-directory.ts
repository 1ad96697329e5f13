/** Where the configuration is: agent.toml, agent.d/, receiver.toml, receiver.d/. */
import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { findStateDirectory } from './state-directory.js';

type Environment = Readonly<Record<string, string | undefined>>;

export interface ConfigChoice {
  /** `--config` */
  readonly config: string | undefined;
  /** `--state` */
  readonly state: string | undefined;
}

/**
 * As asked for, else STILLPOINT_CONFIG. Else a state directory that was named has its configuration in
 * itself, so that it never reads or changes the machine's. Else /etc/stillpoint for root, and the user's own
 * place after the XDG base directories. Null for a user without a home.
 */
export function findConfigDirectory(
  choice: ConfigChoice,
  environment: Environment,
  userId: number,
): string | null {
  const named = choice.config ?? environment.STILLPOINT_CONFIG;
  if (named !== undefined && named !== '') return resolve(named);
  const { STILLPOINT_STATE: _, ...others } = environment;
  const state = findStateDirectory(choice.state, environment, userId);
  if (state !== null && state !== findStateDirectory(undefined, others, userId)) return join(state, 'config');
  if (userId === 0) return '/etc/stillpoint';
  const xdg = environment.XDG_CONFIG_HOME;
  if (xdg?.startsWith('/') === true) return join(xdg, 'stillpoint');
  const home = environment.HOME?.startsWith('/') === true ? environment.HOME : homeOfUser();
  return home === null ? null : join(home, '.config', 'stillpoint');
}

function homeOfUser(): string | null {
  try {
    return userInfo().homedir;
  } catch {
    return null;
  }
}
