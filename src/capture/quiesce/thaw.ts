/** Thaws from outside: what a freezer can't thaw any more, or what nobody is left to thaw. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { StillpointError } from '../../domain/base/errors.js';
import { checkoutPath } from '../../native/checkout.js';
import { type FreezeTarget, thawLeft } from './left-frozen.js';

export const FREEZER = checkoutPath('build/native/Release/stillpoint-freezer');
const RESCUE_MS = 10_000;

export const freezerArgument = ({ id, path }: FreezeTarget): string => `${id}:${path}`;

/**
 * Thaws what agent and freezer have left frozen that were killed together. For the start of all that takes
 * instants: before it writes anything, which may have to go to what is frozen.
 */
export const thawLeftFrozen = (): Promise<void> => thawLeft(thawAll);

/** Each by a process of its own: one may wait for another. @returns mount points that could not be thawed. */
export async function thawAll(targets: readonly FreezeTarget[]): Promise<string[]> {
  const stuck = await Promise.all(
    targets.map(async (target) => ((await thawOne(target)) ? [] : [target.path])),
  );
  return stuck.flat();
}

async function thawOne(target: FreezeTarget): Promise<boolean> {
  const child = spawn(FREEZER, ['--thaw', freezerArgument(target)], { stdio: 'ignore' });
  try {
    await once(child, 'exit', { signal: AbortSignal.timeout(RESCUE_MS) });
    return child.exitCode === 0;
  } catch {
    child.unref();
    return false;
  }
}

/** What outranks every other trouble. */
export function stillFrozen(stuck: readonly string[], cause: unknown): StillpointError {
  const because = cause instanceof Error ? ` (after: ${cause.message})` : '';
  return new StillpointError('frozen', {
    thing: stuck.join(', '),
    reason: `it could not be thawed${because}`,
    remedy: thawByHand(stuck),
    cause,
  });
}

export function thawByHand(mountPoints: readonly string[]): string {
  return `It is still frozen. Thaw it: ${mountPoints.map((path) => `fsfreeze --unfreeze ${path}`).join('; ')}`;
}
