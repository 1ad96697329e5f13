/**
 * Is the receiver's clock to be believed at this moment? A clock that is set forward makes points old, and
 * then they would be removed.
 *
 * What is remembered: the latest time that was believed; and an anchor, the first time that was believed
 * since the machine was started, with how long it had been up then. While the machine runs, the clock may
 * gain no more than the time that it was up, and what a correction or a drift adds. Over a restart nothing is
 * known of the time between: then it may be as long as machines are usually off.
 *
 * | the clock                                    | is believed                                          |
 * |----------------------------------------------|------------------------------------------------------|
 * | was never looked at                          | yes                                                  |
 * | shows an earlier time than was believed      | no, until that time comes again, or it is confirmed  |
 * | gained more than the machine was up          | no, until it is set right or confirmed               |
 * | gained more than a restart may take          | no, until it is set right or confirmed               |
 */

export interface ClockReading {
  readonly wallMs: number;
  /** Since the machine was started, in ms, times of sleep included. */
  readonly upMs: number;
  /** Another one after each start of the machine. */
  readonly bootId: string;
}

export interface ClockRecord {
  readonly anchor: ClockReading;
  /** The latest time that was believed. */
  readonly latestMs: number;
}

export type ClockJudgement =
  | { readonly isBelieved: true; readonly nowMs: number }
  /** `nowMs`: the last time that was believed. `reason`: a clause. */
  | { readonly isBelieved: false; readonly nowMs: number; readonly reason: string };

const HOUR_MS = 3_600_000;
const DAY_MS = 24 * HOUR_MS;
/** Back, as a clock is corrected. */
const BACK_MS = 10 * 60_000;
/** Forward beside what the machine was up, altogether: a correction. */
const FORWARD_MS = HOUR_MS;
/** And a part of the time that it was up: the two clocks drift apart. A machine may be up for years. */
const DRIFT_PART = 1 / 1000;
/** A receiver that is started once a month, with another disk. */
const RESTART_MS_MAX = 35 * DAY_MS;
/** With a lock, a part of it. */
const RESTART_PART_OF_LOCK = 1 / 4;

/** What the clock may gain while the machine is off. @param lockMs the minimum age that is in force */
export function restartMsMax(lockMs: number): number {
  return lockMs === 0
    ? RESTART_MS_MAX
    : Math.min(RESTART_MS_MAX, Math.max(DAY_MS, lockMs * RESTART_PART_OF_LOCK));
}

/** @param record null: the clock was never looked at. */
export function judgeClock(record: ClockRecord | null, now: ClockReading, lockMs: number): ClockJudgement {
  if (record === null) return { isBelieved: true, nowMs: now.wallMs };
  const { anchor, latestMs } = record;
  const shows = `it shows ${timeText(now.wallMs)}, and showed ${timeText(latestMs)} before`;
  const doubted = (reason: string): ClockJudgement => ({ isBelieved: false, nowMs: latestMs, reason });
  // Also what is no number at all.
  if (!(now.wallMs >= latestMs - BACK_MS)) return doubted(shows);
  if (hasRunOn(anchor, now)) {
    const upMs = now.upMs - anchor.upMs;
    if (now.wallMs - anchor.wallMs > upMs * (1 + DRIFT_PART) + FORWARD_MS) {
      return doubted(
        `it gained ${periodText(now.wallMs - anchor.wallMs)} while the machine was up for ${periodText(upMs)}`,
      );
    }
  } else if (now.wallMs - latestMs > restartMsMax(lockMs)) {
    return doubted(
      `${shows}; the machine was started between, and no more than ${periodText(restartMsMax(lockMs))} is believed of that`,
    );
  }
  return { isBelieved: true, nowMs: Math.max(now.wallMs, latestMs) };
}

/** What is to be remembered of a clock that is believed. */
export function rememberClock(record: ClockRecord | null, now: ClockReading): ClockRecord {
  const latestMs = Math.max(now.wallMs, record?.latestMs ?? now.wallMs);
  return { anchor: record !== null && hasRunOn(record.anchor, now) ? record.anchor : now, latestMs };
}

/** The operator says that it is right. */
export function confirmClock(now: ClockReading): ClockRecord {
  return { anchor: now, latestMs: now.wallMs };
}

function hasRunOn(anchor: ClockReading, now: ClockReading): boolean {
  return now.bootId === anchor.bootId && now.upMs >= anchor.upMs;
}

function timeText(timeMs: number): string {
  return Number.isFinite(timeMs) && Math.abs(timeMs) < 8.64e15 ? new Date(timeMs).toISOString() : 'no time';
}

function periodText(periodMs: number): string {
  const hours = Math.round(periodMs / HOUR_MS);
  return hours < 72 ? `${hours} h` : `${Math.round(hours / 24)} days`;
}
