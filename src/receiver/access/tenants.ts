/**
 * Invites and enrolled agents, as files under DIR/receiver/.
 *
 *   invites/<id>.json       an open invite; id = first half of SHA-256(secret). Made by
 *                           `receiver invite` in a process of its own
 *   invites/<id>.used.json  the same after its use, kept for a clear answer
 *   agents/<name>.json      the agent's present certificate, and the invite that it came from
 *
 * Exactly once: enrolments run one after the other (one receiver holds the store's lock), and writing the
 * agent's file is the commit point. It names the invite, so an invite whose marking was lost in a crash is
 * still known to be used; before an agent's file is replaced, the invite that it names is marked. The same
 * invite with the same key again (a lost answer) gets the same certificate. Only hashes of secrets are kept.
 */
import { createHash, randomBytes, timingSafeEqual, X509Certificate } from 'node:crypto';
import { readdir, rename, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { makeDirectory, readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { INVITE_LIFETIME_MS } from '../../domain/base/limits.js';
import { checkName } from '../../domain/base/names.js';
import { syncDirectory } from '../../native/files.js';
import { fingerprint } from '../../protocol/certificates/certificate-identity.js';
import {
  isForRequest,
  type KeyAndCertificate,
  signRequest,
} from '../../protocol/certificates/certificates.js';
import { encodeInviteCode, pinOf } from '../../protocol/certificates/invite-code.js';
import { type EnrolRequest, hexIdSchema } from '../../protocol/messages/schemas.js';
import { readAuthority, receiverDirectory } from './identity.js';

interface Invite {
  readonly agent: string;
  /** SHA-256 of the secret, hex. */
  readonly secretHash: string;
  readonly expiresAt: string;
}

export interface EnrolledAgent {
  readonly name: string;
  /** SHA-256 of the certificate, hex: the only one that the agent is let in with. */
  readonly fingerprint: string;
  /** PEM. */
  readonly certificate: string;
  readonly inviteId: string;
  readonly enrolledAt: string;
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

const agentFormat: StateFormat<EnrolledAgent> = {
  format: 'stillpoint-agent',
  version: 1,
  schema: z.strictObject({
    name: z.string(),
    fingerprint: z.string().length(64),
    certificate: z.string(),
    inviteId: hexIdSchema,
    enrolledAt: z.iso.datetime(),
  }),
};

/** Files of used and expired invites are kept so long, for clear answers. */
const INVITE_KEPT_MS = 30 * 24 * 60 * 60 * 1000;

const invitesPath = (dir: string) => join(receiverDirectory(dir), 'invites');
const agentsPath = (dir: string) => join(receiverDirectory(dir), 'agents');
const invitePath = (dir: string, id: string) => join(invitesPath(dir), `${id}.json`);
const usedInvitePath = (dir: string, id: string) => join(invitesPath(dir), `${id}.used.json`);
const agentPath = (dir: string, name: string) => join(agentsPath(dir), `${name}.json`);

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

/**
 * @throws StillpointError `bad-name` where the name's file is another agent's: the file system does not tell
 * upper from lower case
 */
async function findAgent(dir: string, name: string): Promise<EnrolledAgent | null> {
  // One that can't be read is replaced by the agent's next enrolment.
  const found = await readStateFile(agentPath(dir, name), agentFormat).catch((error: unknown) => {
    if (isStillpointError(error, 'config')) return null;
    throw error;
  });
  if (found === null || found.name === name) return found;
  throw new StillpointError('bad-name', {
    thing: `agent ${name}`,
    reason: `the receiver already has ${found.name}, and its file system ignores upper and lower case`,
    remedy: 'Enroll the machine under another name.',
  });
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

export class Tenants {
  readonly #dir: string;
  readonly #authority: KeyAndCertificate;
  readonly #agents: Map<string, EnrolledAgent>;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(dir: string, authority: KeyAndCertificate, agents: Map<string, EnrolledAgent>) {
    this.#dir = dir;
    this.#authority = authority;
    this.#agents = agents;
  }

  /** @param onDamaged is told of files that can't be read */
  static async open(
    dir: string,
    authority: KeyAndCertificate,
    onDamaged: (message: string) => void = () => undefined,
  ): Promise<Tenants> {
    await makeDirectory(invitesPath(dir));
    await makeDirectory(agentsPath(dir));
    const agents = new Map<string, EnrolledAgent>();
    for (const file of await readdir(agentsPath(dir))) {
      if (!file.endsWith('.json')) continue;
      // One that can't be read locks out its own agent, and nobody else.
      const agent = await readStateFile(join(agentsPath(dir), file), agentFormat).catch((error: Error) => {
        onDamaged(
          `agents/${file}: ${error.message} The agent is refused until it is invited and enrolled again.`,
        );
        return null;
      });
      if (agent !== null) agents.set(agent.name, agent);
    }
    const tenants = new Tenants(dir, authority, agents);
    for (const agent of agents.values()) await tenants.#markUsed(agent.inviteId);
    return tenants;
  }

  agent(name: string): EnrolledAgent | null {
    return this.#agents.get(name) ?? null;
  }

  /** Of all enrolled agents, sorted. */
  names(): string[] {
    return [...this.#agents.keys()].sort();
  }

  /** @throws StillpointError `invite-invalid`, `invite-expired`, `bad-message` */
  enrol(request: EnrolRequest, now: Date): Promise<EnrolledAgent> {
    const result = this.#queue.then(() => this.#enrol(request, now));
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #enrol({ secret, csr, name }: EnrolRequest, now: Date): Promise<EnrolledAgent> {
    const hash = hashOf(Buffer.from(secret, 'hex'));
    const id = hash.toString('hex', 0, 16);
    const open = await readStateFile(invitePath(this.#dir, id), inviteFormat);
    const invite = open ?? (await readStateFile(usedInvitePath(this.#dir, id), inviteFormat));
    if (invite === null || !timingSafeEqual(Buffer.from(invite.secretHash, 'hex'), hash)) {
      throw refusal('the receiver knows no such code');
    }
    const present = this.agent(invite.agent);
    if (present?.inviteId === id) {
      await this.#markUsed(id);
      if (await isForRequest(present.certificate, csr)) return present;
    }
    if (open === null || present?.inviteId === id) throw refusal('it was already used');
    if (Date.parse(invite.expiresAt) < now.getTime()) {
      throw new StillpointError('invite-expired', {
        thing: 'invite code',
        reason: `it expired at ${invite.expiresAt}`,
        remedy: NEW_CODE,
      });
    }
    if (name !== null && name !== invite.agent) {
      throw refusal(
        `it was made for the agent ${invite.agent}, not for ${JSON.stringify(name.slice(0, 80))}`,
      );
    }
    await findAgent(this.#dir, invite.agent);
    const certificate = await signRequest(this.#authority, csr, invite.agent, now);
    const agent: EnrolledAgent = {
      name: invite.agent,
      fingerprint: fingerprint(new X509Certificate(certificate)).toString('hex'),
      certificate,
      inviteId: id,
      enrolledAt: now.toISOString(),
    };
    if (present !== null) await this.#markUsed(present.inviteId);
    await writeStateFile(agentPath(this.#dir, agent.name), agentFormat, agent);
    this.#agents.set(agent.name, agent);
    await this.#markUsed(id);
    return agent;
  }

  async #markUsed(id: string): Promise<void> {
    try {
      await rename(invitePath(this.#dir, id), usedInvitePath(this.#dir, id));
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code === 'ENOENT') return;
      throw error;
    }
    await syncDirectory(invitesPath(this.#dir));
  }
}

const NEW_CODE = 'Make a new one with "stillpoint receiver invite" on the receiver.';

function refusal(reason: string): StillpointError {
  return new StillpointError('invite-invalid', { thing: 'invite code', reason, remedy: NEW_CODE });
}
