/**
 * Invites, as files under DIR/receiver/invites/:
 *
 *   <id>.json       an open invite; id = first half of SHA-256(secret). Made by `receiver invite` in a
 *                   process of its own
 *   <id>.used.json  the same after its use, kept for a clear answer
 *
 * Only hashes of secrets are kept.
 */
import { createHash, randomBytes, timingSafeEqual, X509Certificate } from 'node:crypto';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import {
  makeDirectory,
  readSpareStateFile,
  readStateFile,
  type StateFormat,
  writeStateFile,
} from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { INVITE_LIFETIME_MS } from '../../domain/base/limits.js';
import { checkName } from '../../domain/base/names.js';
import { syncDirectory } from '../../native/files.js';
import { encodeInviteCode, pinOf } from '../../protocol/certificates/invite-code.js';
import { findAgent } from './agent-file.js';
import { readAuthority, receiverDirectory } from './identity.js';

interface Invite {
  readonly agent: string;
  /** SHA-256 of the secret, hex. */
  readonly secretHash: string;
  readonly expiresAt: string;
}

const inviteFormat: StateFormat<Invite> = {
  format: 'stillpoint-invite',
  version: 1,
  schema: z.strictObject({
    agent: z.string(),
    secretHash: z.string().length(64),
    expiresAt: z.iso.datetime(),
  }),
};

/** Files of used and expired invites are kept so long, for clear answers. */
const INVITE_KEPT_MS = 30 * 24 * 60 * 60 * 1000;

export const invitesPath = (dir: string) => join(receiverDirectory(dir), 'invites');
const invitePath = (dir: string, id: string) => join(invitesPath(dir), `${id}.json`);
const usedInvitePath = (dir: string, id: string) => join(invitesPath(dir), `${id}.used.json`);

function hashOf(secret: Buffer): Buffer {
  return createHash('sha256').update(secret).digest();
}

export interface NewInvite {
  readonly code: string;
  readonly expiresAt: Date;
  /** The agent is enrolled already: using the code replaces its certificate. */
  readonly replaces: boolean;
}

/** Makes a one-time code for an agent of this name. The receiver may be serving meanwhile. */
export async function createInvite(
  dir: string,
  agent: string,
  now: Date,
  lifetimeMs = INVITE_LIFETIME_MS,
): Promise<NewInvite> {
  checkName('agent name', agent);
  const authority = new X509Certificate((await readAuthority(dir)).certificate);
  await makeDirectory(invitesPath(dir));
  await sweepInvites(dir, now);
  const replaces = (await findAgent(dir, agent)) !== null;
  const secret = randomBytes(16);
  const hash = hashOf(secret);
  const expiresAt = new Date(now.getTime() + lifetimeMs);
  await writeStateFile(invitePath(dir, hash.toString('hex', 0, 16)), inviteFormat, {
    agent,
    secretHash: hash.toString('hex'),
    expiresAt: expiresAt.toISOString(),
  });
  return { code: encodeInviteCode({ pin: pinOf(authority), secret }), expiresAt, replaces };
}

export interface FoundInvite {
  readonly id: string;
  readonly agent: string;
  readonly expiresAt: string;
  readonly isOpen: boolean;
}

/** @throws StillpointError `invite-invalid` */
export async function findInvite(dir: string, secret: string): Promise<FoundInvite> {
  const hash = hashOf(Buffer.from(secret, 'hex'));
  const id = hash.toString('hex', 0, 16);
  const open = await readStateFile(invitePath(dir, id), inviteFormat);
  const invite = open ?? (await readStateFile(usedInvitePath(dir, id), inviteFormat));
  if (invite === null || !timingSafeEqual(Buffer.from(invite.secretHash, 'hex'), hash)) {
    throw inviteRefusal('the receiver knows no such code');
  }
  return { id, agent: invite.agent, expiresAt: invite.expiresAt, isOpen: open !== null };
}

export async function markUsed(dir: string, id: string): Promise<void> {
  try {
    await rename(invitePath(dir, id), usedInvitePath(dir, id));
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
    throw error;
  }
  await syncDirectory(invitesPath(dir));
}

/** Agents that have an open invite, with the time when it expires. @throws StillpointError `version` */
export async function openInvites(dir: string, now: Date): Promise<Map<string, string>> {
  const found = new Map<string, string>();
  for (const file of await readdir(invitesPath(dir)).catch(() => [])) {
    if (!/^[0-9a-f]{32}\.json$/.test(file)) continue;
    const invite = await readSpareStateFile(join(invitesPath(dir), file), inviteFormat);
    if (invite !== null && Date.parse(invite.expiresAt) > now.getTime()) {
      const later = [found.get(invite.agent) ?? '', invite.expiresAt].sort().at(-1) ?? '';
      found.set(invite.agent, later);
    }
  }
  return found;
}

/**
 * Codes that were made for the agent and not used yet are good for nothing when it resolves.
 * @throws StillpointError `version` for one of a newer program, which may be this agent's
 */
export async function withdrawInvites(dir: string, agent: string): Promise<void> {
  for (const file of await readdir(invitesPath(dir))) {
    if (!/^[0-9a-f]{32}\.json$/.test(file)) continue;
    const invite = await readSpareStateFile(join(invitesPath(dir), file), inviteFormat);
    if (invite?.agent === agent) await rm(join(invitesPath(dir), file), { force: true });
  }
  await syncDirectory(invitesPath(dir));
}

/** Removes what is long expired or used, and what an interrupted write left. */
async function sweepInvites(dir: string, now: Date): Promise<void> {
  for (const file of await readdir(invitesPath(dir))) {
    const path = join(invitesPath(dir), file);
    const modified = await stat(path).catch(() => null);
    if (modified !== null && now.getTime() - modified.mtimeMs > INVITE_KEPT_MS)
      await rm(path, { force: true });
  }
}

export const NEW_CODE = 'Make a new one with "stillpoint receiver invite" on the receiver.';
export const USED_CODE = `If that was not you, revoke the agent there at once. ${NEW_CODE}`;

export function inviteRefusal(reason: string, remedy = NEW_CODE): StillpointError {
  return new StillpointError('invite-invalid', { thing: 'invite code', reason, remedy });
}
