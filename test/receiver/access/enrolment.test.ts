import { X509Certificate } from 'node:crypto';
import { readdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  createAuthority,
  createRequest,
  signRequest,
} from '../../../src/protocol/certificates/certificates.js';
import { decodeInviteCode, encodeInviteCode } from '../../../src/protocol/certificates/invite-code.js';
import { receiverClient } from '../../../src/protocol/client.js';
import { enroll } from '../../../src/protocol/enroll.js';
import { PROTOCOL_VERSION } from '../../../src/protocol/schemas/messages.js';
import { loadIdentity, readAuthority } from '../../../src/receiver/access/identity.js';
import { createInvite } from '../../../src/receiver/access/invites.js';
import { Tenants } from '../../../src/receiver/access/tenants.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { makeTlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const options = { openStore: async () => new MemoryStore() };

test('an invited agent is let in, and the receiver knows its name', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const enrolment = await receiver.enroll('host-1');
  t.is(enrolment.agent, 'host-1');
  const info = await receiver.client(enrolment).info();
  t.deepEqual(info, { storeId: 'a'.repeat(32), agent: 'host-1', protocolVersion: PROTOCOL_VERSION });
});

test('a code works once', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const code = await receiver.invite('host-1');
  await enroll(receiver.url, code);
  await t.throwsAsync(enroll(receiver.url, code), { code: 'invite-invalid', message: /already used/ });
  t.like(receiver.refusals, [
    { code: 'invite-invalid', address: '127.0.0.1', reason: 'it was already used' },
  ]);
});

test('of enrolments that race for one code, one wins', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const code = await receiver.invite('host-1');
  const results = await Promise.allSettled([1, 2, 3, 4].map(() => enroll(receiver.url, code)));
  t.is(results.filter(({ status }) => status === 'fulfilled').length, 1);
  const winner = results.find((result) => result.status === 'fulfilled');
  if (winner?.status === 'fulfilled') t.is((await receiver.client(winner.value).info()).agent, 'host-1');
});

test('wrong, expired and misdirected codes are refused and logged', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const { pin } = decodeInviteCode(await receiver.invite('host-1'));
  const wrong = encodeInviteCode({ pin, secret: Buffer.alloc(16, 7) });
  await t.throwsAsync(enroll(receiver.url, wrong), { code: 'invite-invalid', message: /knows no such code/ });
  const expired = await receiver.invite('host-1', -1);
  await t.throwsAsync(enroll(receiver.url, expired), { code: 'invite-expired' });
  const code = await receiver.invite('host-1');
  await t.throwsAsync(enroll(receiver.url, code, { name: 'host-2' }), {
    message: /made for the agent host-1/,
  });
  t.deepEqual(
    receiver.refusals.map((line) => line.code),
    ['invite-invalid', 'invite-expired', 'invite-invalid'],
  );
  await t.notThrowsAsync(enroll(receiver.url, code, { name: 'host-1' }));
});

test('nothing is sent to a receiver that did not make the code', async (t) => {
  const [receiver, stranger] = [await makeTlsReceiver(t, options), await makeTlsReceiver(t, options)];
  const code = await receiver.invite('host-1');
  await t.throwsAsync(enroll(stranger.url, code), {
    code: 'identity-mismatch',
    message: /not the receiver that made this code/,
  });
  t.deepEqual(stranger.refusals, []);
  await t.notThrowsAsync(enroll(receiver.url, code));
});

test('too many failures from one address have to wait', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const { pin } = decodeInviteCode(await receiver.invite('host-1'));
  const wrong = encodeInviteCode({ pin, secret: Buffer.alloc(16, 7) });
  for (let i = 0; i < 10; i += 1)
    await t.throwsAsync(enroll(receiver.url, wrong), { code: 'invite-invalid' });
  const impatient = {
    patienceMs: 0,
    pauseMs: 1,
    pauseMaxMs: 1,
    now: () => 0,
    sleep: async () => {},
    random: () => 0,
  };
  const attempt = enroll(receiver.url, await receiver.invite('host-1'), { retry: impatient });
  await t.throwsAsync(attempt, { code: 'busy', message: /too many attempts/ });
});

test('enrolling again under the same name shuts out the former certificate at once', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const former = receiver.client(await receiver.enroll('host-1'));
  await former.info();
  const { replaces } = await createInvite(receiver.dir, 'host-1', new Date());
  t.true(replaces);
  const present = receiver.client(await receiver.enroll('host-1'));
  await t.throwsAsync(former.info(), { code: 'unauthorized', message: /was replaced/ });
  t.is((await present.info()).agent, 'host-1');
  t.like(receiver.refusals, [{ code: 'unauthorized' }]);
});

test('no certificate, an unknown one, and one for another use are refused on both sides', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const enrolment = await receiver.enroll('host-1');
  const { key, csr } = await createRequest();
  const with_ = (certificate: string) => receiver.client({ ...enrolment, key, certificate });
  const { url, receiverId } = enrolment;
  const bare = receiverClient({ url, receiverId, authority: enrolment.authority });
  await t.throwsAsync(bare.info(), { code: 'not-enrolled', message: /showed no certificate/ });
  await bare.close();
  const stranger = await createAuthority('ab', new Date());
  const unknown = await signRequest(stranger, csr, 'host-1', new Date());
  await t.throwsAsync(with_(unknown).info(), { code: 'unauthorized', message: /not made by this receiver/ });
  const authority = await readAuthority(receiver.dir);
  const unregistered = await signRequest(authority, csr, 'host-2', new Date());
  await t.throwsAsync(with_(unregistered).info(), {
    code: 'unauthorized',
    message: /no longer enrolled here/,
  });
  const old = await signRequest(authority, csr, 'host-1', new Date(0));
  await t.throwsAsync(with_(old).info(), { code: 'unauthorized', message: /not valid at this time/ });
  const { server } = await loadIdentity(receiver.dir, new Date());
  const asServer = receiver.client({ ...enrolment, ...server });
  await t.throwsAsync(asServer.info(), { code: 'unauthorized', message: /not an agent's certificate/ });
  t.deepEqual(
    receiver.refusals.map(({ agent, address, code }) => [agent, address, code]),
    ['not-enrolled', ...Array.from({ length: 4 }, () => 'unauthorized')].map((code) => [
      null,
      '127.0.0.1',
      code,
    ]),
  );
});

test('a client trusts only the receiver that it enrolled with', async (t) => {
  const [one, two] = [await makeTlsReceiver(t, options), await makeTlsReceiver(t, options)];
  const [first, second] = [await one.enroll('host-1'), await two.enroll('host-1')];
  const misled = one.client({ ...first, url: two.url });
  await t.throwsAsync(misled.info(), { code: 'identity-mismatch', message: /another authority/ });
  const confused = one.client({ ...second, receiverId: first.receiverId });
  await t.throwsAsync(confused.info(), { code: 'identity-mismatch', message: /not the receiver/ });
});

test('an agent can’t pass for the receiver', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const enrolment = await receiver.enroll('host-1');
  const { key, certificate, authority } = enrolment;
  await receiver.stop();
  const { createServer } = await import('node:https');
  const impostor = createServer({ key, cert: `${certificate}\n${authority}` }, (_request, response) =>
    response.end('{}'),
  );
  await new Promise<void>((resolve) => impostor.listen(0, '127.0.0.1', resolve));
  t.teardown(() => impostor.close());
  const address = impostor.address();
  const port = typeof address === 'object' ? address?.port : 0;
  const client = receiver.client({ ...enrolment, url: `https://127.0.0.1:${port}` });
  await t.throwsAsync(client.info(), { code: 'identity-mismatch' });
});

test('a restarted receiver knows its agents and its used codes', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const code = await receiver.invite('host-1');
  const enrolment = await enroll(receiver.url, code);
  await receiver.stop();
  await receiver.start();
  t.is((await receiver.client({ ...enrolment, url: receiver.url }).info()).agent, 'host-1');
  await t.throwsAsync(enroll(receiver.url, code), { code: 'invite-invalid' });
});

test('a crash between the agent’s file and the marking of its invite leaves the code used', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const code = await receiver.invite('host-1');
  await enroll(receiver.url, code);
  const invites = join(receiver.dir, 'receiver', 'invites');
  const unmark = async () => {
    for (const file of await readdir(invites)) {
      await rename(join(invites, file), join(invites, file.replace('.used', '')));
    }
  };
  await unmark();
  await t.throwsAsync(enroll(receiver.url, code), { message: /already used/ });
  await unmark();
  await receiver.stop();
  await receiver.start();
  await t.throwsAsync(enroll(receiver.url, code), { message: /already used/ });
  await unmark();
  await receiver.enroll('host-1');
  await t.throwsAsync(enroll(receiver.url, code), { message: /already used/ });
});

test('a lost answer is asked for again with the same key', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const tenants = await Tenants.open(receiver.dir, await readAuthority(receiver.dir));
  const secret = decodeInviteCode(await receiver.invite('host-1')).secret.toString('hex');
  const { csr } = await createRequest();
  const request = { secret, csr, name: null };
  const [one, two] = await Promise.all([1, 2].map(() => tenants.enrol(request, new Date())));
  t.is(one?.certificate, two?.certificate);
  const other = { ...request, csr: (await createRequest()).csr };
  await t.throwsAsync(tenants.enrol(other, new Date()), { message: /already used/ });
});

test('the server certificate is renewed at the start when it is near its end', async (t) => {
  const receiver = await makeTlsReceiver(t, options);
  const enrolment = await receiver.enroll('host-1');
  const before = (await loadIdentity(receiver.dir, new Date())).server.certificate;
  await receiver.stop();
  const inSixYears = new Date(Date.now() + 6 * 365 * 24 * 60 * 60 * 1000);
  const renewed = (await loadIdentity(receiver.dir, inSixYears)).server.certificate;
  t.not(renewed, before);
  t.true(Date.parse(new X509Certificate(renewed).validTo) > Date.parse(new X509Certificate(before).validTo));
  t.is((await loadIdentity(receiver.dir, inSixYears)).server.certificate, renewed);
  t.is(enrolment.agent, 'host-1');
});
