/** Errors of one device of a group. */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import type { GroupMember } from './options.js';

/** What is of the group, or of nobody. */
const NAMED: ReadonlySet<string> = new Set(['cancelled', 'group-failed']);

/** The error says of which device it is, if it does not name it already. */
export function ofDevice({ device, path }: Pick<GroupMember, 'device' | 'path'>, error: unknown): unknown {
  if (!isStillpointError(error) || NAMED.has(error.code)) return error;
  const { code, thing, reason, remedy, permanent, message } = error;
  if (message.includes(path) || message.split(/[^\w.-]+/).includes(device)) return error;
  return new StillpointError(code, {
    ...{ thing: `${device} (${path}): ${thing}`, reason, permanent, cause: error },
    ...(remedy === undefined ? {} : { remedy }),
  });
}

/** A clause, without its remedy. */
export function reasonOf(error: unknown): string {
  return isStillpointError(error) ? `${error.thing}: ${error.reason}` : (error as Error).message;
}
