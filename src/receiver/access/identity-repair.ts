/**
 * Makes again of a receiver's identity what its copies allow, and says what can't be made again and what that
 * means. Nothing is removed.
 */
import { randomBytes } from 'node:crypto';
import { basename } from 'node:path';
import type { StateFormat } from '../../config/state-file.js';
import { isStillpointError } from '../../domain/base/errors.js';
import {
  authorityPath,
  initReceiver,
  keyFormat,
  makeIdentity,
  receiverIdOf,
  settingsFormat,
  settingsPath,
} from './identity.js';
import { mendTwin, readTwin } from './twin-file.js';

export interface IdentityFinding {
  readonly what: string;
  readonly reason: string;
}

export interface IdentityRepair {
  /** What is whole again, or would be without `dryRun`. */
  readonly mended: readonly IdentityFinding[];
  readonly lost: readonly IdentityFinding[];
}

export interface IdentityRepairOptions {
  readonly dryRun: boolean;
  /** Make another authority where the present one is lost. */
  readonly newIdentity: boolean;
  readonly now: Date;
}

interface Seen<T> {
  readonly value: T | null;
  /** Why there is no value; null: there is one, or there never was a file. */
  readonly fault: string | null;
}

/** Does nothing to a store that has no receiver. */
export async function repairIdentity(dir: string, options: IdentityRepairOptions): Promise<IdentityRepair> {
  const { dryRun, newIdentity, now } = options;
  const mended: IdentityFinding[] = [];
  const lost: IdentityFinding[] = [];
  const settings = await mend(settingsPath(dir), settingsFormat, dryRun, mended);
  const authority = await mend(authorityPath(dir), keyFormat, dryRun, mended);
  if ([settings, authority].every(({ value, fault }) => value === null && fault === null))
    return { mended, lost };
  const knownId = settings.value?.id ?? receiverIdOf(authority.value);
  if (authority.value === null) {
    const gone = authority.fault ?? 'it is gone, and so is its copy';
    const what = 'receiver/authority.json';
    if (newIdentity) {
      mended.push({ what, reason: `${gone}; another one is made: invite every agent again` });
      if (!dryRun) await makeIdentity(dir, knownId ?? randomBytes(16).toString('hex'), now);
    } else {
      const reason = `${gone}; agents trust no receiver without it. --new-identity makes another, and then every agent must be invited again`;
      lost.push({ what, reason });
    }
  }
  if (settings.value === null) {
    const gone = settings.fault ?? 'it is gone, and so is its copy';
    const what = 'receiver/receiver.json';
    if (authority.value === null && !newIdentity) lost.push({ what, reason: gone });
    else {
      const reason = `${gone}; it is made again with the id of the authority. Set its address with "stillpoint receiver init --listen --url"`;
      mended.push({ what, reason });
      if (!dryRun) await initReceiver(dir, { now, replacesSettings: true });
    }
  }
  return { mended, lost };
}

async function mend<T>(
  path: string,
  format: StateFormat<T>,
  dryRun: boolean,
  mended: IdentityFinding[],
): Promise<Seen<T>> {
  try {
    const twin = await readTwin(path, format);
    if (twin.value === null) return { value: null, fault: null };
    const what = `receiver/${basename(path)}`;
    if (twin.fault !== null) mended.push({ what, reason: `${twin.fault} It is made again from its copy` });
    else if (!twin.hasCopy) mended.push({ what, reason: 'it has no copy of the same content; one is made' });
    if (!dryRun) await mendTwin(path, format, twin);
    return { value: twin.value, fault: null };
  } catch (error) {
    // It is not lost, and must not be made anew.
    if (isStillpointError(error, 'version')) throw error;
    return { value: null, fault: error instanceof Error ? error.message : String(error) };
  }
}
