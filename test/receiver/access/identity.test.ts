import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  initReceiver,
  loadIdentity,
  parseListen,
  readAuthority,
  readSettings,
} from '../../../src/receiver/access/identity.js';
import { createInvite } from '../../../src/receiver/access/tenants.js';

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
  t.is(files.length, 4);
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
  await writeFile(join(dir, 'receiver', 'authority.json'), 'damaged');
  await t.throwsAsync(loadIdentity(dir, NOW), { code: 'config', message: /authority\.json/ });
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
