/**
 * How far the times of a device's points can be believed. The receiver's sequence is certain; its clock may
 * have been wrong for a day, or a year. The true times ascend with the sequence. So times that contradict
 * each other show that some of them are wrong, and the question is which.
 *
 * - A time later than now is wrong.
 * - Of the others, the largest set that ascends is believed. If there are several such sets, only what is in
 *   all of them is. So a few wrong ones among many are found, and between two that contradict each other
 *   nothing is decided.
 * - A step back of a few minutes, as a clock makes that is being set, contradicts nothing.
 *
 * Of a point in doubt no rule decides by its calendar period. How old a point is at least is a question of
 * its own, which no majority decides: if its time is later than now, or earlier than that of a point before
 * it, it may be as young as the next point whose time is neither.
 */

/** A clock that is corrected steps by so much. */
export const CLOCK_STEP_MS = 10 * 60_000;

export interface CommitTime {
  /** What its calendar periods are found by; null: in doubt. */
  readonly believedMs: number | null;
  /** Why it is in doubt, a clause. */
  readonly doubt: string | null;
  /** The point was committed at this time, or before; null: nothing says how young it may be. */
  readonly youngestMs: number | null;
}

/** @param times ISO 8601, of one device's points, by sequence. */
export function commitTimes(times: readonly string[], nowMs: number): CommitTime[] {
  const rawMs = times.map((time) => Date.parse(time));
  const candidates: number[] = [];
  const evenMs: number[] = [];
  for (const [i, timeMs] of rawMs.entries()) {
    if (!(timeMs <= nowMs + CLOCK_STEP_MS)) continue;
    const before = evenMs.at(-1) ?? timeMs;
    candidates.push(i);
    evenMs.push(timeMs < before && before - timeMs <= CLOCK_STEP_MS ? before : timeMs);
  }
  const isCertain = inAllLongest(evenMs);
  const believed = new Map(
    candidates.flatMap((i, at) => (isCertain[at] === true ? [[i, evenMs[at] ?? 0] as const] : [])),
  );
  const youngest = youngestTimes(rawMs, nowMs);
  return times.map((time, i) => ({
    believedMs: believed.get(i) ?? null,
    doubt: believed.has(i) ? null : doubtOf(time, rawMs[i] ?? Number.NaN, nowMs),
    youngestMs: youngest[i] ?? null,
  }));
}

function doubtOf(time: string, timeMs: number, nowMs: number): string {
  if (Number.isNaN(timeMs)) return 'its time of commit is not a time';
  return timeMs > nowMs
    ? `its time of commit, ${time}, is in the future`
    : `its time of commit, ${time}, contradicts those of the points around it`;
}

function youngestTimes(rawMs: readonly number[], nowMs: number): (number | null)[] {
  let latestMs = Number.NEGATIVE_INFINITY;
  const youngest = rawMs.map((timeMs) => {
    if (!(timeMs <= nowMs + CLOCK_STEP_MS) || timeMs < latestMs - CLOCK_STEP_MS) return null;
    latestMs = Math.max(latestMs, timeMs);
    return latestMs;
  });
  let nextMs: number | null = null;
  for (let i = youngest.length - 1; i >= 0; i -= 1) {
    nextMs = youngest[i] ?? nextMs;
    youngest[i] = nextMs;
  }
  return youngest;
}

/** Which values are in every longest part that does not descend. */
function inAllLongest(values: readonly number[]): boolean[] {
  const upTo = longestEndingAt(values);
  const from = longestEndingAt(values.map((value) => -value).reverse()).reverse();
  const longest = Math.max(0, ...upToMax(upTo));
  const rivals = new Map<number, number>();
  const isInOne = values.map((_, i) => (upTo[i] ?? 0) + (from[i] ?? 0) - 1 === longest);
  for (const [i, isIn] of isInOne.entries())
    if (isIn) rivals.set(upTo[i] ?? 0, (rivals.get(upTo[i] ?? 0) ?? 0) + 1);
  return isInOne.map((isIn, i) => isIn && rivals.get(upTo[i] ?? 0) === 1);
}

/** A spread of very many values is too much for a call. */
function upToMax(lengths: readonly number[]): number[] {
  return [lengths.reduce((most, length) => Math.max(most, length), 0)];
}

/** The length of the longest part that does not descend and ends with each value. */
function longestEndingAt(values: readonly number[]): number[] {
  /** The least last value of a part of each length. */
  const ends: number[] = [];
  return values.map((value) => {
    let low = 0;
    for (let high = ends.length; low < high; ) {
      const middle = (low + high) >> 1;
      if ((ends[middle] ?? 0) <= value) low = middle + 1;
      else high = middle;
    }
    ends[low] = value;
    return low + 1;
  });
}
