/**
 * Devices with faults and digests with keys: only for tests and benchmarks, so the index does not have them.
 */
import { native } from './addon.js';
import type { Device } from './border/device.js';
import type { Digester } from './border/digest.js';
import type { Tracker, TrackTarget } from './border/track.js';

/** In memory, with faults, for tests of everything above it. */
export interface MemoryDevice extends Device {
  /**
   * Reads that touch the range fail with EIO; after `failures` of them (default: for
   * ever) they succeed again.
   */
  addBadRange(byteOffset: number, byteLength: number, failures?: number): void;
  addBadWriteRange(byteOffset: number, byteLength: number): void;
  clearFaults(): void;
  /** Every read waits so long first: to have work in flight when a test closes or cancels. */
  setReadDelayMs(delayMs: number): void;
  /** Also after close(), which waits for them. */
  readsInFlight(): number;
}

interface TestingAddon {
  /** @param key 32 bytes */
  keyedDigester(key: Uint8Array): Digester;
  createMemoryDevice(sizeBytes: number, options?: { logicalSectorSize?: number }): MemoryDevice;
  /** With `marksDoneWhenQueued` it is wrong: a write with its mark may not have reached the device yet. */
  attachTracker(
    directory: string,
    target: TrackTarget & { readonly marksDoneWhenQueued?: boolean },
  ): Promise<Tracker>;
}

export const { attachTracker, createMemoryDevice, keyedDigester } = native as typeof native & TestingAddon;
