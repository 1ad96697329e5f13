import { X509Certificate } from 'node:crypto';
import test from 'ava';
import { checkCertificate, subjectOf } from '../../../src/protocol/certificates/certificate-identity.js';
import {
  createAuthority,
  createRequest,
  createServerCertificate,
  isForRequest,
  isNearItsEnd,
  signRequest,
} from '../../../src/protocol/certificates/certificates.js';

const NOW = new Date('2026-01-01T00:00:00Z');
const YEAR_MS = 365 * 24 * 60 * 60 * 1000;
const later = (years: number) => new Date(NOW.getTime() + years * YEAR_MS);
const parse = (pem: string) => new X509Certificate(pem);

test('an agent certificate is the authority’s, for an agent, for its time', async (t) => {
  const authority = await createAuthority('ab', NOW);
  const { csr } = await createRequest();
  const agent = parse(await signRequest(authority, csr, 'host-1.example', NOW));
  const issuer = parse(authority.certificate);
  t.is(subjectOf(agent, 'agent'), 'host-1.example');
  t.is(subjectOf(agent, 'receiver'), null);
  t.is(checkCertificate(agent, issuer, 'agent', NOW), null);
  t.is(checkCertificate(agent, issuer, 'receiver', NOW), 'wrong-use');
  t.is(checkCertificate(agent, issuer, 'agent', later(11)), 'expired');
  t.is(checkCertificate(agent, issuer, 'agent', later(-1)), 'not-yet-valid');
  const other = parse((await createAuthority('ab', NOW)).certificate);
  t.is(checkCertificate(agent, other, 'agent', NOW), 'unknown-authority');
  t.is(checkCertificate(issuer, issuer, 'agent', NOW), 'wrong-use');
});

test('a server certificate is for a receiver only, and is due for renewal halfway', async (t) => {
  const authority = await createAuthority('ab', NOW);
  const { certificate } = await createServerCertificate(authority, 'ab', NOW);
  t.is(checkCertificate(parse(certificate), parse(authority.certificate), 'receiver', NOW), null);
  t.is(checkCertificate(parse(certificate), parse(authority.certificate), 'agent', NOW), 'wrong-use');
  t.false(isNearItsEnd(certificate, later(0.9)));
  t.true(isNearItsEnd(certificate, later(1.1)));
});

test('only a P-256 request that its own key signed is taken', async (t) => {
  const authority = await createAuthority('ab', NOW);
  const { csr } = await createRequest();
  const body = Buffer.from(csr.replace(/-----.*-----|\s/g, ''), 'base64');
  body.writeUInt8(body.readUInt8(body.length - 1) ^ 1, body.length - 1);
  const forged = `-----BEGIN CERTIFICATE REQUEST-----\n${body.toString('base64')}\n-----END CERTIFICATE REQUEST-----`;
  for (const bad of [forged, authority.certificate, 'no request', '']) {
    await t.throwsAsync(signRequest(authority, bad, 'host', NOW), { code: 'bad-message' });
  }
});

test('a certificate is told from one for another key', async (t) => {
  const authority = await createAuthority('ab', NOW);
  const [one, two] = [await createRequest(), await createRequest()];
  const certificate = await signRequest(authority, one.csr, 'host', NOW);
  t.true(await isForRequest(certificate, one.csr));
  t.false(await isForRequest(certificate, two.csr));
});
