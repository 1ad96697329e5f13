/**
 * Brings everything on the devices of an instant to rest, and lets it go again:
 *
 *   hooks ready, in order → flush and freeze → … → thaw → hooks released, in reverse order
 *
 * Where others have to be at rest, too, before anything is frozen, it is flushed before that.
 *
 * Everything acquired is released, each with a deadline, also after a failure or cancellation.
 */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import type { AnnounceWish } from '../../domain/device/announce-wish.js';
import { native } from '../../native/index.js';
import { type Freeze, type FreezeOptions, freeze, type ThawResult } from './freeze.js';
import { type RunningHook, startHook } from './hooks.js';
import type { Filesystem } from './mounts.js';
import { type FreezePlan, type FreezeWish, NOTHING_TO_FREEZE, type PlanDevice, planOf } from './plan.js';
import { stillFrozen, thawByHand } from './thaw.js';

/** How it is brought to rest. */
export interface RestOptions {
  /** The name that its points have. */
  readonly name: string;
  /** Executables, in the order to start them. */
  readonly hooks: readonly string[];
  /** `auto`: every writable file system that is found on it. */
  readonly freeze: FreezeWish;
  /** The instant comes after so long without a write. */
  readonly quiet?: { readonly quietMs: number; readonly deadlineMs: number } | undefined;
  readonly freezeDeadlineMs?: number | undefined;
  /** For becoming ready, and again for ending. */
  readonly hookDeadlineMs?: number | undefined;
  /** Whom to tell, and how long before. Undefined: nobody. */
  readonly announce?: AnnounceWish | undefined;
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

export interface RestLimits extends RestSignals {
  /** Others have to close before anything is cut: the freeze does not take the cuts by itself. */
  readonly isCommon: boolean;
}

/** What the process that freezes needs to take the cut of a device. */
export interface Cutting {
  /** native/core/live/cut.h, in its order. */
  readonly descriptors: readonly number[];
  /** How long everybody may wait, if nobody says otherwise. */
  readonly budgetMs: number;
  /**
   * Of a file system that can't be frozen, once the cut is taken: whether nothing was written to the part of
   * the device that it lies on, from the last pass until all that it had in memory was written out. Then
   * what was read is the file system at the instant, as if it had been frozen. Never rejects.
   */
  wasAtRest?(filesystem: { readonly number: string; readonly path: string }): Promise<boolean>;
}

/** What is brought to rest. */
export interface RestDevice extends PlanDevice {
  /** Of a cut that is taken while all are frozen; undefined: there is none. */
  readonly cut?: Cutting | undefined;
  /** Its cut is a program of others, which all wait for: what a budget is for is not all that is done. */
  readonly cutsItself?: boolean | undefined;
}

/**
 * How long a freeze of them may last, if nobody says otherwise. Of several devices what each has to do comes
 * one after the other: freezing, closing, reading the rest.
 */
export function freezeBudgetMs(devices: readonly Pick<RestDevice, 'cut' | 'cutsItself'>[]): number {
  const budgets = devices.flatMap(({ cut }) => cut?.budgetMs ?? []);
  if (budgets.length === 0 || devices.some(({ cutsItself }) => cutsItself === true))
    return FREEZE_DEADLINE_MS;
  return Math.min(FREEZE_DEADLINE_MS, Math.min(...budgets) * devices.length);
}

/** One use. From `freeze` to `end` this process must write to none of the file systems. */
export class Rest {
  readonly #devices: readonly RestDevice[];
  readonly #options: RestOptions;
  readonly #signals: RestLimits;
  readonly #hooks: RunningHook[] = [];
  #plan: FreezePlan = NOTHING_TO_FREEZE;
  #frozen = NOTHING_FROZEN;
  #frozenAtMs: number | null = null;
  #cutsTaken: Promise<void> | null = null;

  constructor(devices: readonly RestDevice[], options: RestOptions, signals: RestLimits) {
    this.#devices = devices;
    this.#options = options;
    this.#signals = signals;
  }

  /**
   * Hooks, in order.
   * @param leftMs what is left of the time for all of it.
   * @throws StillpointError `usage` (a mount point that is none), of a hook, `cancelled`
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
  }

  /** So that the freeze has little to write. What can't be flushed now shows when it is frozen. */
  async flush(): Promise<void> {
    const { targets } = await planOf(this.#options.freeze, this.#devices);
    const paths = targets.flatMap(({ mount }) => mount?.path ?? []);
    await Promise.allSettled(paths.map((path) => native.syncFilesystem(path)));
  }

  /**
   * @param leftMs as above
   * @throws StillpointError `usage`, `cancelled`; a file system that can't be frozen is a warning
   */
  async freeze(leftMs: () => number): Promise<void> {
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
    if (this.#plan.targets.length > 0) {
      if (this.#frozen.isHeld) return this.#frozen.cut();
      throw notFrozen(this.#devices, await this.#frozen.thaw());
    }
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

  /** Then nothing in this process can hold the freeze up. */
  #takesCutsAtOnce(): boolean {
    return !this.#signals.isCommon && this.#options.quiet === undefined && this.#cuts().length > 0;
  }

  #budgetMs(): number {
    return this.#options.freezeDeadlineMs ?? freezeBudgetMs(this.#devices);
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
    const atRest = end.intact ? await this.#foundAtRest() : [];
    const open = this.#frozen.unsupported.filter((one) => !atRest.includes(one));
    const exceptions = [
      ...this.#plan.warnings,
      ...open.map(({ path, type }) => `${path} was not frozen: ${type} can't be`),
    ];
    const still = [...this.#frozen.numbers, ...atRest.map(({ number }) => number)];
    const allStill = end.intact && exceptions.length === 0;
    return {
      isApplication: end.intact && this.#hooks.length > 0 && troubles.length === 0,
      isFilesystem: this.#devices.map((_, index) => {
        const onIt = this.#plan.onDevices[index];
        return allStill && onIt !== undefined && still.some((number) => onIt.has(number));
      }),
      warnings: [...exceptions, ...whyBroken(end), ...troubles],
      frozenMs,
    };
  }

  /** @returns those that can't be frozen, and need not be: each device that they lie on vouches for them. */
  async #foundAtRest(): Promise<readonly Filesystem[]> {
    const found: Filesystem[] = [];
    for (const filesystem of this.#frozen.unsupported) {
      // A daemon has it in its own memory, too, where no flush reaches.
      if (filesystem.type.startsWith('fuse')) continue;
      const on = this.#devices.filter((_, index) => this.#plan.onDevices[index]?.has(filesystem.number));
      const answers = on.map(async ({ cut }) => (await cut?.wasAtRest?.(filesystem)) === true);
      if (on.length > 0 && (await Promise.all(answers)).every(Boolean)) found.push(filesystem);
    }
    return found;
  }
}

interface FrozenSet extends Pick<Freeze, 'cut'> {
  /** All that can be frozen were: cuts can be taken. */
  readonly isHeld: boolean;
  /** Of the file systems that were frozen. */
  readonly numbers: readonly string[];
  /** Of no kind that can be frozen. */
  readonly unsupported: readonly Filesystem[];
  /** Never rejects. */
  thaw(): Promise<ThawResult>;
}

const NOTHING_FROZEN: FrozenSet = {
  isHeld: false,
  numbers: [],
  unsupported: [],
  cut: async () => undefined,
  thaw: async () => ({ intact: true, heldMs: 0 }),
};

/** A failure costs the kind, no more, unless it leaves something frozen. */
async function tryFreeze(targets: readonly Filesystem[], options: FreezeOptions): Promise<FrozenSet> {
  const mounts = targets.flatMap(({ mount }) => mount ?? []);
  if (mounts.length === 0) return NOTHING_FROZEN;
  try {
    const { unsupported, cut, thaw } = await freeze(mounts, options);
    const canBe = ({ mount }: Filesystem): boolean => mount !== null && !unsupported.includes(mount.path);
    return {
      ...{ isHeld: true, cut, thaw },
      numbers: targets.filter(canBe).map(({ number }) => number),
      unsupported: targets.filter((one) => !canBe(one)),
    };
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
    reason: end.intact ? 'its file systems are not frozen' : end.reason.replace(/\.$/, ''),
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
