/**
 * Makes the certificates of both sides: ECDSA P-256, with webcrypto. certificate-identity.ts has what they
 * say.
 *
 * A receiver is its own authority: a self-signed CA whose fingerprint agents pin, a server certificate that
 * names the receiver, and a client certificate for every agent.
 */
import 'reflect-metadata';
import { randomBytes, webcrypto, X509Certificate } from 'node:crypto';
import * as x509 from '@peculiar/x509';
import { StillpointError } from '../../domain/base/errors.js';
import { identityUri, keyUseOf, type Role } from './certificate-identity.js';

const ALGORITHM = { name: 'ECDSA', namedCurve: 'P-256', hash: 'SHA-256' } as const;

const DAY_MS = 24 * 60 * 60 * 1000;
const CA_DAYS = 30 * 365;
/** Both sides renew theirs by themselves when half of it is over: a machine may be off for a year. */
const LEAF_DAYS = 2 * 365;
/** Clocks that are a little wrong must not refuse a new certificate. */
const SKEW_MS = DAY_MS;

export interface KeyAndCertificate {
  /** PKCS#8, PEM. */
  readonly key: string;
  /** PEM. */
  readonly certificate: string;
}

export interface KeyAndRequest {
  readonly key: string;
  /** PKCS#10, PEM. */
  readonly csr: string;
}

export async function createAuthority(receiverId: string, now: Date): Promise<KeyAndCertificate> {
  const keys = await generateKeys();
  const certificate = await x509.X509CertificateGenerator.createSelfSigned({
    serialNumber: serialNumber(),
    name: `CN=Stillpoint receiver ${receiverId} authority`,
    ...validity(now, CA_DAYS),
    signingAlgorithm: ALGORITHM,
    keys,
    extensions: [
      new x509.BasicConstraintsExtension(true, 0, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.keyCertSign, true),
      await x509.SubjectKeyIdentifierExtension.create(keys.publicKey),
    ],
  });
  return { key: await exportKey(keys.privateKey), certificate: certificate.toString('pem') };
}

export async function createServerCertificate(
  authority: KeyAndCertificate,
  receiverId: string,
  now: Date,
): Promise<KeyAndCertificate> {
  const keys = await generateKeys();
  const certificate = await issue(authority, keys.publicKey, 'receiver', receiverId, now);
  return { key: await exportKey(keys.privateKey), certificate };
}

/** On the agent's side: a key that never leaves it, and the request for its certificate. */
export async function createRequest(): Promise<KeyAndRequest> {
  const keys = await generateKeys();
  const csr = await x509.Pkcs10CertificateRequestGenerator.create({
    name: 'CN=Stillpoint agent',
    keys,
    signingAlgorithm: ALGORITHM,
  });
  return { key: await exportKey(keys.privateKey), csr: csr.toString('pem') };
}

/**
 * Signs an agent's request. Only its public key is used; what else it asks for is ignored.
 * @throws StillpointError `bad-message` if it is not a P-256 request signed by its own key
 */
export async function signRequest(
  authority: KeyAndCertificate,
  csr: string,
  agent: string,
  now: Date,
): Promise<string> {
  return issue(authority, await verifiedPublicKey(csr), 'agent', agent, now);
}

/** Does the certificate certify the key of this request? */
export async function isForRequest(certificate: string, csr: string): Promise<boolean> {
  const requested = await verifiedPublicKey(csr);
  const certified = new x509.X509Certificate(certificate).publicKey;
  return Buffer.from(requested.rawData).equals(Buffer.from(certified.rawData));
}

async function verifiedPublicKey(csr: string): Promise<x509.PublicKey> {
  try {
    const request = new x509.Pkcs10CertificateRequest(csr);
    const algorithm = request.publicKey.algorithm as { name: string; namedCurve?: string };
    const ours = algorithm.name === ALGORITHM.name && algorithm.namedCurve === ALGORITHM.namedCurve;
    if (ours && (await request.verify())) return request.publicKey;
  } catch {
    // not a request at all: the same answer
  }
  throw new StillpointError('bad-message', {
    thing: 'certificate request',
    reason: 'it is not a PKCS#10 request for an ECDSA P-256 key, signed by that key',
  });
}

async function issue(
  authority: KeyAndCertificate,
  publicKey: x509.PublicKeyType,
  role: Role,
  id: string,
  now: Date,
): Promise<string> {
  const issuer = new x509.X509Certificate(authority.certificate);
  const certificate = await x509.X509CertificateGenerator.create({
    serialNumber: serialNumber(),
    subject: `CN=Stillpoint ${role} ${id}`,
    issuer: issuer.subject,
    ...validity(now, LEAF_DAYS),
    signingAlgorithm: ALGORITHM,
    publicKey,
    signingKey: await importKey(authority.key),
    extensions: [
      new x509.BasicConstraintsExtension(false, undefined, true),
      new x509.KeyUsagesExtension(x509.KeyUsageFlags.digitalSignature, true),
      new x509.ExtendedKeyUsageExtension([keyUseOf(role)], true),
      new x509.SubjectAlternativeNameExtension([{ type: 'url', value: identityUri(role, id) }]),
      await x509.AuthorityKeyIdentifierExtension.create(issuer.publicKey),
    ],
  });
  return certificate.toString('pem');
}

/** @param part of its time that is left at most, from 0 to 1 */
export function isNearItsEnd(certificate: string, now: Date, part = 1 / 2): boolean {
  const { validFrom, validTo } = new X509Certificate(certificate);
  const [from, to] = [Date.parse(validFrom), Date.parse(validTo)];
  return to - now.getTime() < (to - from) * part;
}

function generateKeys(): Promise<webcrypto.CryptoKeyPair> {
  return webcrypto.subtle.generateKey(ALGORITHM, true, ['sign', 'verify']);
}

async function exportKey(key: webcrypto.CryptoKey): Promise<string> {
  return x509.PemConverter.encode(await webcrypto.subtle.exportKey('pkcs8', key), 'PRIVATE KEY');
}

function importKey(pem: string): Promise<webcrypto.CryptoKey> {
  return webcrypto.subtle.importKey('pkcs8', x509.PemConverter.decodeFirst(pem), ALGORITHM, false, ['sign']);
}

/** 128 random bits, positive. */
function serialNumber(): string {
  const bytes = randomBytes(16);
  bytes.writeUInt8((bytes.readUInt8(0) & 0x7f) | 0x40, 0);
  return bytes.toString('hex');
}

function validity(now: Date, days: number): { notBefore: Date; notAfter: Date } {
  return {
    notBefore: new Date(now.getTime() - SKEW_MS),
    notAfter: new Date(now.getTime() + days * DAY_MS),
  };
}
