/**
 * Keeps a member to its states (the table of ports.ts), so that each provider only has to do the work of its
 * steps.
 */
import { StillpointError } from '../domain/base/errors.js';
import type { Cut, GateLimits, Member, Passes } from './ports.js';

type State = 'prepared' | 'closed' | 'cut' | 'viewed' | 'released';

/**
 * The work of each step; called in the states that it is for. `release` of one whose snapshot
 * was given is never called.
 */
export function inSteps(member: Member): Member {
  let state: State = 'prepared';
  let limitAtMs = 0;
  const refuse = (step: string): never => {
    throw new Error(`${member.path}: ${step} of a member that is ${state}`);
  };
  const release = async (): Promise<void> => {
    if (state === 'released' || state === 'viewed') return;
    state = 'released';
    await member.release();
  };
  /** Released while it was at work, by who no longer waits for it: what it has got since is given back. */
  const reach = async (reached: State): Promise<void> => {
    if (state === 'prepared') state = reached;
    else await member.release();
  };

  /** What was asked for last: a caller that did not wait for it may ask whether there can be another try. */
  let working: Promise<unknown> = Promise.resolve();
  const atWork = <Result>(work: Promise<Result>): Promise<Result> => {
    working = work.catch(() => undefined);
    return work;
  };
  const isOver = (): boolean => state === 'released' || state === 'viewed';

  const passesInSteps = (passes: Passes): Passes => ({
    device: passes.device,
    identity: passes.identity,
    warnings: passes.warnings,
    tracking: passes.tracking,
    next: async () => {
      if (state !== 'prepared') refuse('a pass');
      return passes.next();
    },
    again: async (error) => {
      await working;
      if (isOver() || !(await passes.again(error)) || isOver()) return false;
      state = 'prepared';
      return true;
    },
  });

  const viewOnce =
    (cut: Cut): Cut['view'] =>
    async (kind) => {
      if (state !== 'cut') refuse('view');
      try {
        const snapshot = await cut.view(kind);
        state = 'viewed';
        return snapshot;
      } catch (error) {
        await release().catch(() => undefined);
        throw error;
      }
    };

  return {
    ...member,
    ...(member.passes === undefined ? {} : { passes: passesInSteps(member.passes) }),
    close: async (limits: GateLimits) => {
      if (state !== 'prepared' && state !== 'closed') refuse('close');
      state = 'prepared';
      const fromMs = performance.now();
      const quietMs = await atWork(member.close(limits));
      limitAtMs = fromMs + limits.closedMs;
      await reach('closed');
      return quietMs;
    },
    open: async () => {
      if (state !== 'closed') return;
      state = 'prepared';
      await member.open();
    },
    cut: async (standstill) => {
      if (state !== 'closed') refuse('cut');
      // Whatever it becomes, writes go on after it.
      state = 'prepared';
      if (performance.now() >= limitAtMs) {
        await member.open();
        throw notClosedAnyMore(member.path);
      }
      const cut = await atWork(member.cut(standstill));
      await reach('cut');
      return { ...cut, view: viewOnce(cut) };
    },
    release,
  };
}

function notClosedAnyMore(path: string): StillpointError {
  return new StillpointError('device-changed', {
    thing: path,
    reason: 'it had to let writes go on before the instant was taken',
    remedy: 'Try again when the machine is less busy.',
    permanent: false,
  });
}
