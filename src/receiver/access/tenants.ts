/**
 * The agents that a receiver knows, and which certificates each may show (agent-file.ts, invites.ts).
 *
 * | an agent is | becomes  | when                                                                          |
 * |-------------|----------|-------------------------------------------------------------------------------|
 * | invited     | enrolled | it shows the secret of its invite: the writing of its file is the commit point |
 * | enrolled    | enrolled | it shows another invite's secret: only its new certificate counts at once     |
 * |             | renewed  | it asks, over its connection: `next` counts beside the present certificate    |
 * | renewed     | enrolled | it shows `next`, which becomes the present one; the former counts for a while |
 * | any         | revoked  | an operator says so: none of its certificates counts                          |
 * | revoked     | enrolled | it shows the secret of a new invite                                           |
 *
 * Exactly once: changes run one after the other (one receiver holds the store's lock), and each is one
 * write of the agent's file. It names the invite, so an invite whose marking was lost in a crash is still
 * known to be used; before an agent's file is replaced, the invite that it names is marked. The same request
 * with the same key again (a lost answer) gets the same certificate.
 */
import { rm } from 'node:fs/promises';
import { makeDirectory } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { FORMER_CERTIFICATE_MS } from '../../domain/base/limits.js';
import { syncDirectory } from '../../native/files.js';
import {
  isForRequest,
  type KeyAndCertificate,
  signRequest,
} from '../../protocol/certificates/certificates.js';
import type { EnrolRequest } from '../../protocol/schemas/messages.js';
import {
  agentPath,
  agentsPath,
  type EnrolledAgent,
  findAgent,
  knownCertificate,
  readAgents,
  writeAgent,
} from './agent-file.js';
import {
  findInvite,
  inviteRefusal,
  invitesPath,
  markUsed,
  NEW_CODE,
  USED_CODE,
  withdrawInvites,
} from './invites.js';

export class Tenants {
  readonly #dir: string;
  readonly #authority: () => Promise<KeyAndCertificate>;
  readonly #agents: Map<string, EnrolledAgent>;
  #queue: Promise<unknown> = Promise.resolve();

  private constructor(
    dir: string,
    authority: () => Promise<KeyAndCertificate>,
    agents: Map<string, EnrolledAgent>,
  ) {
    this.#dir = dir;
    this.#authority = authority;
    this.#agents = agents;
  }

  /**
   * @param authority that makes certificates now
   * @param onDamaged is told of files that can't be read
   */
  static async open(
    dir: string,
    authority: KeyAndCertificate | (() => Promise<KeyAndCertificate>),
    onDamaged: (message: string) => void = () => undefined,
  ): Promise<Tenants> {
    await makeDirectory(invitesPath(dir));
    await makeDirectory(agentsPath(dir));
    const agents = await readAgents(dir, onDamaged);
    for (const { inviteId } of agents.values()) await markUsed(dir, inviteId);
    return new Tenants(dir, typeof authority === 'function' ? authority : async () => authority, agents);
  }

  agent(name: string): EnrolledAgent | null {
    return this.#agents.get(name) ?? null;
  }

  /** The agent that may show this certificate, whatever name the certificate says. */
  holderOf(fingerprint: string, now: Date): EnrolledAgent | null {
    for (const agent of this.#agents.values()) {
      const isFormer =
        agent.former?.fingerprint === fingerprint && Date.parse(agent.former.until) > now.getTime();
      if (agent.fingerprint === fingerprint || agent.next?.fingerprint === fingerprint || isFormer)
        return agent;
    }
    return null;
  }

  /** Of all agents that may connect, sorted. */
  names(): string[] {
    return [...this.#agents.values()]
      .filter(({ revoked }) => revoked === undefined)
      .map(({ name }) => name)
      .sort();
  }

  /** Revoked ones too, by name. */
  all(): EnrolledAgent[] {
    return [...this.#agents.values()].sort((a, b) => (a.name < b.name ? -1 : 1));
  }

  /** @throws StillpointError `invite-invalid`, `invite-expired`, `bad-message` */
  enrol(request: EnrolRequest, now: Date): Promise<EnrolledAgent> {
    return this.#inTurn(() => this.#enrol(request, now));
  }

  /**
   * A certificate for a new key of the agent, which counts beside the one that it has.
   * @param shown the certificate that it asks with
   * @throws StillpointError `bad-message`, `unauthorized`
   */
  renew(name: string, shown: string, csr: string, now: Date): Promise<string> {
    return this.#inTurn(async () => {
      const agent = this.#present(name);
      if (agent.next !== undefined && (await isForRequest(agent.next.certificate, csr)))
        return agent.next.certificate;
      // Its answer was lost, and the agent has shown the new one meanwhile.
      if (await isForRequest(agent.certificate, csr)) return agent.certificate;
      // What a former certificate may do ends with it: whoever has its key must not get another one.
      if (shown !== agent.fingerprint && shown !== agent.next?.fingerprint) throw notPresent(name);
      const next = knownCertificate(await signRequest(await this.#authority(), csr, name, now));
      await this.#write({ ...agent, next });
      return next.certificate;
    });
  }

  /** The agent has shown this certificate: if it is its next one, that is its present one from now on. */
  async shown(name: string, fingerprint: string, now: Date): Promise<void> {
    if (this.agent(name)?.next?.fingerprint !== fingerprint) return;
    await this.#inTurn(async () => {
      const { next, former: _, ...agent } = this.#present(name);
      if (next?.fingerprint !== fingerprint) return;
      const until = new Date(now.getTime() + FORMER_CERTIFICATE_MS).toISOString();
      const former = { fingerprint: agent.fingerprint, certificate: agent.certificate, until };
      await this.#write({ ...agent, ...next, former });
    });
  }

  /** Nobody is let in as this agent from now on. Done again, it stays as it was first. */
  revoke(name: string, reason: string | null, now: Date): Promise<EnrolledAgent> {
    return this.#inTurn(async () => {
      const agent = this.#present(name);
      const revoked =
        agent.revoked === undefined ? { ...agent, revoked: { at: now.toISOString(), reason } } : agent;
      // It counts from here on, even if the disk is full; the error says that it does not outlive a restart.
      this.#agents.set(name, revoked);
      await this.#write(revoked);
      await withdrawInvites(this.#dir, name);
      return revoked;
    });
  }

  /**
   * What there is to know of it under the new name is written first, then the old file is removed. Codes for
   * the former name are void: they would enroll another agent.
   */
  rename(from: string, to: string): Promise<void> {
    return this.#inTurn(async () => {
      await withdrawInvites(this.#dir, from);
      const agent = this.#agents.get(from);
      if (agent === undefined) return;
      await this.#write({ ...agent, name: to });
      await this.#remove(from);
    });
  }

  /** No error if there is none. */
  remove(name: string): Promise<void> {
    return this.#inTurn(async () => {
      await withdrawInvites(this.#dir, name);
      await this.#remove(name);
    });
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(change);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #write(agent: EnrolledAgent): Promise<void> {
    await writeAgent(this.#dir, agent);
    this.#agents.set(agent.name, agent);
  }

  async #remove(name: string): Promise<void> {
    this.#agents.delete(name);
    await rm(agentPath(this.#dir, name), { force: true });
    await syncDirectory(agentsPath(this.#dir));
  }

  #present(name: string): EnrolledAgent {
    const agent = this.agent(name);
    if (agent !== null) return agent;
    throw new StillpointError('usage', {
      thing: `agent ${JSON.stringify(name.slice(0, 80))}`,
      reason: 'no agent of this name is enrolled here',
      remedy: 'See "stillpoint receiver agents".',
    });
  }

  async #enrol({ secret, csr, name }: EnrolRequest, now: Date): Promise<EnrolledAgent> {
    const invite = await findInvite(this.#dir, secret);
    const { id } = invite;
    const present = this.agent(invite.agent);
    if (present?.inviteId === id && present.revoked === undefined) {
      await markUsed(this.#dir, id);
      if (await isForRequest(present.certificate, csr)) return present;
    }
    if (!invite.isOpen || present?.inviteId === id) throw inviteRefusal('it was already used', USED_CODE);
    if (Date.parse(invite.expiresAt) < now.getTime()) {
      throw new StillpointError('invite-expired', {
        thing: 'invite code',
        reason: `it expired at ${invite.expiresAt}`,
        remedy: NEW_CODE,
      });
    }
    if (name !== null && name !== invite.agent) {
      throw inviteRefusal(
        `it was made for the agent ${invite.agent}, not for ${JSON.stringify(name.slice(0, 80))}`,
      );
    }
    await findAgent(this.#dir, invite.agent);
    const certificate = await signRequest(await this.#authority(), csr, invite.agent, now);
    const agent: EnrolledAgent = {
      ...knownCertificate(certificate),
      name: invite.agent,
      inviteId: id,
      enrolledAt: now.toISOString(),
    };
    if (present !== null) await markUsed(this.#dir, present.inviteId);
    await this.#write(agent);
    await markUsed(this.#dir, id);
    return agent;
  }
}

function notPresent(name: string): StillpointError {
  return new StillpointError('unauthorized', {
    thing: `certificate of the agent ${name}`,
    reason: 'it was replaced by a renewal, and gets no other one',
    remedy: 'Start again what runs with it: the machine has its successor.',
  });
}
