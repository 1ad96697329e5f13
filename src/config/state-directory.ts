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
