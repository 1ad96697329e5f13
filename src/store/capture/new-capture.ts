/** Whether a capture may be made: checked by what the store has at that moment. Pure. */
import { type ErrorCode, StillpointError } from '../../domain/base/errors.js';
import { AGENT_MANIFEST_BYTES_MAX, MiB } from '../../domain/base/limits.js';
import { checkName, isHexId } from '../../domain/base/names.js';
import type { PointCatalog } from '../points/catalog.js';
import type { CaptureDescription } from '../port/store.js';

export interface PresentCaptures {
  readonly open: readonly CaptureDescription[];
  /** By device: captures that are being made. */
  readonly creating: ReadonlyMap<string, CaptureDescription>;
  readonly isRemoving: (pointId: string) => boolean;
}

/**
 * @returns the device, as `AGENT/DEVICE`
 * @throws StillpointError `bad-name`, `too-large`, `bad-message`, `session-closed`, `session-busy`,
 * `base-mismatch`
 */
export function checkNewCapture(
  catalog: PointCatalog,
  description: CaptureDescription,
  { open, creating, isRemoving }: PresentCaptures,
): string {
  const { agent, sessionId, basePointId, geometry } = description;
  const device = `${checkName('agent', agent)}/${checkName('device', description.device)}`;
  checkManifestRoom(catalog, agent);
  const refuse = (code: ErrorCode, reason: string) =>
    new StillpointError(code, { thing: `session ${sessionId} of ${description.device}`, reason });
  if (!isHexId(sessionId)) throw refuse('bad-message', 'a session id has 32 hex digits');
  if (catalog.byId(sessionId) !== undefined) throw refuse('session-closed', 'it is committed');
  const isBusy = open.some(
    (each) => each.sessionId === sessionId || `${each.agent}/${each.device}` === device,
  );
  if (isBusy || creating.has(device))
    throw refuse('session-busy', 'a session of the device, or one with this id, is open');
  if (basePointId === null) return device;
  const base = catalog.byId(basePointId);
  if (base?.agent !== agent || base.device !== description.device)
    throw refuse('base-mismatch', `point ${basePointId} is not one of the device`);
  if (base.geometry.blockSize !== geometry.blockSize) {
    const reason = `the block size is ${geometry.blockSize}, and ${base.geometry.blockSize} in its base`;
    throw refuse('base-mismatch', reason);
  }
  if (isRemoving(basePointId)) throw refuse('session-busy', 'its base is being removed');
  return device;
}

function checkManifestRoom(catalog: PointCatalog, agent: string): void {
  if (catalog.manifestBytes(agent) < AGENT_MANIFEST_BYTES_MAX) return;
  throw new StillpointError('too-large', {
    thing: `agent ${agent}`,
    reason: `the manifests of its points have more than ${AGENT_MANIFEST_BYTES_MAX / MiB} MiB together, which is the limit`,
    remedy: 'Enroll the machine under another name; its points stay restorable under the present one.',
  });
}
