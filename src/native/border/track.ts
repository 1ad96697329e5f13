/** The part of the border for trackers (native/core/track/tracker.h); rules as in ../index.ts. */

export interface TrackTarget {
  /** Of the whole disk. */
  readonly diskMajor: number;
  readonly diskMinor: number;
  /** Of the device in its disk, in sectors of 512 bytes. */
  readonly startSector: number;
  readonly sectorCount: number;
  /** What one mark stands for: a power of two from 4 KiB. */
  readonly grainBytes: number;
  /** False for device mapper, md and others that pass writes on. */
  readonly hasRequestQueue: boolean;
}

/** They only grow. */
export interface TrackCounters {
  /** Writes of programs that talked to the driver: nobody knows where. */
  readonly passedThrough: number;
  /** Writes for which there was no room to note them. */
  readonly notNoted: number;
  /** Submitted writes that the kernel has not shown. */
  readonly queueMisses: number;
  /** Completed writes that the kernel may not have shown to any of the programs. */
  readonly completionMisses: number;
  /**
   * How long the programs have run, in nanoseconds; only counted with the sysctl kernel.bpf_stats_enabled.
   */
  readonly runNs: number;
}

export interface Tracker {
  readonly target: TrackTarget;
  /** Of the kernel, never swapped out. */
  readonly memoryBytes: number;
  counters(): TrackCounters;
  /** What is remembered with the marks, and lost with them. Null: never written, or torn by a crash. */
  record(): Buffer | null;
  /** At most 4,000 bytes. */
  writeRecord(bytes: Uint8Array): void;
  /** How many grains have a mark of any kind. */
  marked(): Promise<number>;
  /** As if these blocks had been written. */
  mark(ranges: readonly (readonly [number, number])[], blockSize: number): Promise<void>;
  /** A point was made of the last cut: marks from before it are forgotten. */
  forgetKept(): Promise<void>;
  close(): Promise<void>;
}

export interface TrackAddon {
  /** Rejects with `no-btf`, `old-kernel`, `no-bpf`, EPERM and others where nothing can be tracked. */
  checkTracking(): Promise<void>;
  /** @param directory for its pins, in the BPF file system; EEXIST if there is one. */
  attachTracker(directory: string, target: TrackTarget): Promise<Tracker>;
  /** ENOENT: there is none. `track-broken`: a part of it is gone. */
  openTracker(directory: string): Promise<Tracker>;
  /** Harmless where there is none. */
  detachTracker(directory: string): Promise<void>;
}
