/**
 * Brings a device into a state that is worth an instant, has the instant taken, and lets everything go on:
 *
 *   hooks ready, in order → flush and freeze → quiet → INSTANT → thaw → hooks released, in reverse order
 *
 * What was acquired is released, each with a deadline, also after a failure or cancellation. The kind that is told is the one
 * that was reached:
 *
 * | kind          | there was                | and                                                                        |
 * |---------------|--------------------------|----------------------------------------------------------------------------|
 * | `application` | a hook, or several       | all of them ended well, and no freeze that was begun failed or broke        |
 * | `filesystem`  | a frozen file system     | all writable ones were frozen, the whole time                               |
 * | `crash`       | anything else            |                                                                            |
 */
import { stat } from 'node:fs/promises';
import { deviceNumber } from '../../devices/system/in-use.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import type { ConsistencyKind } from '../../domain/point/point.js';
import { freeze, stillFrozen, type ThawResult, thawByHand } from './freeze.js';
import { type RunningHook, startHook } from './hooks.js';
import { type Filesystem, filesystemsAt, findFilesystems } from './mounts.js';
import { counterWatch, waitUntilQuiet } from './quiet.js';

export interface QuiesceOptions {
  /** Block device or image that is backed up. */
  readonly device: string;
  /** The name that its points have. */
  readonly name: string;
  /** Other devices that show its content, as /dev/nbd0 that a tap is attached as. */
  readonly alsoSeenAs?: readonly string[];
  /** Executables, in the order to start them. */
  readonly hooks: readonly string[];
  /** `auto`: every writable file system that is found on it. Mount points: these, by the user's word that they lie on it. */
  readonly freeze: 'auto' | 'none' | readonly string[];
  /** For a block device that is not tapped: the instant comes after so long without a write. */
  readonly quiet?: { readonly quietMs: number; readonly deadlineMs: number } | undefined;
  readonly freezeDeadlineMs?: number | undefined;
  /** For becoming ready, and again for ending. */
  readonly hookDeadlineMs?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface Quiesced<Result> {
  readonly result: Result;
  readonly kind: Extract<ConsistencyKind, 'application' | 'filesystem' | 'crash'>;
  /** What was lost, and why. */
  readonly warnings: readonly string[];
}

export const FREEZE_DEADLINE_MS = 10_000;
export const HOOK_DEADLINE_MS = 60_000;

/**
 * @param takeInstant must write nothing to the file systems of the device: they are frozen.
 * @throws StillpointError of a hook, of a quiet that was not found, `usage` (a mount point that is none), `cancelled`; or what
 * takeInstant throws. A file system that can't be frozen is a warning.
 */
export async function quiesce<Result>(
  options: QuiesceOptions,
  takeInstant: () => Promise<Result>,
): Promise<Quiesced<Result>> {
  // Now for what is wrong with the options; what lies on the device is looked up when hooks have changed what they change.
  let plan = await planOf(options);
  const hooks: RunningHook[] = [];
  const warnings: string[] = [];
  let frozen = NOTHING_FROZEN;
  let result: Result;
  try {
    for (const path of options.hooks) {
      const deadlineMs = options.hookDeadlineMs ?? HOOK_DEADLINE_MS;
      hooks.push(await startHook(path, { ...options, deadlineMs }));
    }
    plan = await planOf(options);
    frozen = await tryFreeze(plan.targets, options);
    const quiet = await waitForQuiet(options);
    throwIfCancelled(options);
    result = await takeInstant();
    if ((await quiet?.isUnbroken().catch(() => false)) === false) {
      warnings.push(`${options.device} was written to while the instant was taken`);
    }
  } catch (error) {
    const end = await frozen.thaw();
    await releaseHooks(hooks, false);
    throw end.intact || end.stuck.length === 0 ? error : stillFrozen(end.stuck, error);
  }
  const end = await frozen.thaw();
  const troubles = await releaseHooks(hooks, true);
  warnings.push(...plan.warnings, ...frozen.exceptions, ...whyBroken(end), ...troubles);
  const all = plan.warnings.length === 0 && frozen.exceptions.length === 0;
  const isApplication = end.intact && hooks.length > 0 && troubles.length === 0;
  const isFilesystem = end.intact && frozen.count > 0 && all;
  return { result, kind: isApplication ? 'application' : isFilesystem ? 'filesystem' : 'crash', warnings };
}

interface Plan {
  readonly targets: readonly Filesystem[];
  /** Of writable file systems that will not be frozen. */
  readonly warnings: readonly string[];
}

async function planOf(options: QuiesceOptions): Promise<Plan> {
  if (options.freeze === 'none') return { targets: [], warnings: [] };
  const { filesystems } = await findFilesystems([options.device, ...(options.alsoSeenAs ?? [])]);
  const writable = filesystems.filter((filesystem) => !filesystem.readOnly);
  if (options.freeze === 'auto') return split(writable, 'other mounts hide it');
  const named = await filesystemsAt(options.freeze);
  const missing = options.freeze.filter((_, index) => named[index] === null);
  if (missing.length > 0) {
    throw new StillpointError('usage', {
      thing: missing.join(', '),
      reason: 'no file system is mounted there',
      remedy: 'Name mount points; "findmnt" lists them.',
    });
  }
  const wanted = new Map(
    named.flatMap((one) => (one === null || one.readOnly ? [] : [[one.number, one] as const])),
  );
  // In the order of stacking, as far as that is known.
  const known = new Set(writable.map(({ number }) => number));
  const unknown = [...wanted.values()].filter(({ number }) => !known.has(number));
  const chosen = writable.map((one) => wanted.get(one.number) ?? { ...one, mount: null });
  return split([...unknown, ...chosen], 'it was not named');
}

function split(filesystems: readonly Filesystem[], why: string): Plan {
  return {
    targets: filesystems.filter(({ mount }) => mount !== null),
    warnings: filesystems
      .filter(({ mount }) => mount === null)
      .map(({ path }) => `${path} was not frozen: ${why}`),
  };
}

interface FrozenSet {
  readonly count: number;
  /** Sentences about file systems that are of no kind that can be frozen. */
  readonly exceptions: readonly string[];
  /** Never rejects. */
  thaw(): Promise<ThawResult>;
}

const NOTHING_FROZEN: FrozenSet = { count: 0, exceptions: [], thaw: async () => ({ intact: true }) };

/** A failure costs the kind, no more, unless it leaves something frozen. */
async function tryFreeze(targets: readonly Filesystem[], options: QuiesceOptions): Promise<FrozenSet> {
  const mounts = targets.flatMap(({ mount }) => mount ?? []);
  if (mounts.length === 0) return NOTHING_FROZEN;
  const deadlineMs = options.freezeDeadlineMs ?? FREEZE_DEADLINE_MS;
  try {
    const { unsupported, thaw } = await freeze(mounts, { deadlineMs, signal: options.signal });
    const exceptions = unsupported.map((path) => {
      const type = targets.find(({ mount }) => mount?.path === path)?.type;
      return `${path} was not frozen: ${type} can't be`;
    });
    return { count: mounts.length - unsupported.length, exceptions, thaw };
  } catch (error) {
    if (!isStillpointError(error) || error.code === 'cancelled' || error.code === 'frozen') throw error;
    return {
      ...NOTHING_FROZEN,
      thaw: async () => ({ intact: false, reason: error.message, stuck: [] }),
    };
  }
}

function whyBroken(end: ThawResult): string[] {
  if (end.intact) return [];
  return [end.reason, ...(end.stuck.length === 0 ? [] : [thawByHand(end.stuck)])];
}

/** @returns what went wrong, as sentences. */
async function releaseHooks(hooks: readonly RunningHook[], taken: boolean): Promise<string[]> {
  const troubles: string[] = [];
  for (const hook of [...hooks].reverse()) {
    const trouble = await hook.release(taken);
    if (trouble !== null) troubles.push(trouble);
  }
  return troubles;
}

async function waitForQuiet({ device, quiet, signal }: QuiesceOptions) {
  if (quiet === undefined) return null;
  const number = deviceNumber((await stat(device, { bigint: true })).rdev);
  return waitUntilQuiet(device, counterWatch(device, number), { ...quiet, signal });
}

function throwIfCancelled({ device, signal }: QuiesceOptions): void {
  if (signal?.aborted) throw new StillpointError('cancelled', { thing: device, reason: 'it was cancelled' });
}
