/**
 * Which agent does a connection speak for? TLS has proven that the other side holds the key of the
 * certificate that it showed; everything else is checked here, on each request, so that a certificate that
 * was replaced or revoked is refused at once, and a refusal is a clear error instead of a broken handshake.
 * The receiver knows agents by their certificates: the name in one is that of the time when it was made.
 */
import { X509Certificate } from 'node:crypto';
import type { TLSSocket } from 'node:tls';
import { StillpointError } from '../../domain/base/errors.js';
import {
  type CertificateFault,
  checkCertificate,
  fingerprint,
  subjectOf,
} from '../../protocol/certificates/certificate-identity.js';
import type { EnrolledAgent } from './agent-file.js';
import type { Tenants } from './tenants.js';

const FAULTS: Record<CertificateFault, string> = {
  'unknown-authority': 'it was not made by this receiver',
  'wrong-use': "it is not an agent's certificate",
  expired: 'it is not valid at this time',
  'not-yet-valid': 'it is not valid yet',
};

export class Authorizer {
  readonly #tenants: Tenants;
  readonly #authorities: () => readonly X509Certificate[];
  readonly #now: () => Date;
  /** What was proven once for a connection; expiry and replacement are looked at on each request. */
  readonly #proven = new WeakMap<TLSSocket, Proven>();

  constructor(tenants: Tenants, authoritiesPem: () => readonly string[], now: () => Date) {
    this.#tenants = tenants;
    this.#authorities = () => authoritiesPem().map((pem) => new X509Certificate(pem));
    this.#now = now;
  }

  /** @returns the agent's name. @throws StillpointError `not-enrolled`, `unauthorized`, `agent-revoked` */
  agentOf(socket: TLSSocket): string {
    const now = this.#now();
    const proven = this.#proven.get(socket) ?? this.#prove(socket);
    this.#proven.set(socket, proven);
    const agent = this.#tenants.holderOf(proven.fingerprint, now);
    if (agent?.revoked !== undefined) throw revoked(agent, agent.revoked);
    const name = agent?.name ?? proven.name;
    if (proven.expiresAtMs < now.getTime()) throw expired(name, proven.expiresAtMs);
    if (agent !== null) {
      // If that can't be written now, both certificates still count, and the next request tries again.
      void this.#tenants.shown(agent.name, proven.fingerprint, now).catch(() => undefined);
      return agent.name;
    }
    const successor = this.#tenants.agent(proven.name);
    if (successor?.revoked !== undefined) throw revoked(successor, successor.revoked);
    if (successor === null) throw unauthorized(name, 'the agent is no longer enrolled here');
    throw unauthorized(name, 'it was replaced when the agent was enrolled again');
  }

  /** The certificate that an agent has shown. */
  fingerprintOf(socket: TLSSocket): string {
    return (this.#proven.get(socket) ?? this.#prove(socket)).fingerprint;
  }

  #prove(socket: TLSSocket): Proven {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) {
      throw new StillpointError('not-enrolled', {
        thing: 'this connection',
        reason: 'it showed no certificate of an enrolled agent',
        remedy: 'Enroll this agent with a code that "stillpoint receiver invite" makes.',
      });
    }
    const faults = this.#authorities().map((authority) =>
      checkCertificate(certificate, authority, 'agent', this.#now()),
    );
    const fault = faults.find((found) => found !== 'unknown-authority') ?? faults[0] ?? null;
    const isGood = faults.includes(null);
    const name = subjectOf(certificate, 'agent');
    const expiresAtMs = Date.parse(certificate.validTo);
    if (!isGood && fault === 'expired' && name !== null) throw expired(name, expiresAtMs);
    if (!isGood && fault === 'not-yet-valid') throw notYetValid(name, certificate.validFrom);
    if (!isGood || name === null) throw unauthorized(name, FAULTS[fault ?? 'wrong-use']);
    return { name, fingerprint: fingerprint(certificate).toString('hex'), expiresAtMs };
  }
}

interface Proven {
  readonly name: string;
  readonly fingerprint: string;
  readonly expiresAtMs: number;
}

function enrollAgain(name: string | null): string {
  const agent = name === null ? 'NAME' : name.slice(0, 80);
  return `On the receiver, run "stillpoint receiver invite ${agent}"; then here "stillpoint enroll URL CODE".`;
}

function unauthorized(name: string | null, reason: string): StillpointError {
  return new StillpointError('unauthorized', {
    thing: name === null ? 'certificate' : `certificate of the agent ${name.slice(0, 80)}`,
    reason,
    remedy: enrollAgain(name),
  });
}

function expired(name: string, expiresAtMs: number): StillpointError {
  const at = Number.isNaN(expiresAtMs) ? 'it' : `its time ended at ${new Date(expiresAtMs).toISOString()}`;
  return unauthorized(name, `${FAULTS.expired}: ${at}, by the receiver's clock`);
}

/** The receiver made it, so its clock has gone back since: to enroll again would not help. */
function notYetValid(name: string | null, validFrom: string): StillpointError {
  const from = new Date(validFrom).toISOString();
  return new StillpointError('unauthorized', {
    thing: name === null ? 'certificate' : `certificate of the agent ${name.slice(0, 80)}`,
    reason: `${FAULTS['not-yet-valid']}: its time begins at ${from}, and the receiver's clock is behind that`,
    remedy: "Set the receiver's clock right.",
  });
}

function revoked(
  { name }: EnrolledAgent,
  { at, reason }: { at: string; reason: string | null },
): StillpointError {
  return new StillpointError('agent-revoked', {
    thing: `agent ${name}`,
    reason: `its access was revoked at ${at}${reason === null ? '' : ` (${reason})`}`,
    remedy: `If that was wrong, ask for a new code ("stillpoint receiver invite ${name}") and run "stillpoint enroll URL CODE".`,
  });
}
