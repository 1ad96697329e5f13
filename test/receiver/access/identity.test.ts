import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { transportError } from '../../../src/protocol/transport/transport.js';
import {
  initReceiver,
  loadIdentity,
  parseListen,
  readAuthority,
  readSettings,
} from '../../../src/receiver/access/identity.js';
import { repairIdentity } from '../../../src/receiver/access/identity-repair.js';
import { createInvite } from '../../../src/receiver/access/invites.js';
import { Tenants } from '../../../src/receiver/access/tenants.js';

const NOW = new Date('2026-01-01T00:00:00Z');

async function directory(t: ExecutionContext): Promise<string> {
  const dir = await mkdtemp(join(tmpdir(), 'identity-test-'));
  t.teardown(() => rm(dir, { recursive: true }));
  return dir;
}

test('init makes an identity once; again, it changes only where it listens', async (t) => {
  const dir = await directory(t);
  const first = await initReceiver(dir, { listen: '127.0.0.1:9000', url: 'https://backup.example:9000' });
  const { certificate } = await readAuthority(dir);
  const second = await initReceiver(dir, { listen: '[::]:9001' });
  t.deepEqual(second, { ...first, listen: '[::]:9001' });
  t.deepEqual(await readSettings(dir), second);
  t.is((await readAuthority(dir)).certificate, certificate);
});

test('all that is secret is readable by its owner only', async (t) => {
  const dir = await directory(t);
  await initReceiver(dir);
  await createInvite(dir, 'host', NOW);
  t.is((await stat(join(dir, 'receiver'))).mode & 0o777, 0o700);
  const names = await readdir(join(dir, 'receiver'), { recursive: true, withFileTypes: true });
  const files = names.filter((entry) => entry.isFile());
  t.is(files.length, 6);
  for (const { parentPath, name } of files) t.is((await stat(join(parentPath, name))).mode & 0o777, 0o600);
});

test('the secret of an invite is nowhere in its file', async (t) => {
  const dir = await directory(t);
  await initReceiver(dir);
  const { code } = await createInvite(dir, 'host', NOW);
  const [file] = await readdir(join(dir, 'receiver', 'invites'));
  const text = await readFile(join(dir, 'receiver', 'invites', file ?? ''), 'utf8');
  const { decodeInviteCode } = await import('../../../src/protocol/certificates/invite-code.js');
  t.false(text.includes(decodeInviteCode(code).secret.toString('hex')));
  t.false((file ?? '').includes(decodeInviteCode(code).secret.toString('hex')));
});

test('a directory without receiver, a damaged one, and a bad name are told apart', async (t) => {
  const dir = await directory(t);
  await t.throwsAsync(loadIdentity(dir, NOW), { code: 'store-missing', message: /receiver init/ });
  await t.throwsAsync(createInvite(dir, 'host', NOW), { code: 'store-missing' });
  await initReceiver(dir);
  await t.throwsAsync(createInvite(dir, '../host', NOW), { code: 'bad-name' });
  await writeFile(join(dir, 'receiver', 'server.json'), 'damaged');
  t.truthy((await loadIdentity(dir, NOW)).server.certificate);
  for (const name of ['authority.json', 'authority-copy.json'])
    await writeFile(join(dir, 'receiver', name), 'damaged');
  await t.throwsAsync(loadIdentity(dir, NOW), {
    code: 'config',
    message: /authority\.json.*--new-identity.*No point is lost/,
  });
});

test('one damaged or lost file of the identity costs nothing, and is made again', async (t) => {
  const dir = await directory(t);
  await initReceiver(dir, { listen: '127.0.0.1:9000', url: 'https://backup.example:9000' });
  const whole = await loadIdentity(dir, NOW);
  const files = ['receiver.json', 'receiver-copy.json', 'authority.json', 'authority-copy.json'];
  const contents = new Map<string, string>();
  for (const name of files) contents.set(name, await readFile(join(dir, 'receiver', name), 'utf8'));
  for (const name of files) {
    for (const damage of ['gone', 'damaged']) {
      const path = join(dir, 'receiver', name);
      await (damage === 'gone' ? rm(path) : writeFile(path, contents.get(name)?.replace('e', 'f') ?? ''));
      t.deepEqual((await loadIdentity(dir, NOW)).authority, whole.authority, `${name} ${damage}`);
      t.deepEqual((await loadIdentity(dir, NOW)).settings, whole.settings);
      t.is(await readFile(path, 'utf8'), contents.get(name) ?? '', `${name} ${damage}`);
    }
  }
  t.deepEqual(await repairIdentity(dir, { dryRun: false, newIdentity: false, now: NOW }), {
    mended: [],
    lost: [],
  });
});

test('a clock that is behind costs no server certificate, and agents are told of the clock', async (t) => {
  const dir = await directory(t);
  const at = (year: number) => new Date(Date.UTC(year, 5, 1));
  await initReceiver(dir, { now: at(2030) });
  const { server } = await loadIdentity(dir, at(2030));
  t.deepEqual((await loadIdentity(dir, at(2001))).server, server);
  t.deepEqual((await loadIdentity(dir, at(2030))).server, server);
  t.notDeepEqual((await loadIdentity(dir, at(2033))).server, server);
  const early = transportError('https://r', Object.assign(new Error('x'), { code: 'CERT_NOT_YET_VALID' }));
  t.regex(early.message, /by this machine's clock, .* not valid yet\. Set this machine's clock right/);
  const late = transportError('https://r', Object.assign(new Error('x'), { code: 'CERT_HAS_EXPIRED' }));
  t.regex(late.message, /by this machine's clock, .* no longer valid\. Check the clocks/);
});

test('settings that are lost twice come back with the id of the authority', async (t) => {
  const dir = await directory(t);
  const { id } = await initReceiver(dir, { url: 'https://backup.example:9000' });
  const { certificate } = await readAuthority(dir);
  for (const name of ['receiver.json', 'receiver-copy.json']) await rm(join(dir, 'receiver', name));
  const dry = await repairIdentity(dir, { dryRun: true, newIdentity: false, now: NOW });
  t.is(dry.mended.length, 1);
  await t.throwsAsync(readSettings(dir), { code: 'store-missing' });
  const repair = await repairIdentity(dir, { dryRun: false, newIdentity: false, now: NOW });
  t.deepEqual(repair, dry);
  t.is((await readSettings(dir)).id, id);
  t.is((await readAuthority(dir)).certificate, certificate);
});

test('an authority that is lost twice is made anew only if that is asked for', async (t) => {
  const dir = await directory(t);
  const { id } = await initReceiver(dir);
  for (const name of ['authority.json', 'authority-copy.json'])
    await writeFile(join(dir, 'receiver', name), 'damaged');
  const refused = await repairIdentity(dir, { dryRun: false, newIdentity: false, now: NOW });
  t.regex(
    refused.lost.map(({ what, reason }) => `${what}: ${reason}`).join(),
    /authority\.json.*invited again/,
  );
  await t.throwsAsync(readAuthority(dir), { code: 'config' });
  const made = await repairIdentity(dir, { dryRun: false, newIdentity: true, now: NOW });
  t.deepEqual(made.lost, []);
  t.is((await loadIdentity(dir, NOW)).settings.id, id);
});

test("a damaged agent's file locks out its own agent only, and is replaced by the next enrolment", async (t) => {
  const dir = await directory(t);
  await initReceiver(dir);
  const messages: string[] = [];
  await Tenants.open(dir, await readAuthority(dir));
  await writeFile(join(dir, 'receiver', 'agents', 'host.json'), 'damaged');
  const tenants = await Tenants.open(dir, await readAuthority(dir), (message) => messages.push(message));
  t.deepEqual(tenants.names(), []);
  t.regex(messages.join(), /agents\/host\.json.*invited and enrolled again/);
  t.false((await createInvite(dir, 'host', NOW)).replaces);
});

test('listen addresses and URLs are checked', async (t) => {
  t.deepEqual(parseListen('0.0.0.0:8440'), { host: '0.0.0.0', port: 8440 });
  t.deepEqual(parseListen('[::1]:0'), { host: '::1', port: 0 });
  for (const bad of ['', 'host', 'host:', ':80', 'host:99999', '::1:80', 'a b:80']) {
    t.throws(() => parseListen(bad), { code: 'usage' });
  }
  const dir = await directory(t);
  for (const url of ['http://host', 'host:8440', 'https://host/path', '']) {
    await t.throwsAsync(initReceiver(dir, { url }), { code: 'usage' });
  }
  t.deepEqual(await readdir(dir), []);
});
