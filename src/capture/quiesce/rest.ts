/**
 * Brings everything on the devices of an instant to rest, and lets it go again:
 *
 *   hooks ready, in order → flush and freeze → … → thaw → hooks released, in reverse order
 *
 * Everything acquired is released, each with a deadline, also after a failure or cancellation.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import {
  type Freeze,
  type FreezeOptions,
  freeze,
  stillFrozen,
  type ThawResult,
  thawByHand,
} from './freeze.js';
import { type RunningHook, startHook } from './hooks.js';
import { type Filesystem, filesystemNumberOf, filesystemsAt, findFilesystems } from './mounts.js';

/** How it is brought to rest. */
export interface RestOptions {
  /** The name that its points have. */
  readonly name: string;
  /** Executables, in the order to start them. */
  readonly hooks: readonly string[];
  /**
   * `auto`: every writable file system that is found on it. Mount points: these, by the user's
   * word that they lie on it.
   */
  readonly freeze: 'auto' | 'none' | readonly string[];
  /** The instant comes after so long without a write. */
  readonly quiet?: { readonly quietMs: number; readonly deadlineMs: number } | undefined;
  readonly freezeDeadlineMs?: number | undefined;
  /** For becoming ready, and again for ending. */
  readonly hookDeadlineMs?: number | undefined;
}

export const FREEZE_DEADLINE_MS = 10_000;
export const HOOK_DEADLINE_MS = 60_000;

/** What was reached, and what was lost. */
export interface Rested {
  /** All hooks ended well, and no freeze that was begun failed or broke. */
  readonly isApplication: boolean;
  /** Of each device: all writable file systems were frozen, the whole time; one at least lies on it. */
  readonly isFilesystem: readonly boolean[];
  readonly warnings: readonly string[];
  /** How long the file systems were frozen; null: none was. */
  readonly frozenMs: number | null;
}

export interface RestSignals {
  /** By the user: hooks get their time to undo what they have begun. */
  readonly cancelled: AbortSignal | undefined;
  /** That, or there is no more time. */
  readonly over: AbortSignal;
}

/** What is brought to rest. */
export interface RestDevice {
  /** As its user names it, for the hooks. */
  readonly path: string;
  /** Where it and its content are found; empty: nothing is frozen. */
  readonly shownAt: readonly string[];
  /** Its instant writes there. */
  readonly writesBeside?: string | undefined;
  /** Of a cut that is taken while all are frozen; undefined: there is none. */
  readonly cut?: { readonly descriptors: readonly number[]; readonly budgetMs: number } | undefined;
}

/** One use. From `freeze` to `end` this process must write to none of the file systems. */
export class Rest {
  readonly #devices: readonly RestDevice[];
  readonly #options: RestOptions;
  readonly #signals: RestSignals;
  readonly #hooks: RunningHook[] = [];
  #plan: Plan = NOTHING_TO_FREEZE;
  #frozen = NOTHING_FROZEN;
  #frozenAtMs: number | null = null;
  #cutsTaken: Promise<void> | null = null;

  constructor(devices: readonly RestDevice[], options: RestOptions, signals: RestSignals) {
    this.#devices = devices;
    this.#options = options;
    this.#signals = signals;
  }

  /**
   * @param leftMs what is left of the time for all of it.
   * @throws StillpointError `usage` (a mount point that is none), of a hook, `cancelled`; a file system that
   * can't be frozen is a warning
   */
  async begin(leftMs: () => number): Promise<void> {
    const { hooks, name, hookDeadlineMs = HOOK_DEADLINE_MS } = this.#options;
    // Now for what is wrong with the options; what lies on the device is looked up when hooks have
    // changed what they change.
    await planOf(this.#options.freeze, this.#devices);
    const device = this.#devices.map(({ path }) => path).join('\n');
    for (const path of hooks) {
      const limits = { deadlineMs: hookDeadlineMs, readyMs: leftMs(), signal: this.#signals.cancelled };
      this.#hooks.push(await startHook(path, { device, name, ...limits }));
    }
    this.#plan = await planOf(this.#options.freeze, this.#devices);
    // In whole milliseconds: the freezer refuses others.
    const deadlineMs = Math.ceil(Math.min(this.#budgetMs(), leftMs()));
    const freezing = {
      deadlineMs,
      signal: this.#signals.over,
      cuts: this.#cuts(),
      once: this.#takesCutsAtOnce(),
    };
    this.#frozen = await tryFreeze(this.#plan.targets, freezing);
    if (this.#frozen.numbers.length > 0) this.#frozenAtMs = performance.now();
  }

  /**
   * Takes the cuts of all devices, once: nobody writes to those whose file systems are frozen. Without a
   * frozen one, what was written meanwhile is in their reports.
   * @throws StillpointError `device-changed`: what was to be frozen is not
   */
  takeCuts(): Promise<void> {
    this.#cutsTaken ??= this.#takeCuts();
    return this.#cutsTaken;
  }

  async #takeCuts(): Promise<void> {
    if (this.#frozen.numbers.length > 0) return this.#frozen.cut();
    if (this.#plan.targets.length > 0) throw notFrozen(this.#devices, await this.#frozen.thaw());
    const deadlineMs = Math.ceil(this.#budgetMs());
    const { cut } = await freeze([], {
      deadlineMs,
      signal: this.#signals.over,
      cuts: this.#cuts(),
      once: true,
    });
    await cut();
  }

  #cuts(): readonly (readonly number[])[] {
    return this.#devices.flatMap(({ cut }) => (cut === undefined ? [] : [cut.descriptors]));
  }

  /** Then nothing in this process can hold the freeze up. Of several devices, others have to close first. */
  #takesCutsAtOnce(): boolean {
    return this.#devices.length === 1 && this.#options.quiet === undefined && this.#cuts().length > 0;
  }

  /** How long a freeze may last. */
  #budgetMs(): number {
    const budgets = this.#devices.flatMap(({ cut }) => cut?.budgetMs ?? []);
    return this.#options.freezeDeadlineMs ?? Math.min(FREEZE_DEADLINE_MS, ...budgets);
  }

  /** There is no instant. @returns what is to be thrown in place of the error */
  async abandon(error: unknown): Promise<unknown> {
    const end = await this.#frozen.thaw();
    await releaseHooks(this.#hooks, false);
    return end.intact || end.stuck.length === 0 ? error : stillFrozen(end.stuck, error);
  }

  /** The instant is taken. */
  async end(): Promise<Rested> {
    const end = await this.#frozen.thaw();
    const sinceMs = this.#frozenAtMs === null ? null : performance.now() - this.#frozenAtMs;
    const frozenMs = sinceMs === null || !end.intact ? sinceMs : end.heldMs;
    const troubles = await releaseHooks(this.#hooks, true);
    const exceptions = [...this.#plan.warnings, ...this.#frozen.exceptions];
    const allFrozen = end.intact && exceptions.length === 0;
    return {
      isApplication: end.intact && this.#hooks.length > 0 && troubles.length === 0,
      isFilesystem: this.#devices.map((_, index) => {
        const onIt = this.#plan.onDevices[index];
        return allFrozen && onIt !== undefined && this.#frozen.numbers.some((number) => onIt.has(number));
      }),
      warnings: [...exceptions, ...whyBroken(end), ...troubles],
      frozenMs,
    };
  }
}

interface Plan {
  readonly targets: readonly Filesystem[];
  /** Of writable file systems that will not be frozen. */
  readonly warnings: readonly string[];
  /** Of each device: the numbers of the file systems that lie on it. */
  readonly onDevices: readonly ReadonlySet<string>[];
}

const NOTHING_TO_FREEZE: Plan = { targets: [], warnings: [], onDevices: [] };

async function planOf(wish: RestOptions['freeze'], devices: readonly RestDevice[]): Promise<Plan> {
  const plan = await findPlan(wish, devices);
  for (const { path, writesBeside } of devices) {
    const below = writesBeside === undefined ? null : await filesystemNumberOf(writesBeside);
    const frozen = plan.targets.find(({ number }) => number === below);
    if (frozen === undefined) continue;
    throw new StillpointError('usage', {
      thing: frozen.path,
      reason: `it can't be frozen: the clone that is the instant of ${path} is made on it`,
      remedy: `Freeze only what lies in ${path}, or use another provider.`,
    });
  }
  return plan;
}

async function findPlan(wish: RestOptions['freeze'], devices: readonly RestDevice[]): Promise<Plan> {
  const shownAt = devices.flatMap((device) => device.shownAt);
  if (wish === 'none' || shownAt.length === 0) return NOTHING_TO_FREEZE;
  const { filesystems } = await findFilesystems(shownAt);
  const writable = filesystems.filter((filesystem) => !filesystem.readOnly);
  const found = await Promise.all(devices.map(async (device) => numbersOn(device.shownAt)));
  if (wish === 'auto') return { ...split(writable, 'other mounts hide it'), onDevices: found };
  const named = await filesystemsAt(wish);
  const missing = wish.filter((_, index) => named[index] === null);
  if (missing.length > 0) {
    throw new StillpointError('usage', {
      thing: missing.join(', '),
      reason: 'no file system is mounted there',
      remedy: 'Use mount points; "findmnt" lists them.',
    });
  }
  const wanted = new Map(
    named.flatMap((one) => (one === null || one.readOnly ? [] : [[one.number, one] as const])),
  );
  // In the order of stacking, as far as that is known.
  const known = new Set(writable.map(({ number }) => number));
  const unknown = [...wanted.values()].filter(({ number }) => !known.has(number));
  const chosen = writable.map((one) => wanted.get(one.number) ?? { ...one, mount: null });
  // On which device the others lie is the user's word, too.
  const byWord = unknown.map(({ number }) => number);
  const onDevices = found.map((numbers) => new Set([...numbers, ...byWord]));
  return { ...split([...unknown, ...chosen], 'it was not named'), onDevices };
}

async function numbersOn(shownAt: readonly string[]): Promise<ReadonlySet<string>> {
  const { filesystems } = shownAt.length === 0 ? { filesystems: [] } : await findFilesystems(shownAt);
  return new Set(filesystems.map(({ number }) => number));
}

function split(filesystems: readonly Filesystem[], why: string): Omit<Plan, 'onDevices'> {
  return {
    targets: filesystems.filter(({ mount }) => mount !== null),
    warnings: filesystems
      .filter(({ mount }) => mount === null)
      .map(({ path }) => `${path} was not frozen: ${why}`),
  };
}

interface FrozenSet extends Pick<Freeze, 'cut'> {
  /** Of file systems. */
  readonly numbers: readonly string[];
  /** Sentences about file systems that are of no kind that can be frozen. */
  readonly exceptions: readonly string[];
  /** Never rejects. */
  thaw(): Promise<ThawResult>;
}

const NOTHING_FROZEN: FrozenSet = {
  numbers: [],
  exceptions: [],
  cut: async () => undefined,
  thaw: async () => ({ intact: true, heldMs: 0 }),
};

/** A failure costs the kind, no more, unless it leaves something frozen. */
async function tryFreeze(targets: readonly Filesystem[], options: FreezeOptions): Promise<FrozenSet> {
  const mounts = targets.flatMap(({ mount }) => mount ?? []);
  if (mounts.length === 0) return NOTHING_FROZEN;
  try {
    const { unsupported, cut, thaw } = await freeze(mounts, options);
    const exceptions = unsupported.map((path) => {
      const type = targets.find(({ mount }) => mount?.path === path)?.type;
      return `${path} was not frozen: ${type} can't be`;
    });
    const frozen = targets.filter(({ mount }) => mount !== null && !unsupported.includes(mount.path));
    return { numbers: frozen.map(({ number }) => number), exceptions, cut, thaw };
  } catch (error) {
    if (!isStillpointError(error) || error.code === 'cancelled' || error.code === 'frozen') throw error;
    return {
      ...NOTHING_FROZEN,
      thaw: async () => ({ intact: false, reason: error.message, stuck: [] }),
    };
  }
}

function notFrozen(devices: readonly RestDevice[], end: ThawResult): StillpointError {
  return new StillpointError('device-changed', {
    thing: devices.map(({ path }) => path).join(', '),
    // As a warning it is a sentence.
    reason: end.intact ? 'none of its file systems can be frozen' : end.reason.replace(/\.$/, ''),
    remedy:
      'Thaw what another program has frozen (fsfreeze --unfreeze), give the freeze longer ' +
      '(--freeze-deadline), or go on without one: --freeze none.',
    permanent: false,
  });
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
