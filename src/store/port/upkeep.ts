/** What a store's owner does to find damage before a restore does. */

import type { VerifyEvent } from '../../domain/session/messages.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';

/** Points: of an agent, of a device, one. */
export interface ScrubScope {
  readonly agent?: string;
  readonly device?: string;
  readonly pointId?: string;
}

/** Packs are read back, those first that were not for the longest time. */
export interface ScrubRequest {
  /** Only packs that were not read back for so long. */
  readonly olderThanMs?: number;
  /** This part of the store: all is covered in 100/percent runs. More than 0, at most 100. */
  readonly percent?: number;
  /** At least one pack, and then no more than this. */
  readonly maxBytes?: number;
  /** Only packs that these points need. */
  readonly of?: ScrubScope;
  /** Bytes a second. */
  readonly rate?: RateSchedule;
  readonly signal?: AbortSignal;
}

export interface ScrubStatus {
  readonly packCount: number;
  readonly totalBytes: number;
  /** Ever read back. */
  readonly checkedBytes: number;
  /** Read back within `periodMs`. */
  readonly coveredBytes: number;
  readonly periodMs: number;
  readonly neverCheckedPacks: number;
  /** ISO 8601, as all times here. Since then the longest waiting pack was not read back; null: not known. */
  readonly oldestSince: string | null;
  readonly lastCheckedAt: string | null;
  readonly isRunning: boolean;
  readonly damage: DamageSummary;
}

export interface DamageSummary {
  /** Records that no copy stands in for. */
  readonly openCount: number;
  /** Records that were damaged, and whose content another pack has: it came again, or was there. */
  readonly healedCount: number;
  /** Of the open ones, the oldest. */
  readonly openSince: string | null;
  readonly lastHealedAt: string | null;
  /** Points that need a damaged record, `AGENT/DEVICE@SEQUENCE`; some of them, if they are many. */
  readonly points: readonly string[];
  readonly pointCount: number;
}

export interface Upkeep {
  /** One at a time: `busy`. Its last event is the summary. */
  scrub(request: ScrubRequest): AsyncIterable<VerifyEvent>;
  /** @param periodMs within which all should be read back */
  scrubStatus(periodMs: number): Promise<ScrubStatus>;
  /** What is free on the disk, and how much of that packs leave. */
  room(): Promise<{ readonly freeBytes: number; readonly reserveBytes: number }>;
}
