/**
 * The findings of a verification, each thing once with all points that it concerns, and counts of what it
 * checked. Bounded in memory.
 */
import type { Point } from '../../domain/point/point.js';
import type { VerifyEvent, VerifyFinding } from '../../domain/session/messages.js';
import { RECORD_KIND_NODE } from '../../native/index.js';
import type { PointPlace } from '../disk/layout.js';
import { digestKey } from '../packs/entries.js';

const FINDINGS_MAX = 10_000;

/** How a point is named to who asked. */
export type PointLabel = (point: Omit<PointPlace, 'deleted'>) => string;

interface Finding {
  readonly what: string;
  readonly reason: string;
  readonly points: Set<string>;
}

export class Findings {
  readonly #label: PointLabel;
  /** By digest and kind for records, by name for everything else. */
  readonly #findings = new Map<string, Finding>();
  #findingCount = 0;
  blockCount = 0;
  checkedBytes = 0;

  constructor(label: PointLabel) {
    this.#label = label;
  }

  add(key: string, what: string, reason: string, point?: Omit<PointPlace, 'deleted'>): void {
    let finding = this.#findings.get(key);
    if (finding === undefined) {
      this.#findingCount += 1;
      if (this.#findings.size >= FINDINGS_MAX) return;
      finding = { what, reason, points: new Set() };
      this.#findings.set(key, finding);
    }
    if (point !== undefined) finding.points.add(this.#label(point));
  }

  get count(): number {
    return this.#findingCount;
  }

  labelOf(point: Point): string {
    return this.#label(point);
  }

  *events(pointCount: number): Generator<VerifyEvent> {
    for (const { what, reason, points } of this.#findings.values()) {
      yield { type: 'finding', what, reason, points: [...points] } satisfies VerifyFinding;
    }
    const { blockCount, checkedBytes } = this;
    yield { type: 'summary', pointCount, blockCount, checkedBytes, findingCount: this.#findingCount };
  }
}

export function recordKey(kind: number, digest: Buffer): string {
  return `${kind === RECORD_KIND_NODE ? 'node' : 'block'} ${digestKey(digest)}`;
}
