/** A decision as sealed text (docs/format.md section 5): the points of a group that come, or that go. */
import { StillpointError } from '../../domain/base/errors.js';
import { MiB } from '../../domain/base/limits.js';
import type { Point, RemovedPoint } from '../../domain/point/point.js';
import { errnoOf } from '../disk/disk.js';
import { DECISIONS_PREFIX, decisionIdOf } from '../disk/layout.js';
import { decodeSealed, encodeSealed } from '../disk/sealed-text.js';
import type { ObjectStore } from '../objects/object-store.js';
import { checkPoint } from './manifest.js';

/** Manifests of common points have some KiB. */
const DECISION_BYTES_MAX = 64 * MiB;

export type Decision =
  | { readonly does: 'commit'; readonly id: string; readonly points: readonly Point[] }
  | { readonly does: 'remove'; readonly id: string; readonly removed: readonly RemovedPoint[] };

/** @throws StillpointError `too-large` */
export function encodeDecision(decision: Decision): Buffer {
  const bytes = encodeSealed('stillpoint-decision', decision);
  if (bytes.length <= DECISION_BYTES_MAX) return bytes;
  throw new StillpointError('too-large', {
    thing: `decision ${decision.id}`,
    reason: `the manifests of its points have ${bytes.length} bytes, and ${DECISION_BYTES_MAX} is the limit`,
  });
}

/** @throws StillpointError `store-damaged`, `version` */
function decodeDecision(bytes: Buffer, id: string, thing: string): Decision {
  const decision = decodeSealed('stillpoint-decision', bytes, thing).body as unknown as Decision;
  const damaged = (reason: string) => new StillpointError('store-damaged', { thing, reason });
  if (decision.id !== id) throw damaged('it is another decision');
  if (decision.does === 'commit' && Array.isArray(decision.points)) {
    for (const point of decision.points) checkPoint(point, thing);
    return decision;
  }
  if (decision.does === 'remove' && Array.isArray(decision.removed)) return decision;
  throw damaged('it lacks fields of a decision');
}

/** @throws as the object store, StillpointError `store-damaged`, `version` */
export async function readDecision(objects: ObjectStore, key: string, sizeBytes: number): Promise<Decision> {
  if (sizeBytes > DECISION_BYTES_MAX)
    throw new StillpointError('store-damaged', { thing: key, reason: `it has ${sizeBytes} bytes` });
  return decodeDecision(await objects.read(key, 0, sizeBytes), decisionIdOf(key) ?? '', key);
}

/**
 * All that are there and whole. One that is damaged decides nothing: its points were never acknowledged, or
 * it had been carried out.
 */
export async function listDecisions(
  objects: ObjectStore,
  log: (message: string) => void,
): Promise<Decision[]> {
  const decisions: Decision[] = [];
  for (const { key, sizeBytes } of await objects.list(DECISIONS_PREFIX)) {
    if (decisionIdOf(key) === null) continue;
    try {
      decisions.push(await readDecision(objects, key, sizeBytes));
    } catch (error) {
      // One that is gone was carried out since the list was made.
      if (errnoOf(error) === 'ENOENT') continue;
      if (!(error instanceof StillpointError)) throw error;
      log(`${key} decides nothing: ${error.message}`);
    }
  }
  return decisions;
}
