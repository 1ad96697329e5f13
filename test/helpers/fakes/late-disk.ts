/**
 * A disk in memory that is copied in passes, as one under a live provider: it changes between the passes and
 * while they are read. It knows itself what it held at each instant, and which blocks could not be read.
 */
import { NO_REST, snapshotsOf } from '../../../src/capture/instant.js';
import type { HoldOptions, Member, SnapshotProvider, Tracking } from '../../../src/capture/ports.js';
import { inSteps } from '../../../src/capture/steps.js';
import { type BlockRange, mergeRanges, withoutRanges } from '../../../src/domain/blocks/block-ranges.js';
import { createMemoryDevice, type MemoryDevice } from '../../../src/native/testing.js';
import { stampedBlock } from '../bytes/stamped-blocks.js';

const BLOCK = 65_536;
const SECTOR = 512;
/** Its place in each block that has one. */
const BAD_OFFSET = 3 * SECTOR;

export interface LateDiskOptions {
  readonly blockCount: number;
  readonly seed: number;
  /** So many blocks are left for the instant. */
  readonly heldMax?: number;
}

export class LateDisk {
  readonly device: MemoryDevice;
  readonly blockCount: number;
  /** Done when a pass is asked for, with its number from 1: what is written here comes in it. */
  beforePass: (pass: number) => Promise<void> | void = () => undefined;
  /** Done when a pass was told: what is written here comes in a later one. */
  duringPass: (pass: number) => Promise<void> | void = () => undefined;
  /** Done at each instant, before it is taken. It may throw: then it is not reached. */
  beforeCut: () => Promise<void> | void = () => undefined;
  mayTryAgain = true;
  /** Blocks whose changes are not seen, as by a tracker with a fault. */
  readonly unseen = new Set<number>();
  sample: readonly number[] = [];
  readonly holds: HoldOptions[] = [];
  /** At the last instant. */
  atInstant: Buffer = Buffer.alloc(0);
  /** Blocks that could not be read whole when they were read last. */
  readonly badlyRead = new Set<number>();
  isHeld = false;
  isCommitted = false;
  readonly #seed: number;
  readonly #heldMax: number;
  readonly #contents: Buffer;
  readonly #bad = new Set<number>();
  #pointId: string | null = null;
  #sincePoint = new Set<number>();
  #sincePass = new Set<number>();
  #sinceInstant = new Set<number>();

  constructor({ blockCount, seed, heldMax = 0 }: LateDiskOptions) {
    this.blockCount = blockCount;
    this.#seed = seed;
    this.#heldMax = heldMax;
    this.device = createMemoryDevice(blockCount * BLOCK);
    this.#contents = Buffer.alloc(blockCount * BLOCK);
  }

  /** As `providerOf`: for one backup after the other. */
  get provider(): SnapshotProvider {
    return snapshotsOf('late', (_path, options) => this.#prepare(options), NO_REST);
  }

  contentOf(blockIndex: number): Buffer {
    return Buffer.from(this.#contents.subarray(blockIndex * BLOCK, (blockIndex + 1) * BLOCK));
  }

  /** @param generation 0: zeros */
  stamp(blockIndex: number, generation: number): Promise<void> {
    const bytes =
      generation === 0
        ? Buffer.alloc(BLOCK)
        : stampedBlock({ seed: this.#seed, blockIndex, generation }, BLOCK);
    return this.write(blockIndex, bytes);
  }

  write(blockIndex: number, bytes: Buffer, offset = 0): Promise<void> {
    bytes.copy(this.#contents, blockIndex * BLOCK + offset);
    if (!this.unseen.has(blockIndex)) {
      for (const map of [this.#sincePoint, this.#sincePass, this.#sinceInstant]) map.add(blockIndex);
    }
    return this.device.write(blockIndex * BLOCK + offset, bytes);
  }

  /** Only between passes. */
  setBad(blockIndex: number, isBad: boolean): void {
    if (isBad) this.#bad.add(blockIndex);
    else this.#bad.delete(blockIndex);
    this.device.clearFaults();
    for (const index of this.#bad) this.device.addBadRange(index * BLOCK + BAD_OFFSET, SECTOR);
  }

  async #prepare(options: HoldOptions): Promise<Member> {
    this.holds.push(options);
    [this.isHeld, this.isCommitted] = [true, false];
    const isKnown = this.#pointId !== null && this.#pointId === options.basePointId;
    const base = isKnown && !options.full && options.doubt === null ? [...this.#sincePoint] : null;
    let isBegun = false;
    let pass = 0;
    const { device } = this;
    const identity = { type: 'image', path: '/late', logicalSectorSize: SECTOR } as const;
    const rangesNow = (): BlockRange[] => {
      const everything: BlockRange[] = [[0, this.blockCount]];
      const first = base === null ? everything : toRanges(base);
      return mergeRanges(isBegun ? [] : first, [...toBlocks(toRanges(this.#sincePass))]);
    };
    return inSteps({
      ...{ path: '/late', shownAt: [], barrier: 'freeze' },
      passes: {
        ...{ device, identity, warnings: ['it changes'] },
        tracking: this.#tracking(base === null ? null : toRanges(base), options),
        next: async () => {
          await this.beforePass(pass + 1);
          const ranges = rangesNow();
          if (toBlocks(ranges).length <= this.#heldMax) return null;
          pass += 1;
          isBegun = true;
          this.#sincePass = new Set();
          this.#noteRead(toBlocks(ranges));
          await this.duringPass(pass);
          return ranges;
        },
        again: async () => this.mayTryAgain,
      },
      close: async () => null,
      open: async () => undefined,
      cut: async () => {
        await this.beforeCut();
        const ranges = rangesNow();
        const sample = withoutRanges(toRanges(this.sample), ranges);
        const left = this.#rest(toBlocks(mergeRanges(ranges, toBlocks(sample))));
        const instant = new Date();
        this.atInstant = Buffer.from(this.#contents);
        this.#sinceInstant = new Set();
        const tracking = this.#tracking(ranges, options, toBlocks(sample));
        return {
          ...{ instant, kind: null, closedMs: null },
          view: async (kind) => ({
            ...{ device: await left, identity, instant, kind, tracking },
            warnings: ['it changes', 'it was cut'],
            conclude: async () => ({ kind, warnings: [], facts: { of: 'the member' } }),
            release: async () => {
              await (await left).close();
              this.isHeld = false;
            },
          }),
        };
      },
      release: async () => {
        this.isHeld = false;
      },
    });
  }

  #noteRead(blocks: readonly number[]): void {
    for (const blockIndex of blocks) {
      if (this.#bad.has(blockIndex)) this.badlyRead.add(blockIndex);
      else this.badlyRead.delete(blockIndex);
    }
  }

  /** Of all others nothing true can be read. */
  async #rest(blocks: readonly number[]): Promise<MemoryDevice> {
    this.#noteRead(blocks);
    const rest = createMemoryDevice(this.blockCount * BLOCK);
    const contents = Buffer.alloc(this.blockCount * BLOCK, 0xee);
    for (const blockIndex of blocks) {
      this.contentOf(blockIndex).copy(contents, blockIndex * BLOCK);
      if (this.#bad.has(blockIndex)) rest.addBadRange(blockIndex * BLOCK + BAD_OFFSET, SECTOR);
    }
    await rest.write(0, contents);
    return rest;
  }

  #tracking(
    ranges: readonly BlockRange[] | null,
    { sessionId }: HoldOptions,
    sample: readonly number[] | null = null,
  ): Tracking {
    const isOfInstant = sample !== null;
    return {
      changes: ranges === null ? null : { ranges, sample: sample ?? [] },
      reason: 'it says so',
      knows: (pointId) => pointId === this.#pointId,
      committed: async () => {
        if (!isOfInstant) throw new Error('there was no instant');
        this.isCommitted = true;
        this.#pointId = sessionId;
        this.#sincePoint = this.#sinceInstant;
        this.#sinceInstant = new Set();
      },
      adopt: async () => undefined,
    };
  }
}

export function toBlocks(ranges: readonly BlockRange[]): number[] {
  return ranges.flatMap(([start, end]) => Array.from({ length: end - start }, (_, i) => start + i));
}

function toRanges(blocks: Iterable<number>): BlockRange[] {
  return mergeRanges(
    [],
    [...blocks].sort((a, b) => a - b),
  );
}
