/** Manifests of points and descriptions of captures as sealed text (docs/format.md section 5). */

import { StillpointError } from '../../domain/base/errors.js';
import { MiB } from '../../domain/base/limits.js';
import { isHexDigest, isHexId } from '../../domain/base/names.js';
import { geometry } from '../../domain/blocks/geometry.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { decodeSealed, encodeSealed } from '../disk/sealed-text.js';
import type { CaptureDescription, DeviceKey } from '../port/store.js';

/** More than the largest manifest (BAD_RANGES_MAX, WARNINGS_MAX) has. */
export const MANIFEST_BYTES_MAX = 16 * MiB;

export function encodeManifest(point: Point): Buffer {
  return encodeSealed('stillpoint-point', point);
}

/**
 * @param place where the manifest was found; one that says otherwise of itself is a copy in the wrong place
 * @throws StillpointError `store-damaged`, `version`
 */
export function decodeManifest(
  bytes: Buffer,
  place: DeviceKey & { readonly sequence: number },
  thing: string,
): Point {
  const { version, body } = decodeSealed('stillpoint-point', bytes, thing);
  const point = (version === 1 ? { ...body, providerFacts: {} } : body) as unknown as Point;
  checkPoint(point, thing);
  if (point.agent !== place.agent || point.device !== place.device || point.sequence !== place.sequence) {
    throw new StillpointError('store-damaged', {
      thing,
      reason: `it is the manifest of ${point.agent}/${pointLabel(point)}, in the wrong place`,
    });
  }
  return point;
}

/** What a point that was read must have. @throws StillpointError `store-damaged`, `bad-geometry` */
export function checkPoint(point: Point, thing: string): void {
  const isWhole =
    isHexId(point.id) &&
    isHexDigest(point.root) &&
    isHexDigest(point.top) &&
    Array.isArray(point.badRanges) &&
    (point.excluded === undefined || Array.isArray(point.excluded)) &&
    (point.journal === undefined || (isObject(point.journal) && isHexId(point.journal.journalId))) &&
    (point.group === undefined || (isObject(point.group) && isHexId(point.group.id))) &&
    Array.isArray(point.warnings) &&
    isObject(point.providerFacts) &&
    isObject(point.statistics) &&
    isObject(point.identity);
  if (!isWhole)
    throw new StillpointError('store-damaged', { thing, reason: 'it lacks fields of a manifest' });
  geometry(point.geometry.sizeBytes, point.geometry.blockSize);
}

export function encodeDescription(description: CaptureDescription): Buffer {
  return encodeSealed('stillpoint-capture', description);
}

/** @throws StillpointError `store-damaged`, `version` */
export function decodeDescription(bytes: Buffer, sessionId: string, thing: string): CaptureDescription {
  const { version, body } = decodeSealed('stillpoint-capture', bytes, thing);
  // What version 1 says of the instant is the commit's to say now.
  const { instant: _instant, kind: _kind, provider: _provider, ...known } = body;
  const description = (version === 1 ? known : body) as unknown as CaptureDescription;
  geometry(description.geometry.sizeBytes, description.geometry.blockSize);
  if (description.sessionId !== sessionId) {
    throw new StillpointError('store-damaged', { thing, reason: 'it describes another session' });
  }
  return description;
}

function isObject(value: unknown): boolean {
  return typeof value === 'object' && value !== null;
}
