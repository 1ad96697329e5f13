/** Providers in memory, for what is above them. */
import { setTimeout as sleep } from 'node:timers/promises';
import type {
  HoldOptions,
  Member,
  Passes,
  Probe,
  Provider,
  TrackedChanges,
  Tracking,
} from '../../../src/capture/ports.js';
import { inSteps } from '../../../src/capture/steps.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { BlockRange } from '../../../src/domain/blocks/block-ranges.js';
import type { ConsistencyKind } from '../../../src/domain/point/point.js';
import { createMemoryDevice, type MemoryDevice } from '../../../src/native/testing.js';

export interface FakeProviderOptions {
  /** Why it can't take the device; undefined: it can. */
  readonly refusal?: string;
  readonly isSetUp?: boolean;
  readonly takesDevicesInUse?: boolean;
  /** All that it takes, by its name; undefined: whoever prepares it fails. */
  readonly disk?: FakeDisk;
}

export function fakeProvider(name: string, options: FakeProviderOptions): Provider {
  const { refusal, isSetUp = false, takesDevicesInUse = true, disk } = options;
  const gain = { kinds: ['crash'], changes: 'nowhere', cost: 'nothing', seenAs: [] } as const;
  return {
    name,
    takesDevicesInUse,
    probe: async ({ path: thing }): Promise<Probe> => {
      const why = refusal ?? (disk !== undefined && disk.name !== thing ? 'it is another disk' : undefined);
      if (why !== undefined) {
        const about = { thing, reason: why, remedy: 'Wake it.' };
        return { ...gain, possible: false, isSetUp, refusal: new StillpointError('usage', about) };
      }
      const prepare = (hold: HoldOptions): Promise<Member> =>
        disk?.prepare(hold) ?? Promise.reject(new Error(`${name} has no disk`));
      return { ...gain, possible: true, reason: `${name} can`, prepare };
    },
  };
}

export type Step = 'prepare' | 'next' | 'again' | 'close' | 'open' | 'cut' | 'view' | 'release';

export interface FakeDiskOptions {
  readonly barrier?: Member['barrier'];
  readonly shownAt?: readonly string[];
  /** What it vouches for itself. */
  readonly kind?: ConsistencyKind;
  /** It copies in passes. */
  readonly isLate?: boolean;
  /** Its view is the disk itself, and nothing proves that it stood still. */
  readonly isUnproven?: boolean;
  /** Shared with others: what was done, in order. */
  readonly log?: string[];
}

const BLOCK = 4096;
const BLOCKS = 8;

/**
 * A disk with a gate, in the way of a tap: writes wait while it is closed, and let themselves in at its
 * limit. It gives one snapshot at a time, a copy; or if it is late, a copy of what is left after its passes.
 */
export class FakeDisk {
  readonly name: string;
  readonly log: string[];
  /** Done before a step: may wait, may throw. */
  before: Partial<Record<Step, () => Promise<void> | void>> = {};
  /** As if nothing had been written for so long. */
  quietMs: number | null = null;
  /** Its answer to whether another try may reach an instant. */
  mayTryAgain = false;
  readonly #options: FakeDiskOptions;
  readonly #device: MemoryDevice = createMemoryDevice(BLOCK * BLOCKS);
  #closedUntilMs = 0;
  #inFlight = 0;
  #isTaken = false;
  #dirty = new Set<number>();
  #isBegun = false;

  constructor(name: string, options: FakeDiskOptions = {}) {
    this.name = name;
    this.log = options.log ?? [];
    this.#options = options;
  }

  get isClosed(): boolean {
    return performance.now() < this.#closedUntilMs;
  }

  /** Nothing is prepared or held. */
  get isFree(): boolean {
    return !this.#isTaken && !this.isClosed;
  }

  /** @returns when it is answered. */
  async write(block: number, byte: number): Promise<void> {
    while (this.isClosed) await sleep(1);
    this.#inFlight += 1;
    this.#dirty.add(block);
    await this.#device.write(block * BLOCK, Buffer.alloc(BLOCK, byte));
    this.#inFlight -= 1;
  }

  read(byteOffset: number, byteLength: number): Promise<Buffer> {
    return this.#device.read(byteOffset, byteLength);
  }

  async prepare(_options: HoldOptions): Promise<Member> {
    await this.#step('prepare');
    if (this.#isTaken) {
      const about = { thing: this.name, reason: 'another session holds it', permanent: false };
      throw new StillpointError('session-busy', about);
    }
    this.#isTaken = true;
    this.#isBegun = false;
    const { barrier = 'gate', shownAt = [], kind = null, isLate = false, isUnproven = false } = this.#options;
    const free = async (): Promise<void> => {
      await this.#step('release');
      this.#closedUntilMs = 0;
      this.#isTaken = false;
    };
    return inSteps({
      ...{ path: this.name, barrier, shownAt },
      ...(isLate ? { passes: this.#passes() } : {}),
      ...(this.quietMs === null ? {} : { quietMs: async () => this.quietMs ?? 0 }),
      close: async ({ closedMs }) => {
        await this.#step('close');
        if (barrier === 'gate') this.#closedUntilMs = performance.now() + closedMs;
        while (this.#inFlight > 0) await sleep(1);
        return this.quietMs;
      },
      open: async () => {
        await this.#step('open');
        this.#closedUntilMs = 0;
      },
      cut: async () => {
        await this.#step('cut');
        const device = createMemoryDevice(BLOCK * BLOCKS);
        await device.write(0, await this.#device.read(0, BLOCK * BLOCKS));
        const instant = new Date();
        const left = isLate ? this.#takeDirty() : null;
        this.#closedUntilMs = 0;
        const view = async (reached: ConsistencyKind) => {
          await this.#step('view');
          return {
            ...{ instant, kind: reached, warnings: [], identity: this.#identity },
            device: isUnproven ? this.#device : device,
            ...(left === null ? {} : { tracking: tracking({ ranges: left, sample: [] }) }),
            conclude: async () => ({
              ...{ kind: reached, warnings: [] },
              ...(isUnproven ? { unproven: 'its times say nothing' } : {}),
            }),
            release: async () => {
              await device.close();
              if (this.#isTaken) await free();
            },
          };
        };
        return { instant, kind, closedMs: barrier === 'gate' ? 1 : null, view };
      },
      release: free,
    });
  }

  async #step(step: Step): Promise<void> {
    this.log.push(`${this.name} ${step}`);
    await this.before[step]?.();
  }

  get #identity() {
    return { type: 'image', path: this.name, logicalSectorSize: 512 } as const;
  }

  #passes(): Passes {
    return {
      ...{ device: this.#device, identity: this.#identity, warnings: [], tracking: tracking(null) },
      next: async () => {
        await this.#step('next');
        if (this.#isBegun && this.#dirty.size === 0) return null;
        return this.#takeDirty();
      },
      again: async () => {
        await this.#step('again');
        return this.mayTryAgain;
      },
    };
  }

  /** At first everything. */
  #takeDirty(): BlockRange[] {
    const blocks = [...this.#dirty].sort((a, b) => a - b);
    const isFirst = !this.#isBegun;
    this.#isBegun = true;
    this.#dirty = new Set();
    return isFirst ? [[0, BLOCKS]] : blocks.map((block) => [block, block + 1]);
  }
}

function tracking(changes: TrackedChanges | null): Tracking {
  return {
    ...{ changes, reason: 'it is a fake' },
    knows: () => false,
    committed: async () => undefined,
    adopt: async () => undefined,
  };
}
