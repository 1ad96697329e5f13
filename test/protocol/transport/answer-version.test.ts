/** An answer in another version of the protocol is refused, and never read. */
import { once } from 'node:events';
import { createServer } from 'node:https';
import type { AddressInfo } from 'node:net';
import test from 'ava';
import { createAuthority, createServerCertificate } from '../../../src/protocol/certificates/certificates.js';
import { PROTOCOL_VERSION } from '../../../src/protocol/schemas/messages.js';
import { Transport } from '../../../src/protocol/transport/transport.js';
import { refused } from '../../helpers/refused.js';

test('an agent refuses an answer of another version, or of none', async (t) => {
  const receiverId = 'a'.repeat(32);
  const authority = await createAuthority(receiverId, new Date());
  const { key, certificate } = await createServerCertificate(authority, receiverId, new Date());
  let version: string | null = null;
  const server = createServer({ key, cert: certificate }, (_request, reply) => {
    if (version !== null) reply.setHeader('stillpoint-protocol', version);
    reply.end('{}');
  });
  await once(server.listen(0, '127.0.0.1'), 'listening');
  const url = `https://127.0.0.1:${(server.address() as AddressInfo).port}`;
  const transport = new Transport({ url, receiverId, authority: authority.certificate }, { connections: 1 });
  t.teardown(async () => {
    await transport.close();
    server.closeAllConnections();
    server.close();
  });
  const request = { path: '/v1/info', body: null, answerTimeoutMs: 30_000 };
  for (const other of [null, String(PROTOCOL_VERSION + 1)]) {
    version = other;
    const said = new RegExp(
      `in version "${other ?? ''}" of the protocol, and this agent speaks ${PROTOCOL_VERSION}`,
    );
    await refused(t, transport.bytes(request, 100), 'version', said);
    await refused(t, transport.stream(request).next(), 'version', said);
  }
  version = String(PROTOCOL_VERSION);
  t.is((await transport.bytes(request, 100)).toString(), '{}');
});
