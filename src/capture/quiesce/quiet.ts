/**
 * The quiet-I/O watch: an instant after a while without a write. A tap sees the writes themselves and tells
 * how long there was none. For other devices the kernel's counters tell it, from the first look on.
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

export interface QuietWatch {
  /** How long, in ms, nothing has certainly been written. */
  quietMs(): Promise<number>;
}

const POLL_MS = 20;

const systemClock: Clock = {
  now: () => performance.now(),
  sleep: async (durationMs, signal) => {
    await sleep(durationMs, undefined, { signal });
  },
};

/** From samples: each that tells of a write starts the time anew. */
export function quietBySamples<Sample>(watch: WriteWatch<Sample>, clock: Clock = systemClock): QuietWatch {
  let before: Sample | undefined;
  let sinceMs = 0;
  return {
    quietMs: async () => {
      // Read before the sample: what is quiet up to the sample was quiet up to this moment.
      const nowMs = clock.now();
      const after = await watch.sample();
      if (before === undefined || watch.wrote(before, after)) {
        before = after;
        sinceMs = clock.now();
      }
      return Math.max(0, nowMs - sinceMs);
    },
  };
}

/**
 * Until all of them are.
 * @param thing to name it in errors.
 * @throws StillpointError `device-in-use`, `cancelled`
 */
export async function waitUntilQuiet(
  thing: string,
  watches: readonly QuietWatch[],
  { quietMs, deadlineMs, signal }: QuietOptions,
  clock: Clock = systemClock,
): Promise<void> {
  const endMs = clock.now() + deadlineMs;
  for (;;) {
    const quiets = await Promise.all(watches.map((watch) => watch.quietMs()));
    const lacksMs = quietMs - Math.min(...quiets);
    if (lacksMs <= 0) return;
    const leftMs = endMs - clock.now();
    if (leftMs <= 0) {
      throw new StillpointError('device-in-use', {
        thing,
        reason: `it was never without a write for ${quietMs} ms within ${deadlineMs} ms`,
        remedy: 'Stop what writes to it, or ask for a shorter quiet.',
        permanent: false,
      });
    }
    await clock.sleep(Math.max(1, Math.min(POLL_MS, lacksMs, leftMs)), signal).catch((cause: unknown) => {
      throw new StillpointError('cancelled', { thing, reason: 'it was cancelled', cause });
    });
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
        reason: 'the kernel counts no writes to it, so nothing shows whether it is quiet',
        remedy: 'Turn the counters on: echo 1 > /sys/block/NAME/queue/iostats',
      });
    },
    wrote: (before, after) => after.inFlight > 0 || wroteBetween(before.writes, after.writes),
  };
}
