/** What a group says of its members, and what a snapshot in it is. */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import type { Snapshot } from '../ports.js';

/** For those that did not fail themselves. */
export function groupFailed(group: string, device: string, error: unknown): StillpointError {
  const why = isStillpointError(error) ? `${error.thing}: ${error.reason}` : (error as Error).message;
  return new StillpointError('group-failed', {
    thing: `group ${group}`,
    reason: `its member ${device} failed (${why})`,
    permanent: !isStillpointError(error) || error.permanent,
    cause: error,
  });
}

/** The instant was given up for it, and another one may be reached. */
export function hasLeft(device: string): StillpointError {
  return new StillpointError('device-changed', {
    thing: device,
    reason: 'it was left out while the instant was taken',
    permanent: false,
  });
}

/**
 * The snapshot of a member. No later process goes on with its session: the instant is common to those of this
 * one.
 *
 * @param isOne there are no others
 */
export function inGroup(snapshot: Snapshot, path: string, isOne: boolean): Snapshot {
  return {
    ...snapshot,
    continuity: undefined,
    conclude: async () => {
      const conclusion = await snapshot.conclude();
      if (isOne || conclusion.unproven === undefined) return conclusion;
      throw new StillpointError('device-changed', {
        thing: path,
        reason:
          `nothing proves that it stood still from the common instant on: ${conclusion.unproven}; a second ` +
          'reading would prove a moment of its own',
        remedy: 'Put a tap on it, use "live", or back it up by itself.',
        permanent: false,
      });
    },
  };
}
