/** Where this machine keeps what Stillpoint remembers: enrolments and, per device, the last point's digest tree. */
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

/** As asked for, else STILLPOINT_STATE, else root's place or the user's own after the XDG base directories. Absolute. */
export function stateDirectory(
  asked: string | undefined,
  environment: Readonly<Record<string, string | undefined>>,
  userId: number,
): string {
  const named = asked ?? environment.STILLPOINT_STATE;
  if (named !== undefined && named !== '') return resolve(named);
  if (userId === 0) return '/var/lib/stillpoint';
  const xdg = environment.XDG_STATE_HOME;
  // The XDG rules: a relative path there is to be ignored.
  const base = xdg?.startsWith('/') === true ? xdg : join(homedir(), '.local', 'state');
  return join(base, 'stillpoint');
}

/**
 * Where the sockets of the state directory's taps are: what does not outlive the machine's run goes to /run, or to the user's
 * XDG_RUNTIME_DIR. A state directory that was named keeps all in one place.
 */
export function runDirectory(
  state: string,
  environment: Readonly<Record<string, string | undefined>>,
  userId: number,
): string {
  const { STILLPOINT_STATE: _, ...others } = environment;
  if (state !== stateDirectory(undefined, others, userId)) return state;
  if (userId === 0) return '/run/stillpoint';
  const xdg = environment.XDG_RUNTIME_DIR;
  return xdg?.startsWith('/') === true ? join(xdg, 'stillpoint') : state;
}
