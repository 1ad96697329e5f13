/**
 * Which agent does a connection speak for? TLS has proven that the other side holds the key of the
 * certificate that it showed; everything else is checked here, on each request, so that a replaced
 * certificate is refused at once and a refusal is a clear error instead of a broken handshake.
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
import type { Tenants } from './tenants.js';

const ENROL_AGAIN = 'Enroll this agent with a code that "stillpoint receiver invite" makes.';

const FAULTS: Record<CertificateFault, string> = {
  'unknown-authority': 'it was not made by this receiver',
  'wrong-use': "it is not an agent's certificate",
  expired: 'it is not valid at this time',
};

export class Authorizer {
  readonly #tenants: Tenants;
  readonly #authority: X509Certificate;
  readonly #now: () => Date;
  /** What was proven once for a connection; expiry and replacement are looked at on each request. */
  readonly #proven = new WeakMap<TLSSocket, Proven>();

  constructor(tenants: Tenants, authorityPem: string, now: () => Date) {
    this.#tenants = tenants;
    this.#authority = new X509Certificate(authorityPem);
    this.#now = now;
  }

  /** @returns the agent's name. @throws StillpointError `not-enrolled`, `unauthorized` */
  agentOf(socket: TLSSocket): string {
    const proven = this.#proven.get(socket) ?? this.#prove(socket);
    this.#proven.set(socket, proven);
    if (proven.expiresAtMs < this.#now().getTime()) throw unauthorized(proven.name, FAULTS.expired);
    const agent = this.#tenants.agent(proven.name);
    if (agent === null) throw unauthorized(proven.name, 'the agent is no longer enrolled here');
    if (agent.fingerprint !== proven.fingerprint) {
      throw unauthorized(proven.name, 'it was replaced when the agent was enrolled again');
    }
    return agent.name;
  }

  #prove(socket: TLSSocket): Proven {
    const certificate = socket.getPeerX509Certificate();
    if (certificate === undefined) {
      throw new StillpointError('not-enrolled', {
        thing: 'this connection',
        reason: 'it showed no certificate of an enrolled agent',
        remedy: ENROL_AGAIN,
      });
    }
    const fault = checkCertificate(certificate, this.#authority, 'agent', this.#now());
    const name = subjectOf(certificate, 'agent');
    if (fault !== null || name === null) throw unauthorized(name, FAULTS[fault ?? 'wrong-use']);
    return {
      name,
      fingerprint: fingerprint(certificate).toString('hex'),
      expiresAtMs: Date.parse(certificate.validTo),
    };
  }
}

interface Proven {
  readonly name: string;
  readonly fingerprint: string;
  readonly expiresAtMs: number;
}

function unauthorized(name: string | null, reason: string): StillpointError {
  return new StillpointError('unauthorized', {
    thing: name === null ? 'certificate' : `certificate of the agent ${name.slice(0, 80)}`,
    reason,
    remedy: ENROL_AGAIN,
  });
}
