/**
 * What the package's scripts do on installation, upgrade, removal and purge: the real ones, with their paths
 * below a directory of the test, and programs of their own in place of those that change the machine.
 */
import { type ChildProcess, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, copyFile, mkdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { programs, testWith } from '../helpers/requirements.js';

// policy-rc.d is among them, since a container's own refuses each restart.
const FAKES = ['adduser', 'deluser', 'deb-systemd-invoke', 'getent', 'policy-rc.d', 'runuser'];
const VERSION = '2.0.0';

interface Outcome {
  readonly status: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

interface System {
  readonly root: string;
  path(name: string): string;
  /** Has systemd say it of a unit. */
  says(unit: string, property: string, value: string): Promise<void>;
  /** What the programs were called with. */
  calls(): Promise<string>;
  run(script: string, ...args: string[]): Outcome;
  /** @param program with its arguments, which runs what follows them */
  runBelow(program: readonly string[], script: string, ...args: string[]): Outcome;
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
  // Says what a test has written of a unit: `show --property=P --value UNIT`.
  await writeFile(
    path('bin/systemctl'),
    `#!/bin/sh\necho "systemctl $*" >>${path('calls')}\n[ "$1" != show ] || cat "${root}/$4 $2" 2>/dev/null\n`,
  );
  await chmod(path('bin/systemctl'), 0o755);
  const texts = new Map<string, string>();
  for (const script of ['preinst', 'postinst', 'prerm', 'postrm', 'check-unit']) {
    const text = await readFile(`packaging/debian/${script}`, 'utf8');
    const moved = text
      .replaceAll('@VERSION@', VERSION)
      .replace(/(^|[\s"'(=])\/(usr|var|etc|srv|mnt|media|run)\b/gm, `$1${root}/$2`);
    texts.set(script, moved);
  }
  const runBelow: System['runBelow'] = (program, script, ...args) => {
    const [command = 'sh', ...rest] = [
      ...program,
      'sh',
      '-c',
      texts.get(script) ?? 'exit 99',
      script,
      ...args,
    ];
    const env = { PATH: `${path('bin')}:/usr/sbin:/usr/bin:/sbin:/bin` };
    return spawnSync(command, rest, { encoding: 'utf8', env });
  };
  return {
    root,
    path,
    says: (unit, property, value) => writeFile(path(`${unit} --property=${property}`), value),
    calls: () => readFile(path('calls'), 'utf8'),
    run: (script, ...args) => runBelow([], script, ...args),
    runBelow,
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
  await system.says('stillpoint-receiver.service', 'ActiveState', 'active');
  t.is(system.run('preinst', 'upgrade', '1.0.0', VERSION).status, 0);
  // As dpkg does: the new files come, the old ones go.
  const current = await makeVersion(system, VERSION);
  await rm(running, { recursive: true });
  t.is(system.run('postinst', 'configure', '1.0.0').status, 0);
  t.true(existsSync(join(running, 'bin/program')), 'it can still open its files');
  t.false(existsSync(idle));
  t.true(existsSync(current));
  const { length } = (await system.calls()).match(/restart stillpoint-(receiver|agent)/g) ?? [];
  t.is(length, 0, 'checks of the settings are not there, so that nothing is restarted blindly');
  t.notRegex(await system.calls(), /stillpoint-tap/);

  child.kill('SIGKILL');
  await once(child, 'exit');
  t.is(system.run('postinst', 'configure', VERSION).status, 0);
  t.false(existsSync(running));
  t.true(existsSync(current));
});

test('an upgrade restarts what ran or was starting, if its settings are right, and never a tap', async (t) => {
  const system = await makeSystem(t);
  const home = await makeVersion(system, VERSION);
  const check = join(home, 'check-unit');
  await writeFile(check, '#!/bin/sh\n[ "$1" != stillpoint-agent.service ] || { echo wrong >&2; exit 2; }\n');
  await chmod(check, 0o755);
  await system.says('stillpoint-receiver.service', 'ActiveState', 'activating');
  await system.says('stillpoint-agent.service', 'ActiveState', 'active');
  await system.says('stillpoint-agent-listen.service', 'ActiveState', 'failed');
  await system.says('stillpoint-tap@srv.service', 'ActiveState', 'active');
  const { stderr, status } = system.run('postinst', 'configure', '1.0.0');
  t.is(status, 0);
  t.regex(stderr, /stillpoint-agent\.service is not restarted: its settings are wrong/);
  const restarts = (await system.calls()).split('\n').filter((call) => / restart\b/.test(call));
  // It would wait for a receiver that makes its index anew, for hours, with dpkg locked.
  t.deepEqual(restarts, [
    'policy-rc.d stillpoint-receiver.service restart',
    'systemctl --no-block restart stillpoint-receiver.service',
  ]);
});

test('an upgrade restarts nothing where the policy of the machine refuses it', async (t) => {
  const system = await makeSystem(t);
  const home = await makeVersion(system, VERSION);
  await writeFile(join(home, 'check-unit'), '#!/bin/sh\nexit 0\n', { mode: 0o755 });
  await writeFile(system.path('bin/policy-rc.d'), '#!/bin/sh\nexit 101\n', { mode: 0o755 });
  await system.says('stillpoint-receiver.service', 'ActiveState', 'active');
  t.is(system.run('postinst', 'configure', '1.0.0').status, 0);
  t.notRegex(await system.calls(), /systemctl .*restart/);
});

test('the check of the receiver is as its user, in its environment, and runs nothing of its settings', async (t) => {
  const system = await makeSystem(t);
  const receiver = 'stillpoint-receiver.service';
  await system.says(receiver, 'User', 'keeper');
  await system.says(receiver, 'Environment', 'STILLPOINT_STATE=/s STILLPOINT_CONFIG=/c');
  const checks = async () => (await system.calls()).split('\n').filter((call) => call.startsWith('runuser'));
  t.is(system.run('check-unit', receiver).status, 0);
  await mkdir(system.path('etc/default'), { recursive: true });
  const harm = system.path('harm');
  await writeFile(
    system.path('etc/default/stillpoint-receiver'),
    `# The store\ntouch ${harm}\nSTORE="/back/ups"\nOTHER=$(touch ${harm})\n`,
  );
  t.is(system.run('check-unit', receiver).status, 0);
  const program = system.path('usr/bin/stillpoint');
  const check = `runuser -u keeper -- env STILLPOINT_STATE=/s STILLPOINT_CONFIG=/c ${program} --quiet receiver serve --check`;
  t.deepEqual(await checks(), [check, `${check} /back/ups`]);
  t.false(existsSync(harm));
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

test('a purge removes state and settings, and keeps the user', async (t) => {
  const system = await makeSystem(t);
  for (const directory of [
    'etc/stillpoint/agent.d',
    'etc/default',
    'var/lib/stillpoint-receiver/known-stores',
  ])
    await mkdir(system.path(directory), { recursive: true });
  await writeFile(system.path('etc/default/stillpoint-receiver'), '');
  // All that a machine has, as the program leaves it.
  const state = system.path('var/lib/stillpoint');
  const [from, to] = ['--file=test/fixtures/machine-1.tar.gz', `--directory=${system.path('var/lib')}`];
  spawnSync('tar', ['--extract', from, to, '--transform=s#^./state#stillpoint#', './state']);
  await mkdir(join(state, 'clones'));
  await mkdir(join(state, 'scratch-Ab12'));
  for (const name of ['agent.lock', 'daemon.json', '.0123456789abcdef.tmp'])
    await writeFile(join(state, name), '');
  t.true(existsSync(join(state, 'taps/tapped/tap.json')));
  const { status, stdout, stderr } = system.run('postrm', 'purge');
  t.deepEqual([status, stderr], [0, '']);
  const gone = [state, 'var/lib/stillpoint-receiver', 'etc/stillpoint', 'etc/default/stillpoint-receiver'];
  for (const path of gone) t.false(existsSync(path.startsWith('/') ? path : system.path(path)), path);
  t.regex(stdout, /the user stillpoint is kept/);
  t.notRegex(await system.calls(), /deluser/);
});

for (const place of [
  'var/lib/stillpoint',
  'var/lib/stillpoint/store',
  'var/lib/stillpoint/backups/web/disks/store',
  'var/lib/stillpoint/stores/mine/of/2026',
  'var/lib/stillpoint/taps/big/preserve/store',
  'var/lib/stillpoint-receiver/receiver',
  'etc/stillpoint/store',
])
  for (const trace of ['store.json', 'store-copy.json', 'packs/00/pack', 'points/a/disk/0000000001'])
    test(`a purge keeps a store: ${place}, known by ${trace}`, async (t) => {
      const system = await makeSystem(t);
      const kept = join(system.path(place), trace);
      await mkdir(dirname(kept), { recursive: true });
      await writeFile(kept, '');
      const other = system.path('var/lib/stillpoint/known-stores');
      await mkdir(other, { recursive: true });
      const { status, stdout } = system.run('postrm', 'purge');
      t.is(status, 0);
      t.true(existsSync(kept));
      t.regex(stdout, /is kept/);
      t.false(existsSync(other));
    });

test('a purge keeps what a link leads to', async (t) => {
  const system = await makeSystem(t);
  const elsewhere = system.path('srv/elsewhere');
  await mkdir(elsewhere);
  await writeFile(join(elsewhere, 'file'), '');
  await mkdir(system.path('var/lib/stillpoint'));
  await symlink(elsewhere, system.path('var/lib/stillpoint/stores'));
  t.is(system.run('postrm', 'purge').status, 0);
  t.true(existsSync(join(elsewhere, 'file')));
  t.false(existsSync(system.path('var/lib/stillpoint')));
});

testWith(
  ['root', ...programs('unshare')],
  'a purge keeps what is mounted, even of the same file system',
  async (t) => {
    const system = await makeSystem(t);
    const elsewhere = system.path('srv/elsewhere');
    const mountPoint = system.path('var/lib/stillpoint/stores/a/disk');
    for (const directory of [elsewhere, mountPoint]) await mkdir(directory, { recursive: true });
    await writeFile(join(elsewhere, 'file'), '');
    const mounted = [
      'unshare',
      '--mount',
      'sh',
      '-c',
      `mount --bind ${elsewhere} ${mountPoint} && "$@"`,
      'sh',
    ];
    const { status, stdout } = system.runBelow(mounted, 'postrm', 'purge');
    t.is(status, 0);
    t.true(existsSync(join(elsewhere, 'file')));
    t.regex(stdout, /stores is kept: something is mounted there/);
  },
);
