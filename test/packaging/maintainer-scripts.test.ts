/**
 * What the package's scripts do on installation, upgrade, removal and purge: the real ones, with their paths
 * below a directory of the test, and programs of their own in place of those that change the machine.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { tempDir } from '../helpers/disks/temp-dir.js';

const FAKES = ['adduser', 'deluser', 'systemctl', 'deb-systemd-invoke', 'getent'];
const VERSION = '2.0.0';

interface System {
  readonly root: string;
  path(name: string): string;
  /** What the programs were called with. */
  calls(): Promise<string>;
  run(script: string, ...args: string[]): { status: number | null; stdout: string; stderr: string };
}

async function makeSystem(t: ExecutionContext): Promise<System> {
  const root = await tempDir(t);
  const path = (name: string) => join(root, name);
  for (const directory of [
    'bin',
    'usr/lib/stillpoint',
    'var/lib',
    'etc/systemd/system',
    'srv',
    'run/systemd/system',
  ])
    await mkdir(path(directory), { recursive: true });
  await writeFile(path('calls'), '');
  for (const name of FAKES) {
    await writeFile(path(`bin/${name}`), `#!/bin/sh\necho "${name} $*" >>${path('calls')}\n`);
    await chmod(path(`bin/${name}`), 0o755);
  }
  const texts = new Map<string, string>();
  for (const script of ['preinst', 'postinst', 'prerm', 'postrm']) {
    const text = await readFile(`packaging/debian/${script}`, 'utf8');
    const moved = text
      .replaceAll('@VERSION@', VERSION)
      .replace(/(^|[\s"'(=])\/(usr|var|etc|srv|mnt|media|run)\b/gm, `$1${root}/$2`);
    texts.set(script, moved);
  }
  return {
    root,
    path,
    calls: () => readFile(path('calls'), 'utf8'),
    run: (script, ...args) =>
      spawnSync('sh', ['-c', texts.get(script) ?? 'exit 99', script, ...args], {
        encoding: 'utf8',
        env: { PATH: `${path('bin')}:/usr/sbin:/usr/bin:/sbin:/bin` },
      }),
  };
}

/** A version with a program that runs until it is killed. */
async function makeVersion(system: System, version: string): Promise<string> {
  const home = system.path(`usr/lib/stillpoint/${version}`);
  await mkdir(join(home, 'bin'), { recursive: true });
  await copyFile('/bin/sleep', join(home, 'bin/program'));
  await writeFile(join(home, 'manifest.json'), '{}');
  return home;
}

async function runFrom(t: ExecutionContext, home: string, args: readonly string[]): Promise<ChildProcess> {
  const child = spawn(join(home, 'bin/program'), args, { stdio: ['pipe', 'ignore', 'ignore'] });
  t.teardown(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  return child;
}

test('an upgrade keeps the files of a version that runs, and removes them after its end', async (t) => {
  const system = await makeSystem(t);
  const running = await makeVersion(system, '1.0.0');
  const idle = await makeVersion(system, '0.9.0');
  const child = await runFrom(t, running, ['600']);
  t.is(system.run('preinst', 'upgrade', '1.0.0', VERSION).status, 0);
  // As dpkg does: the new files come, the old ones go.
  const current = await makeVersion(system, VERSION);
  await rm(running, { recursive: true });
  t.is(system.run('postinst', 'configure', '1.0.0').status, 0);
  t.true(existsSync(join(running, 'bin/program')), 'it can still open its files');
  t.false(existsSync(idle));
  t.true(existsSync(current));
  const { length } = (await system.calls()).match(/try-restart stillpoint-(receiver|agent)/g) ?? [];
  t.is(length, 0, 'checks of the settings are not there, so that nothing is restarted blindly');
  t.notRegex(await system.calls(), /stillpoint-tap/);

  child.kill('SIGKILL');
  await once(child, 'exit');
  t.is(system.run('postinst', 'configure', VERSION).status, 0);
  t.false(existsSync(running));
  t.true(existsSync(current));
});

test('an upgrade restarts what ran, if its settings are right, and never a tap', async (t) => {
  const system = await makeSystem(t);
  const home = await makeVersion(system, VERSION);
  const check = join(home, 'check-unit');
  await writeFile(
    check,
    '#!/bin/sh\n[ "$1" != stillpoint-agent.service ] || { echo "wrong" >&2; exit 2; }\n',
  );
  await chmod(check, 0o755);
  const { stderr, status } = system.run('postinst', 'configure', '1.0.0');
  t.is(status, 0);
  t.regex(stderr, /stillpoint-agent\.service is not restarted: its settings are wrong/);
  const calls = await system.calls();
  t.regex(calls, /^deb-systemd-invoke try-restart stillpoint-receiver\.service$/m);
  t.notRegex(calls, /try-restart stillpoint-agent\.service/);
  t.notRegex(calls, /tap/);
});

test('an installation starts and enables nothing, and says what is next', async (t) => {
  const system = await makeSystem(t);
  await makeVersion(system, VERSION);
  const { stdout, status } = system.run('postinst', 'configure');
  t.is(status, 0);
  t.regex(stdout, /nothing runs yet/);
  const calls = await system.calls();
  t.regex(calls, /^adduser --system --group .* stillpoint$/m);
  t.notRegex(calls, /start|enable/);
});

test('removal is refused while a tap runs, and ends the services otherwise', async (t) => {
  const system = await makeSystem(t);
  const home = await makeVersion(system, VERSION);
  // Its arguments are those of a tap's process; it only has to run.
  await copyFile('/bin/sh', join(home, 'bin/program'));
  const tap = await runFrom(t, home, ['-c', 'read -r word; :', 'tap', 'serve', 'srv']);
  const refused = system.run('prerm', 'remove');
  t.is(refused.status, 1);
  t.regex(refused.stderr, /taps are running: srv/);
  t.regex(refused.stderr, /stillpoint tap stop srv/);
  t.is(await system.calls(), '');
  t.is(system.run('prerm', 'upgrade', '3.0.0').status, 0);

  tap.kill('SIGKILL');
  await once(tap, 'exit');
  t.is(system.run('prerm', 'remove').status, 0);
  t.regex(await system.calls(), /^deb-systemd-invoke stop stillpoint-receiver\.service$/m);
});

test('a purge removes state and settings, but no store, nor the user that one belongs to', async (t) => {
  const system = await makeSystem(t);
  for (const directory of [
    'etc/stillpoint/agent.d',
    'var/lib/stillpoint/known-stores',
    'var/lib/stillpoint-receiver/receiver/points',
  ])
    await mkdir(system.path(directory), { recursive: true });
  await writeFile(system.path('var/lib/stillpoint-receiver/receiver/store.json'), '{}');
  await writeFile(system.path('var/lib/stillpoint/agent.lock'), '');
  const kept = system.run('postrm', 'purge');
  t.is(kept.status, 0);
  t.regex(kept.stdout, /receiver has backups and is kept/);
  t.regex(kept.stdout, /the user stillpoint is kept/);
  t.true(existsSync(system.path('var/lib/stillpoint-receiver/receiver/store.json')));
  for (const gone of ['etc/stillpoint', 'var/lib/stillpoint']) t.false(existsSync(system.path(gone)), gone);
  t.notRegex(await system.calls(), /deluser/);

  // A store elsewhere that the settings name; then none.
  await rm(system.path('var/lib/stillpoint-receiver'), { recursive: true });
  await mkdir(system.path('etc/stillpoint'));
  await mkdir(system.path('data/packs'), { recursive: true });
  await writeFile(system.path('etc/stillpoint/receiver.toml'), `store = "${system.path('data')}"\n`);
  t.regex(system.run('postrm', 'purge').stdout, /the user stillpoint is kept/);
  t.true(existsSync(system.path('data/packs')));
  t.is(system.run('postrm', 'purge').status, 0);
  t.regex(await system.calls(), /^deluser .*stillpoint$/m);
});
