/**
 * The snapshot of a member that copies in passes: its instant comes late, when little is left to read. The
 * table of its states is in ports.ts (`LatePasses`).
 */
import { isStillpointError } from '../domain/base/errors.js';
import type { LatePasses, Member, Passes, Snapshot, Tracking } from './ports.js';

type State = 'passing' | 'taken' | 'released';

/**
 * @param lead the instant, with the member among those that are led: it stays when that fails, because the
 * member decides whether there is another try. @returns its view; null: it was not reached, and others have
 * decided that there is another try
 */
export function lateSnapshot(
  member: Pick<Member, 'path' | 'release'>,
  passes: Passes,
  lead: () => Promise<Snapshot | null>,
): Snapshot {
  const { device, identity, warnings, tracking } = passes;
  let state: State = 'passing';
  let taken: Snapshot | null = null;
  const check = (step: string, expected: State): void => {
    if (state !== expected) throw new Error(`${member.path}: ${step} of a late snapshot that is ${state}`);
  };
  const view = (step: string): Snapshot => {
    check(step, 'taken');
    return taken as Snapshot;
  };
  const trackingOf = (step: string): Tracking => {
    const { tracking: known } = view(step);
    if (known === undefined) throw new Error(`${member.path}: its view does not say what is left to read`);
    return known;
  };

  const take = async (): Promise<Snapshot | null> => {
    check('take', 'passing');
    let snapshot: Snapshot | null;
    try {
      snapshot = await lead();
    } catch (error) {
      if (isStillpointError(error, 'cancelled') || !(await passes.again(error))) throw error;
      return null;
    }
    if (snapshot === null) return null;
    // Whoever has cancelled no longer waits for it.
    if (state !== 'passing') await snapshot.release();
    check('take', 'passing');
    [taken, state] = [snapshot, 'taken'];
    return snapshot;
  };
  const latePasses: LatePasses = {
    next: async () => {
      check('a pass', 'passing');
      return passes.next();
    },
    take,
  };

  return {
    ...{ device, identity, warnings, passes: latePasses },
    instant: new Date(),
    kind: 'application',
    tracking: {
      changes: tracking.changes,
      reason: tracking.reason,
      knows: (pointId) => tracking.knows(pointId),
      committed: async () => trackingOf('committed').committed(),
      adopt: async (...adopted) => trackingOf('adopt').adopt(...adopted),
    },
    lost: async () => (await taken?.lost?.()) ?? null,
    conclude: async () => {
      const snapshot = view('conclude');
      const concluded = await snapshot.conclude();
      const news = snapshot.warnings.filter((text) => !warnings.includes(text));
      return { ...concluded, warnings: [...news, ...concluded.warnings], instant: snapshot.instant };
    },
    release: async () => {
      const before = state;
      state = 'released';
      if (before === 'passing') await member.release();
      else await taken?.release();
    },
  };
}
