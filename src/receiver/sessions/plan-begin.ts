/** The result of a begin: decided here from plain facts, carried out by ReceiverService. */

import { StillpointError } from '../../domain/base/errors.js';
import { geometry, sameGeometry } from '../../domain/blocks/geometry.js';
import { compareDevices } from '../../domain/device/device-identity.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { BeginRequest } from '../../domain/session/messages.js';
import type { CaptureDescription } from '../../store/port/store.js';

/** What is known of the device. */
export interface DeviceFacts {
  readonly last: Point | null;
  /** What the store offers as base: `last`, or null where it lost a part of that. */
  readonly base: Point | null;
  /** Its open session, and the point that is the base of it. */
  readonly open: { readonly description: CaptureDescription; readonly base: Point | null } | null;
}

export interface BeginPlan {
  /** `resume` the open session, or `create` one; an open one of another id gives way to it. */
  readonly action: 'resume' | 'create';
  readonly base: Point | null;
}

/** @throws StillpointError `bad-geometry`, `device-identity`, `base-mismatch`, `bad-message` */
export function planBegin(request: BeginRequest, { last, base: offered, open }: DeviceFacts): BeginPlan {
  geometry(request.geometry.sizeBytes, request.geometry.blockSize);
  checkIdentity(request, last);
  if (!request.newChain && last !== null && last.geometry.blockSize !== request.geometry.blockSize) {
    throw new StillpointError('base-mismatch', {
      thing: `device ${request.device}`,
      reason: `its block size is now ${request.geometry.blockSize}, and was ${last.geometry.blockSize} in its last point`,
      remedy: 'Start a new chain, or use the former block size.',
    });
  }
  const base = request.newChain ? null : offered;
  if (open?.description.sessionId !== request.sessionId) {
    return { action: 'create', base };
  }
  const { description } = open;
  const isSame =
    sameGeometry(description.geometry, request.geometry) &&
    (description.basePointId === (base?.id ?? null) || description.basePointId === last?.id);
  if (!isSame) {
    throw new StillpointError('bad-message', {
      thing: `session ${request.sessionId}`,
      reason: 'it is open already, over another base or for another size of the device',
      remedy: 'Use a new session id for each backup.',
    });
  }
  return { action: 'resume', base: open.base };
}

function checkIdentity(request: BeginRequest, last: Point | null): void {
  if (last === null || request.acceptIdentity) return;
  const comparison = compareDevices(last.identity, request.identity);
  if (comparison.same) return;
  throw new StillpointError('device-identity', {
    thing: `device ${request.device}`,
    reason: `it is not the one that point ${pointLabel(last)} was taken of: ${comparison.reason}`,
    remedy:
      request.identity.type === 'image'
        ? 'If it continues that one, such as a copy or a converted image, accept it with --accept-identity. Otherwise back it up under another name (--name).'
        : 'If it is the same device, such as one that was formatted or partitioned again, accept it with --accept-identity. Otherwise back it up under another name (--name).',
  });
}
