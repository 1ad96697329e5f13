/**
 * Where Stillpoint keeps its state on this machine: enrolments and, for each device, the last point's digest
 * tree.
 */
import { userInfo } from 'node:os';
import { join, resolve } from 'node:path';
import { StillpointError } from '../domain/base/errors.js';

type Environment = Readonly<Record<string, string | undefined>>;

/**
 * As asked for, else STILLPOINT_STATE, else root's place or the user's own after the XDG
 * base directories. Absolute.
 * @throws StillpointError `config` for a user without a home
 */
export function stateDirectory(asked: string | undefined, environment: Environment, userId: number): string {
  const found = findStateDirectory(asked, environment, userId);
  if (found !== null) return found;
  throw new StillpointError('config', {
    thing: 'state directory',
    reason: `user ${userId} has no home directory for it (no HOME, and no entry in the list of users)`,
    remedy: 'Name one with --state or STILLPOINT_STATE.',
  });
}

/** Null for a user without a home. */
export function findStateDirectory(
  asked: string | undefined,
  environment: Environment,
  userId: number,
): string | null {
  const named = asked ?? environment.STILLPOINT_STATE;
  if (named !== undefined && named !== '') return resolve(named);
  if (userId === 0) return '/var/lib/stillpoint';
  // The XDG rules: a relative path there is to be ignored.
  const base = absolute(environment.XDG_STATE_HOME);
  if (base !== null) return join(base, 'stillpoint');
  const home = absolute(environment.HOME) ?? homeOfUser();
  return home === null ? null : join(home, '.local', 'state', 'stillpoint');
}

function absolute(path: string | undefined): string | null {
  return path?.startsWith('/') === true ? path : null;
}

function homeOfUser(): string | null {
  try {
    return absolute(userInfo().homedir);
  } catch {
    return null;
  }
}

/**
 * Where the sockets of the state directory's taps are: what does not outlive the machine's run goes to /run,
 * or to the user's XDG_RUNTIME_DIR. A state directory that was named keeps all in one place.
 */
export function runDirectory(state: string, environment: Environment, userId: number): string {
  const { STILLPOINT_STATE: _, ...others } = environment;
  if (state !== findStateDirectory(undefined, others, userId)) return state;
  if (userId === 0) return '/run/stillpoint';
  const xdg = environment.XDG_RUNTIME_DIR;
  return xdg?.startsWith('/') === true ? join(xdg, 'stillpoint') : state;
}
