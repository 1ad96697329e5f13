/**
 * The quiet-I/O watch, for devices whose writes nobody sees but the kernel's counters: an instant after a while without a
 * write, and the proof that none came until it was taken.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import {
  readBlockFamily,
  readFact,
  sampleWrites,
  type WriteSample,
  wroteBetween,
} from '../../devices/system/block-sysfs.js';
import { StillpointError } from '../../domain/base/errors.js';

export interface QuietOptions {
  /** No write for so long ... */
  readonly quietMs: number;
  /** ... found within so many. */
  readonly deadlineMs: number;
  readonly signal?: AbortSignal | undefined;
}

export interface Clock {
  now(): number;
  /** Rejects when the signal is aborted. */
  sleep(durationMs: number, signal?: AbortSignal): Promise<void>;
}

export interface WriteWatch<Sample> {
  sample(): Promise<Sample>;
  /** Whether anything was written between two samples, or is being written at the second. */
  wrote(before: Sample, after: Sample): boolean;
}

export interface Quiet {
  /** Whether it has stayed quiet since. */
  isUnbroken(): Promise<boolean>;
}

const POLL_MS = 20;

const systemClock: Clock = {
  now: () => performance.now(),
  sleep: async (durationMs, signal) => {
    await sleep(durationMs, undefined, { signal });
  },
};

/**
 * @param device to name it in errors.
 * @throws StillpointError `device-in-use`, `cancelled`
 */
export async function waitUntilQuiet<Sample>(
  device: string,
  watch: WriteWatch<Sample>,
  { quietMs, deadlineMs, signal }: QuietOptions,
  clock: Clock = systemClock,
): Promise<Quiet> {
  const endMs = clock.now() + deadlineMs;
  let before = await watch.sample();
  let sinceMs = clock.now();
  for (;;) {
    const leftMs = Math.min(sinceMs + quietMs, endMs) - clock.now();
    await clock.sleep(Math.max(1, Math.min(POLL_MS, leftMs)), signal).catch((cause: unknown) => {
      throw new StillpointError('cancelled', { thing: device, reason: 'it was cancelled', cause });
    });
    // Read before the sample: what is quiet up to the sample was quiet up to this moment.
    const nowMs = clock.now();
    const after = await watch.sample();
    if (watch.wrote(before, after)) {
      before = after;
      sinceMs = clock.now();
    } else if (nowMs - sinceMs >= quietMs) {
      const quiet = after;
      return { isUnbroken: async () => !watch.wrote(quiet, await watch.sample()) };
    }
    if (clock.now() >= endMs) {
      throw new StillpointError('device-in-use', {
        thing: device,
        reason: `it was never without a write for ${quietMs} ms within ${deadlineMs} ms`,
        remedy: 'Stop what writes to it, or ask for a shorter quiet.',
        permanent: false,
      });
    }
  }
}

export interface CounterSample {
  readonly writes: WriteSample;
  /** Counted only when they have ended. */
  readonly inFlight: number;
}

/**
 * The kernel's counters of a block device.
 * @throws StillpointError `device-io` where it keeps none.
 */
export function counterWatch(device: string, number: string): WriteWatch<CounterSample> {
  return {
    sample: async () => {
      const family = await readBlockFamily(number);
      if (family !== null) {
        // First: a write that ends in between is then counted.
        const inFlight = await readFact((family.disk ?? family.self).directory, 'inflight');
        const writes = await sampleWrites(family);
        if (writes !== null) return { writes, inFlight: Number(inFlight?.split(/\s+/)[1] ?? 0) };
      }
      throw new StillpointError('device-io', {
        thing: device,
        reason: 'the kernel counts no writes to it, so that nobody could tell whether it is quiet',
        remedy: 'Switch the counters on: echo 1 > /sys/block/NAME/queue/iostats',
      });
    },
    wrote: (before, after) => after.inFlight > 0 || wroteBetween(before.writes, after.writes),
  };
}
