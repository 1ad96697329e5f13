/**
 * How finely writes to a device are tracked. The finer, the less has to be read again (at 4 KiB, random
 * writes of that size cost a sixteenth of what they cost at 64 KiB); but marks take memory of the kernel.
 */
import { KiB, MiB } from '../base/limits.js';

const GRAIN_BYTES_MIN = 4 * KiB;
const GRAIN_BYTES_MAX = 4 * MiB;
/** Done, queued, kept: native/core/track/tracker.h. */
const MAPS = 3;
/** A map larger than this is refused by the kernel's verifier. */
const MAP_BYTES_MAX = 256 * MiB;
/** Of the machine's memory. */
const SHARE = 1 / 64;
/** Everybody has so much. */
const BYTES_FREE = 3 * MiB;

/** @returns the finest whose marks take up to a 64th of the memory: at 4 KiB that is 96 MiB for 1 TiB. */
export function grainBytesFor(sizeBytes: number, memoryBytes: number): number {
  const bytesMax = Math.max(BYTES_FREE, memoryBytes * SHARE);
  let grainBytes = GRAIN_BYTES_MIN;
  for (; grainBytes < GRAIN_BYTES_MAX; grainBytes *= 2) {
    const mapBytes = sizeBytes / grainBytes / 8;
    if (mapBytes <= MAP_BYTES_MAX && mapBytes * MAPS <= bytesMax) break;
  }
  return grainBytes;
}
