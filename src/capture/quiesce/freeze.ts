/**
 * Freezes file systems through a separate process, stillpoint-freezer, which thaws them whatever happens to
 * this one (its protocol and its threads are described in native/freezer/freezer.cc). The two watch each
 * other:
 *
 * | what fails                        | who thaws                                            | worth  |
 * |-----------------------------------|------------------------------------------------------|--------|
 * | nothing                           | the freezer, when `thaw` tells it                    | intact |
 * | this process dies, hangs, is slow | the freezer: its stdin closes, or at its deadline    | broken |
 * | the freezer dies or is stopped    | this process: at once, or a grace after the deadline | broken |
 * | it dies with one still in flight  | this process, when the kernel has let go of it       | broken |
 * | somebody else thaws               | -                                                    | broken |
 * | both die                          | the next start of an agent (left-frozen.ts)          | -      |
 *
 * From `freeze` to the thaw this process must not write to any of these file systems: it would wait for
 * itself.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { constants } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { type FreezeTarget, noteFreeze } from './left-frozen.js';
import { FREEZER, freezerArgument, stillFrozen, thawAll, thawLeftFrozen } from './thaw.js';

export type { FreezeTarget } from './left-frozen.js';

export type ThawResult =
  /**
   * It was frozen the whole time until `thaw` was called, or the cuts were taken: for `heldMs`, from the
   * first file system that began to be frozen.
   */
  | { readonly intact: true; readonly heldMs: number }
  /** `reason` is a clause; `stuck` are mount points that are still frozen. */
  | { readonly intact: false; readonly reason: string; readonly stuck: readonly string[] };

export interface Freeze {
  /** Mount points of file systems that can't be frozen (FAT, most of FUSE); the others are. */
  readonly unsupported: readonly string[];
  /**
   * Takes the cuts, if they are not taken by themselves, and resolves when they are, or it is over: what has
   * become of each is in its memory. Never rejects.
   */
  cut(): Promise<void>;
  /** Within the freezer's deadline and a grace, at worst. Never rejects; the same result a second time. */
  thaw(): Promise<ThawResult>;
}

export interface FreezeOptions {
  readonly deadlineMs: number;
  /** How long flushing before it may take; it stops nobody. */
  readonly flushDeadlineMs?: number;
  /**
   * What else is to be done while all are frozen (native/core/live/cut.h): the descriptors of each cut. With
   * `once` they are taken and everything is thawed without another word, so that nothing waits for this
   * process.
   */
  readonly cuts?: readonly (readonly number[])[];
  readonly once?: boolean;
  readonly signal?: AbortSignal | undefined;
}

const FLUSH_DEADLINE_MS = 120_000;
/** After its deadline the freezer has this long to say that it has thawed. */
const GRACE_MS = 2_000;
const STANDARD_FILES = 3;
const OUTPUT_CHARS_MAX = 64 * 1024;

const REASONS: Readonly<Record<string, string>> = {
  deadline: 'the freeze had to end at its deadline',
  signal: 'the freeze was ended by a signal',
  closed: 'the freeze was ended from outside',
  lost: 'another program thawed a file system meanwhile',
};

/**
 * Flushes the file systems, then freezes them in this order. Where one can't be frozen, those
 * before it are thawed again.
 * @throws StillpointError `device-io`, `cancelled`; `frozen`: one could not be thawed again
 */
export async function freeze(targets: readonly FreezeTarget[], options: FreezeOptions): Promise<Freeze> {
  const { signal, deadlineMs } = options;
  const { cuts = [], once = false } = options;
  await thawLeftFrozen();
  const forget = await noteFreeze(targets);
  if (signal?.aborted === true) {
    await forget();
    throw new StillpointError('cancelled', { thing: 'file systems', reason: 'freezing them was cancelled' });
  }
  const names = targets.map(({ path }) => path);
  const child = spawn(
    FREEZER,
    [String(deadlineMs), ...cutArguments(cuts), ...(once ? ['--once'] : []), ...targets.map(freezerArgument)],
    { stdio: ['pipe', 'pipe', 'ignore', ...cuts.flat()] },
  );
  const freezer = new Freezer(child, targets);
  const ended = freezer.ended.then(async (end) => {
    if (!end.intact && end.stuck.length > 0) return end;
    if (freezer.isInFlight) void freezer.landed().then((isThawed) => (isThawed ? forget() : undefined));
    else await forget();
    return end;
  });
  const flushing = setTimeout(() => freezer.giveUp('timeout'), options.flushDeadlineMs ?? FLUSH_DEADLINE_MS);
  const abort = (): void => freezer.giveUp('cancelled');
  signal?.addEventListener('abort', abort, { once: true });
  freezer.onFreezing = () => {
    clearTimeout(flushing);
    freezer.watch(deadlineMs + GRACE_MS);
  };
  try {
    await freezer.frozenOrEnded;
  } finally {
    clearTimeout(flushing);
    signal?.removeEventListener('abort', abort);
  }
  if (freezer.isHeld) {
    return {
      unsupported: pick(names, freezer.unsupported),
      cut: () => freezer.cut(once),
      // It thaws by itself; told to, it might do so before the cuts.
      thaw: async () => {
        if (!once || cuts.length === 0) freezer.thaw();
        const end = await ended;
        // The memory of a cut is locked by it, and another freeze may want it at once.
        if (cuts.length > 0) await freezer.gone();
        return end;
      },
    };
  }
  const end = await ended;
  throw freezer.failure(end, names);
}

/** Of each its first descriptor in the child. */
function cutArguments(cuts: readonly (readonly number[])[]): string[] {
  let next = STANDARD_FILES;
  return cuts.flatMap((descriptors) => {
    const first = next;
    next += descriptors.length;
    return ['--cut', String(first)];
  });
}

function pick<T>(all: readonly T[], indexes: Iterable<number>): T[] {
  return [...indexes].flatMap((index) => all[index] ?? []);
}

/** What the child says, one line at a time, and what becomes of it. */
class Freezer {
  readonly unsupported = new Set<number>();
  isHeld = false;
  onFreezing: () => void = () => undefined;
  /** Resolves once all are frozen, or the end has come. */
  readonly frozenOrEnded: Promise<void>;
  readonly ended: Promise<ThawResult>;

  readonly #child: ChildProcess;
  readonly #targets: readonly FreezeTarget[];
  readonly #exited: Promise<unknown>;
  readonly #stuck = new Set<number>();
  #freezing = -1;
  #failed: { readonly index: number; readonly errno: number } | null = null;
  #gaveUp: 'timeout' | 'cancelled' | null = null;
  #startError: Error | null = null;
  #end: (result: ThawResult) => void = () => undefined;
  #frozen: () => void = () => undefined;
  readonly #cutsTaken: Promise<void>;
  #tookCuts: () => void = () => undefined;
  #isSettled = false;
  #thawed = false;
  #dead = false;
  #rescued = false;
  #overdue: NodeJS.Timeout | undefined;

  constructor(child: ChildProcess, targets: readonly FreezeTarget[]) {
    this.#child = child;
    this.#targets = targets;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#cutsTaken = new Promise((resolve) => {
      this.#tookCuts = resolve;
    });
    this.frozenOrEnded = Promise.race([
      new Promise<void>((resolve) => {
        this.#frozen = resolve;
      }),
      this.ended.then(() => undefined),
    ]);
    this.#exited = new Promise((resolve) => {
      child.once('close', resolve);
      child.once('error', (error) => {
        this.#startError = error;
        resolve(error);
      });
    });
    // EPIPE: it is dead, and `close` tells.
    child.stdin?.on('error', () => undefined);
    let text = '';
    child.stdout?.setEncoding('utf8').on('data', (chunk: string) => {
      const lines = (text + chunk).split('\n');
      text = (lines.pop() ?? '').slice(0, OUTPUT_CHARS_MAX);
      for (const line of lines) this.#hear(line);
    });
    void this.#exited.then(() => {
      this.#dead = true;
      if (!this.#thawed) void this.#rescue('the freezer died');
    });
  }

  async cut(once: boolean): Promise<void> {
    if (!once) this.#child.stdin?.write('cut\n');
    await Promise.race([this.#cutsTaken, this.ended]);
  }

  thaw(): void {
    this.#child.stdin?.end('thaw\n');
  }

  /** Whether one is inside of FIFREEZE, as far as is known here. */
  get isInFlight(): boolean {
    const index = this.#freezing;
    return !this.#isSettled && index >= 0 && !this.unsupported.has(index) && this.#failed === null;
  }

  /**
   * After `thawed`, with one in flight: the freezer thaws it when the kernel returns, unless it is killed
   * before that. @returns whether it is thawed
   */
  async landed(): Promise<boolean> {
    await this.#exited;
    const target = this.#targets[this.#freezing];
    if (this.#child.exitCode === 0 || target === undefined) return true;
    return (await thawAll([target])).length === 0;
  }

  /** It has exited, or takes too long for that. */
  async gone(): Promise<void> {
    const waiting = new AbortController();
    // The timer keeps this process going: a freezer that has thawed does not.
    const patience = sleep(GRACE_MS, undefined, { signal: waiting.signal }).catch(() => undefined);
    await Promise.race([this.#exited, patience]);
    waiting.abort();
  }

  /** Before all are frozen: those that are, are thawed. */
  giveUp(why: 'timeout' | 'cancelled'): void {
    this.#gaveUp ??= why;
    this.isHeld = false;
    this.#child.stdin?.end();
    this.watch(GRACE_MS);
  }

  /** If it has not thawed by then, it is made to. */
  watch(afterMs: number): void {
    clearTimeout(this.#overdue);
    this.#overdue = setTimeout(() => void this.#force(), afterMs);
  }

  async #force(): Promise<void> {
    // Stopped by somebody: its deadline has passed, it thaws as soon as it runs.
    this.#child.kill('SIGCONT');
    await Promise.race([this.ended, sleep(GRACE_MS)]);
    if (this.#thawed) return;
    this.#child.kill('SIGKILL');
    // Dead only when the kernel has ended its FIFREEZE: what was thawed before could be frozen again.
    await Promise.race([this.#exited, sleep(GRACE_MS)]);
    await this.#rescue('the freezer did not answer');
  }

  failure(end: ThawResult, names: readonly string[]): StillpointError {
    const thing = names[this.#failed?.index ?? this.#freezing] ?? names[0] ?? 'file systems';
    if (!end.intact && end.stuck.length > 0) return stillFrozen(end.stuck, this.#startError);
    const about = { thing, permanent: false };
    if (this.#gaveUp === 'cancelled')
      return new StillpointError('cancelled', { ...about, reason: 'it was cancelled' });
    if (this.#gaveUp === 'timeout') {
      return new StillpointError('device-io', {
        ...about,
        reason: 'flushing it before the freeze took too long',
      });
    }
    if (this.#startError !== null) {
      return new StillpointError('device-io', {
        thing: FREEZER,
        reason: `it can't be started: ${this.#startError.message}`,
        cause: this.#startError,
      });
    }
    const reason = this.#failed === null ? whyEnded(end) : whyFailed(this.#failed.errno);
    return new StillpointError('device-io', { ...about, reason: `it can't be frozen: ${reason}` });
  }

  #hear(line: string): void {
    const [event, first = '', second = ''] = line.split(' ');
    const index = Number(first);
    switch (event) {
      case 'freezing':
        this.#freezing = index;
        if (index === 0) this.onFreezing();
        break;
      case 'unsupported':
        this.unsupported.add(index);
        break;
      case 'failed':
        this.#failed = { index, errno: Number(second) };
        break;
      case 'unable':
        this.#failed = { index: 0, errno: index };
        break;
      case 'stuck':
        this.#stuck.add(index);
        break;
      case 'cut':
        this.#tookCuts();
        break;
      case 'frozen':
        if (this.#targets.length === 0) this.onFreezing();
        this.#isSettled = true;
        // Given up, it is thawed at once.
        this.isHeld = this.#gaveUp === null;
        this.#frozen();
        break;
      case 'thawed':
        this.#hearThawed(first, Number(second));
        break;
    }
  }

  #hearThawed(word: string, heldUs: number): void {
    this.#thawed = true;
    clearTimeout(this.#overdue);
    // A file system whose freezing has not returned yet keeps it alive; it needs nobody to wait for it.
    this.#child.unref();
    if (this.#stuck.size > 0) void this.#rescue('a file system could not be thawed');
    else if (word === 'intact') this.#end({ intact: true, heldMs: heldUs / 1000 });
    else this.#end({ intact: false, reason: REASONS[word] ?? 'the freeze failed', stuck: [] });
  }

  /** Thaws what the freezer may have left frozen. Once; the result is the end. */
  async #rescue(reason: string): Promise<void> {
    if (this.#rescued) return;
    this.#rescued = true;
    clearTimeout(this.#overdue);
    const left = this.#targets
      .slice(0, this.#freezing + 1)
      .filter((_, index) => !this.unsupported.has(index));
    let stuck = await thawAll(left);
    if (!this.#dead) {
      // Its FIFREEZE may have been waiting for what is thawed now, and freeze in dying.
      await Promise.race([this.#exited, sleep(GRACE_MS)]);
      stuck = await thawAll(left);
    }
    this.#end({ intact: false, reason, stuck });
  }
}

const whyEnded = (end: ThawResult): string => (end.intact ? 'it was thawed too early' : end.reason);

function whyFailed(errno: number): string {
  const { EBUSY, ESTALE, EPERM, EACCES } = constants.errno;
  if (errno === EBUSY) return 'another program has already frozen it';
  if (errno === ESTALE) return 'its mount point now shows another file system';
  if (errno === EPERM || errno === EACCES) return 'only root may do that';
  return Object.entries(constants.errno).find(([, value]) => value === errno)?.[0] ?? `error ${errno}`;
}
