/**
 * A store with a clock of the test's own, and sessions of small devices in it: for what is kept for a
 * time, and then collected.
 */
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { createStore, openStore, type StoreOptions } from '../../../src/store/open.js';
import type { Capture, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../bytes/digests.js';
import { type BatchItem, makeBatch } from '../bytes/hand-made-batch.js';
import { tempDir } from '../disks/temp-dir.js';
import { listFiles } from '../faults/disk.js';
import {
  change,
  changesBetween,
  type DeviceState,
  describe,
  emptyState,
  sendChanges,
  stampedBlock,
} from './store-device.js';

export const BLOCK = 4 * KiB;
export const HOUR_MS = 3_600_000;
export const KEEP_MS = 24 * HOUR_MS;
export const EMPTY = emptyState({ sizeBytes: 100 * BLOCK, blockSize: BLOCK });

export class CollectWorld {
  readonly dir: string;
  nowMs = Date.parse('2026-01-01T00:00:00.000Z');
  readonly log: string[] = [];
  store!: Store;

  constructor(dir: string) {
    this.dir = dir;
  }

  static async make(t: ExecutionContext, options: StoreOptions = {}): Promise<CollectWorld> {
    const world = new CollectWorld(join(await tempDir(t), 'store'));
    await createStore(world.dir);
    await world.open(options);
    t.teardown(() => world.store.close());
    return world;
  }

  async open(options: StoreOptions = {}): Promise<void> {
    this.store = await openStore(this.dir, {
      ...{ now: () => new Date(this.nowMs), keepPartialMs: KEEP_MS, packBytesTarget: 6 * KiB },
      log: (message) => this.log.push(message),
      ...options,
    });
  }

  async reopen(options: StoreOptions = {}): Promise<void> {
    await this.store.close();
    await this.open(options);
  }

  async collectAfter(hours: number): Promise<void> {
    this.nowMs += hours * HOUR_MS;
    await this.store.collect();
  }

  /** A session with these blocks, each of the seed that equals its index plus `seed`; open. */
  async begin(device: string, indexes: readonly number[], seed: number): Promise<Capture> {
    const capture = await this.store.createCapture(describe(device, EMPTY, await this.baseId(device)));
    await sendChanges(capture, changesBetween(null, state(indexes, seed)));
    return capture;
  }

  async baseId(device: string): Promise<string | null> {
    return (await this.store.baseFor({ agent: 'alpha', device }))?.id ?? null;
  }

  partialSets() {
    return this.store.partialSets({ agent: 'alpha' });
  }

  async packs(): Promise<string[]> {
    return (await listFiles(this.dir)).filter((name) => name.startsWith('packs/'));
  }

  async records(): Promise<string[]> {
    return (await listFiles(this.dir)).filter((name) => name.startsWith('partial/'));
  }

  async isSound(t: ExecutionContext, what: string): Promise<void> {
    for await (const event of this.store.verify({}))
      t.not(event.type, 'finding', `${what}: ${JSON.stringify(event)}`);
  }
}

export function state(indexes: readonly number[], seed: number): DeviceState {
  return change(
    EMPTY,
    indexes.map((index) => [index, seed + index]),
  );
}

export const digestOf = (index: number, seed: number) => PLAIN.leafDigest(stampedBlock(seed + index, BLOCK));
export const range = (from: number, to: number) => Array.from({ length: to - from }, (_, i) => from + i);

export async function isHeld(capture: Capture, index: number, seed: number): Promise<boolean> {
  return (await capture.have(digestOf(index, seed))).has(0);
}

/** As `held` entries of one batch. */
export async function sendHeld(
  capture: Capture,
  sequence: number,
  indexes: readonly number[],
  seed: number,
): Promise<void> {
  const items: BatchItem[] = indexes.map((blockIndex) => ({
    blockIndex,
    held: digestOf(blockIndex, seed),
  }));
  await capture.append(sequence, makeBatch(capture.description.sessionId, sequence, items));
}
