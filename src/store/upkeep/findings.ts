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
  /** Labels, and ids; null: of a manifest that can't be read. */
  readonly points: Map<string, string | null>;
  /** Of a file of the store, whichever points need it. */
  isOfFile: boolean;
}

export class Findings {
  readonly #label: PointLabel;
  readonly #isThere: (pointId: string) => boolean;
  /** By digest and kind for records, by name for everything else. */
  readonly #findings = new Map<string, Finding>();
  #findingCount = 0;
  blockCount = 0;
  checkedBytes = 0;

  /** @param isThere what a removed point needed may be gone, and is no damage */
  constructor(label: PointLabel, isThere: (pointId: string) => boolean) {
    this.#label = label;
    this.#isThere = isThere;
  }

  add(key: string, what: string, reason: string, point?: Point | Omit<PointPlace, 'deleted'>): void {
    let finding = this.#findings.get(key);
    if (finding === undefined) {
      this.#findingCount += 1;
      if (this.#findings.size >= FINDINGS_MAX) return;
      finding = { what, reason, points: new Map(), isOfFile: false };
      this.#findings.set(key, finding);
    }
    if (point === undefined) finding.isOfFile = true;
    else finding.points.set(this.#label(point), 'id' in point ? point.id : null);
  }

  get count(): number {
    return this.#findingCount;
  }

  labelOf(point: Point): string {
    return this.#label(point);
  }

  /** @param checked the points that were looked at */
  *events(checked: readonly Point[]): Generator<VerifyEvent> {
    let findingCount = this.#findingCount;
    for (const { what, reason, points: all, isOfFile } of this.#findings.values()) {
      const points = [...all].filter(([, id]) => id === null || this.#isThere(id)).map(([label]) => label);
      if (isOfFile || points.length > 0)
        yield { type: 'finding', what, reason, points } satisfies VerifyFinding;
      else findingCount -= 1;
    }
    const { blockCount, checkedBytes } = this;
    const pointCount = checked.filter(({ id }) => this.#isThere(id)).length;
    yield { type: 'summary', pointCount, blockCount, checkedBytes, findingCount };
  }
}

export function recordKey(kind: number, digest: Buffer): string {
  return `${kind === RECORD_KIND_NODE ? 'node' : 'block'} ${digestKey(digest)}`;
}
