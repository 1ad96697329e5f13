/**
 * Which points the marks of a tracked device are good for, and whether they can still be believed. The order
 * of writes: what is forgotten is first known to be forgotten.
 *
 *   announce   the session may become a point: its id is in the record before the first mark is taken
 *   committed  the record names the new point alone, then marks from before it are forgotten
 *   adopt      the record names nothing; marks are changed; the record names the point
 */
import type { BlockRange } from '../../../domain/blocks/block-ranges.js';
import { whyMarksMiss } from '../../../domain/live/trust.js';
import { factsOf, POINTS_MAX, type TrackRecord, writeRecord } from '../../../track/record.js';
import type { Tracked } from '../../../track/tracked.js';

export class Marks {
  readonly #tracked: Tracked;
  /** Of the last look: what came later is doubtful. */
  #facts: TrackRecord['facts'];
  #completionMisses: number;

  constructor(tracked: Tracked) {
    this.#tracked = tracked;
    this.#facts = tracked.doubt === null ? tracked.record.facts : factsOf(tracked.tracker);
    this.#completionMisses = tracked.tracker.counters().completionMisses;
  }

  knows(pointId: string): boolean {
    return this.#tracked.record.points.includes(pointId);
  }

  /** @param doubt why the marks are not good for any earlier point, a clause; null: they are */
  announce(sessionId: string, doubt: string | null): void {
    const { record } = this.#tracked;
    const known = doubt === null ? record.points : [];
    const dropped = Math.max(0, known.length + 1 - POINTS_MAX);
    // The first is the last point that is known to be one.
    const points = [...known.slice(0, 1), ...known.slice(1 + dropped), sessionId];
    this.#write({ ...record, points });
  }

  /** @returns since the last look: why writes may have no mark, a clause; null: all have. */
  look(): string | null {
    const facts = factsOf(this.#tracked.tracker);
    const why = whyMarksMiss(this.#facts, facts);
    this.#facts = facts;
    return why;
  }

  /** @returns whether all writes since the last look have a mark. The next look finds what this one found. */
  areComplete(): boolean {
    const { completionMisses } = this.#tracked.tracker.counters();
    const why = whyMarksMiss(this.#facts, factsOf(this.#tracked.tracker));
    return why === null && completionMisses === this.#completionMisses;
  }

  /**
   * @returns whether, since the last look, a completed write may have no mark; it has one since it was
   * submitted.
   */
  mayLackCompletion(): boolean {
    const { completionMisses } = this.#tracked.tracker.counters();
    const hasMissed = completionMisses !== this.#completionMisses;
    this.#completionMisses = completionMisses;
    return hasMissed;
  }

  async committed(pointId: string): Promise<void> {
    this.#write({ ...this.#tracked.record, points: [pointId] });
    await this.#tracked.tracker.forgetKept();
  }

  async adopt(
    pointId: string,
    ranges: readonly BlockRange[],
    blockSize: number,
    complete: boolean,
  ): Promise<void> {
    const { tracker, record } = this.#tracked;
    const points = complete ? [pointId] : record.points.filter((id) => id === pointId);
    this.#write({ ...record, points: [] });
    if (complete) await tracker.forgetKept();
    await tracker.mark(ranges, blockSize);
    this.#write({ ...record, points });
  }

  #write(changed: TrackRecord): void {
    const record = { ...changed, facts: this.#facts };
    writeRecord(this.#tracked.tracker, record);
    this.#tracked.record = record;
  }
}
