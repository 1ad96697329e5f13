/**
 * The minimum age of points that may be removed, whoever asks. Raising it counts at once. Lowering it counts
 * after the period that was in force when it was asked for: so who steals the operator's rights today can't
 * remove what was committed before today, until that period is over.
 *
 * State: all wishes that may still count, in the order in which they came. The last one whose time has come
 * is in force; later ones count already where they ask for more.
 */
import { StillpointError } from '../base/errors.js';

export interface LockWish {
  readonly minAgeMs: number;
  /** By the receiver's clock. */
  readonly askedAtMs: number;
  /** The same, or later where it lowers. */
  readonly fromMs: number;
}

export const LOCK_WISHES_MAX = 64;

/** In ms; 0: no lock. */
export function lockAt(wishes: readonly LockWish[], nowMs: number): number {
  const at = wishes.findLastIndex(({ fromMs }) => fromMs <= nowMs);
  return wishes.slice(Math.max(at, 0)).reduce((most, { minAgeMs }) => Math.max(most, minAgeMs), 0);
}

/** When the lock becomes less than it is, and to what; null: it stays. */
export function nextLowering(wishes: readonly LockWish[], nowMs: number): LockWish | null {
  const present = lockAt(wishes, nowMs);
  const later = wishes.filter(({ fromMs }) => fromMs > nowMs);
  return later.find(({ fromMs }) => lockAt(wishes, fromMs) < present) ?? null;
}

/** @throws StillpointError `config` for more wishes than are remembered */
export function wishForLock(wishes: readonly LockWish[], minAgeMs: number, nowMs: number): LockWish[] {
  const present = lockAt(wishes, nowMs);
  const at = wishes.findLastIndex(({ fromMs }) => fromMs <= nowMs);
  const kept = wishes.slice(Math.max(at, 0));
  if (kept.at(-1)?.minAgeMs === minAgeMs) return kept;
  if (kept.length >= LOCK_WISHES_MAX) {
    throw new StillpointError('config', {
      thing: 'minimum age',
      reason: `it was changed ${kept.length} times, and the first of these changes is not in force yet`,
      remedy: 'Wait until it is.',
    });
  }
  const fromMs = minAgeMs < present ? nowMs + present : nowMs;
  return [...kept, { minAgeMs, askedAtMs: nowMs, fromMs }];
}
