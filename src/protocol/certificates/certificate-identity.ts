/**
 * What certificates say about their owners, read by Node itself: commands that only connect need nothing
 * else.
 *
 * Identities are URIs in the subject alternative name, and a certificate's permitted use is in its extended
 * key usage: an agent's can't pass for the receiver's.
 */
import { createHash, type X509Certificate } from 'node:crypto';

const SERVER_AUTH = '1.3.6.1.5.5.7.3.1';
const CLIENT_AUTH = '1.3.6.1.5.5.7.3.2';

export type Role = 'receiver' | 'agent';

export function identityUri(role: Role, id: string): string {
  return `urn:stillpoint:${role}:${id}`;
}

/** The extended key usage of a role's certificate. */
export function keyUseOf(role: Role): string {
  return role === 'receiver' ? SERVER_AUTH : CLIENT_AUTH;
}

/** The receiver id or agent name that a certificate speaks for; null if it is none of that role. */
export function subjectOf(
  certificate: { readonly subjectAltName?: string | undefined },
  role: Role,
): string | null {
  const prefix = `URI:${identityUri(role, '')}`;
  const names = certificate.subjectAltName ?? '';
  return names.startsWith(prefix) && !names.includes(',') ? names.slice(prefix.length) : null;
}

/** SHA-256 of the certificate's DER form. */
export function fingerprint(certificate: X509Certificate): Buffer {
  return createHash('sha256').update(certificate.raw).digest();
}

/** `not-yet-valid`: the clock is behind, or was ahead when the certificate was made. */
export type CertificateFault = 'unknown-authority' | 'wrong-use' | 'expired' | 'not-yet-valid';

/**
 * Checks a certificate that TLS showed against the authority; null if it is good for the role at this time.
 */
export function checkCertificate(
  certificate: X509Certificate,
  authority: X509Certificate,
  role: Role,
  now: Date,
): CertificateFault | null {
  if (!certificate.checkIssued(authority) || !certificate.verify(authority.publicKey))
    return 'unknown-authority';
  if (subjectOf(certificate, role) === null || !certificate.keyUsage?.includes(keyUseOf(role)))
    return 'wrong-use';
  if (now.getTime() < Date.parse(certificate.validFrom)) return 'not-yet-valid';
  return now.getTime() > Date.parse(certificate.validTo) ? 'expired' : null;
}
