/** Certificates are renewed in time and without a break, on both sides; killed anywhere, it is done again. */
import { X509Certificate } from 'node:crypto';
import { mkdir, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { readEnrolment, saveEnrolment } from '../../../src/agent/state/enrolment.js';
import { renewIfDue, takeName } from '../../../src/agent/state/renewal.js';
import { keepEnrolment } from '../../../src/cli/common/keep-enrolment.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { RENEWALS_PER_HOUR_MAX } from '../../../src/domain/base/limits.js';
import { createRequest } from '../../../src/protocol/certificates/certificates.js';
import type { Enrolment } from '../../../src/protocol/certificates/enrolment.js';
import { findAgent } from '../../../src/receiver/access/agent-file.js';
import { initReceiver, loadIdentity } from '../../../src/receiver/access/identity.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { makeTlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const YEAR_MS = 365 * 24 * 3_600_000;
/** TLS has the machine's own clock: what is made now by the receiver's must be good by that, too. */
const START = new Date(Date.now() - 1.3 * YEAR_MS);
const later = (years: number) => new Date(START.getTime() + years * YEAR_MS);

async function make(t: ExecutionContext) {
  const clock = { now: START };
  const receiver = await makeTlsReceiver(t, {
    openStore: async () => new MemoryStore(),
    now: () => clock.now,
  });
  const state = await tempDir(t);
  const enrolment = await receiver.enroll('web');
  await saveEnrolment(state, enrolment);
  const present = async () => (await readEnrolment(state, enrolment.receiverId)) as Enrolment;
  return { clock, receiver, state, enrolment, present };
}

test('an agent renews when half of its time is over, with a new key, and the former goes on for a while', async (t) => {
  const { clock, receiver, state, enrolment, present } = await make(t);
  const client = receiver.client(enrolment);
  const keep = (now: Date) =>
    keepEnrolment({ stateDirectory: state, enrolment, client, info: null, say: () => undefined, now });
  t.is(await keep(later(0.9)), null);
  clock.now = later(1.1);
  const renewed = (await keep(clock.now)) as Enrolment;
  t.deepEqual(renewed, await present());
  t.not(renewed.key, enrolment.key);
  t.true(Date.parse(new X509Certificate(renewed.certificate).validTo) > later(3).getTime());
  // Neither side has lost anything: both count, and the former does after the new one was shown.
  const [former, next] = [receiver.client(enrolment), receiver.client(renewed)];
  await t.notThrowsAsync(former.info());
  await t.notThrowsAsync(next.info());
  await t.notThrowsAsync(former.info());
  while ((await findAgent(receiver.dir, 'web'))?.former === undefined)
    await new Promise((resolve) => setTimeout(resolve, 5));
  await t.notThrowsAsync(former.info());
  clock.now = new Date(clock.now.getTime() + 61 * 24 * 3_600_000);
  await t.throwsAsync(former.info(), { code: 'unauthorized', message: /was replaced/ });
  await t.notThrowsAsync(next.info());
  // A program that renewed goes on with what it has.
  await t.notThrowsAsync(client.info());
  clock.now = later(3.2);
  await t.throwsAsync(next.info(), {
    code: 'unauthorized',
    message: /not valid at this time: its time ended at .*receiver invite web.*stillpoint enroll URL CODE/,
  });
});

test('a lost answer, and an agent that dies at any step, cost nothing', async (t) => {
  const { clock, receiver, state, enrolment, present } = await make(t);
  clock.now = later(1.1);
  const client = receiver.client(enrolment);
  const options = { stateDirectory: state, enrolment, now: clock.now };
  const lost = new StillpointError('connection-lost', { thing: 'test', reason: 'lost' });
  const asked: string[] = [];
  const losing = async (request: { csr: string }) => {
    asked.push((await client.renew(request)).certificate);
    throw lost;
  };
  await t.throwsAsync(renewIfDue({ ...options, renew: losing }), { is: lost });
  await t.throwsAsync(renewIfDue({ ...options, renew: losing }), { is: lost });
  t.is(asked[0], asked[1], 'the same key gets the same certificate');
  t.deepEqual(await present(), enrolment);
  await t.notThrowsAsync(receiver.client(enrolment).info());
  // The key was lost before it was used: another one is asked for.
  await rm(join(state, 'enrolments', enrolment.receiverId, 'renewal.json'));
  const renewed = (await renewIfDue({ ...options, renew: client.renew })) as Enrolment;
  t.not(renewed.certificate, asked[0]);
  await t.notThrowsAsync(receiver.client(renewed).info());
  // The enrolment was written, and the pending key is still there. Another process has done it already.
  t.deepEqual(await renewIfDue({ ...options, renew: () => Promise.reject(lost) }), renewed);
  // The receiver was told before, and its answer to the one that is the present one now was lost.
  const { csr } = await createRequest();
  const first = await receiver.client(renewed).renew({ csr });
  await receiver.stop();
  await receiver.start();
  const again = receiver.client({ ...renewed, url: receiver.url });
  t.is((await again.renew({ csr })).certificate, first.certificate);
  t.is((await readdir(join(state, 'enrolments', enrolment.receiverId))).includes('renewal.json'), false);
});

test('a former certificate gets no other one, and nobody renews without end', async (t) => {
  const { clock, receiver, enrolment } = await make(t);
  clock.now = later(1.1);
  const client = receiver.client(enrolment);
  const { key, csr } = await createRequest();
  const { certificate } = await client.renew({ csr });
  const next = receiver.client({ ...enrolment, key, certificate });
  await next.info();
  while ((await findAgent(receiver.dir, 'web'))?.former === undefined)
    await new Promise((resolve) => setTimeout(resolve, 5));
  await t.notThrowsAsync(client.info());
  const other = (await createRequest()).csr;
  await t.throwsAsync(client.renew({ csr: other }), {
    code: 'unauthorized',
    message: /replaced by a renewal/,
  });
  t.is((await client.renew({ csr })).certificate, certificate, 'an answer may be had again');
  await t.notThrowsAsync(next.renew({ csr: other }));
  const more = await Promise.allSettled(
    Array.from({ length: RENEWALS_PER_HOUR_MAX }, () => next.renew({ csr: other })),
  );
  t.true(more.some((one) => one.status === 'rejected' && one.reason.code === 'busy'));
  await t.notThrowsAsync(next.info());
});

test('an answer that would cost the certificate that works is not believed', async (t) => {
  const { clock, receiver, state, enrolment, present } = await make(t);
  clock.now = later(1.1);
  const client = receiver.client(enrolment);
  const other = await makeTlsReceiver(t, { openStore: async () => new MemoryStore() });
  const stranger = await other.enroll('web');
  const wrong = [
    async (request: { csr: string }) => ({
      ...(await client.renew(request)),
      certificate: stranger.certificate,
    }),
    async (request: { csr: string }) => ({ ...(await client.renew(request)), authority: stranger.authority }),
    async (request: { csr: string }) => ({ ...(await client.renew(request)), certificate: 'nothing' }),
  ];
  for (const renew of wrong) {
    const options = { stateDirectory: state, enrolment, now: clock.now, renew };
    await t.throwsAsync(renewIfDue(options), { code: 'bad-message' });
    t.deepEqual(await present(), enrolment);
  }
  const said: string[] = [];
  const old = {
    ...client,
    renew: () => Promise.reject(new StillpointError('bad-message', { thing: 'x', reason: 'no' })),
  };
  await keepEnrolment({
    ...{ stateDirectory: state, enrolment, client: old, info: null, now: clock.now },
    say: (text) => said.push(text),
  });
  t.regex(said[0] ?? '', /older than this program/);
});

test('an agent that was renamed takes its name, with what the machine keeps under it', async (t) => {
  const { state, enrolment, present } = await make(t);
  const storeId = 'a'.repeat(32);
  await mkdir(join(state, 'stores', storeId, 'web', 'disk'), { recursive: true });
  await takeName(state, enrolment, { storeId, agent: 'www' });
  await takeName(state, enrolment, { storeId, agent: 'www' });
  t.deepEqual(await readdir(join(state, 'stores', storeId)), ['www']);
  t.deepEqual(await present(), { ...enrolment, agent: 'www' });
});

test("the receiver's own certificate is renewed while it serves", async (t) => {
  const { clock, receiver, enrolment } = await make(t);
  const shown = async () => (await loadIdentity(receiver.dir, clock.now)).server.certificate;
  const before = await shown();
  const kept = receiver.client(enrolment, 1);
  await kept.info();
  await receiver.server.renew();
  t.is(await shown(), before);
  clock.now = later(1.2);
  await receiver.server.renew();
  t.not(await shown(), before);
  await t.notThrowsAsync(kept.info());
  await t.notThrowsAsync(receiver.client(enrolment).info());
  t.true(receiver.log.some(({ msg }) => msg === "the receiver's certificates were renewed"));
});

test('the authority has a successor years before its end, which agents hear of before it takes over', async (t) => {
  const dir = await tempDir(t);
  await initReceiver(dir, { now: START });
  const first = await loadIdentity(dir, later(19));
  t.is(first.announced.length, 1);
  const announcing = await loadIdentity(dir, later(21));
  t.is(announcing.authority.certificate, first.authority.certificate);
  t.is(announcing.announced.length, 2);
  t.deepEqual((await loadIdentity(dir, later(24))).announced, announcing.announced);
  const after = await loadIdentity(dir, later(26));
  t.is(after.authority.certificate, announcing.announced.at(-1) ?? '');
  t.deepEqual(after.announced, [after.authority.certificate]);
  t.deepEqual(after.trusted, [after.authority.certificate, first.authority.certificate]);
  t.true(
    new X509Certificate(after.server.certificate).checkIssued(
      new X509Certificate(after.authority.certificate),
    ),
  );
  t.deepEqual(await loadIdentity(dir, later(26)), after);
  // One that was off for all these years: agents must hear of the successor first.
  const late = await tempDir(t);
  await initReceiver(late, { now: START });
  const woken = await loadIdentity(late, later(28));
  t.is(woken.announced.length, 2);
  t.is((await loadIdentity(late, later(29))).authority.certificate, woken.authority.certificate);
});
