/** The receiver as a service: what systemd hears of it, and whose files its commands leave. */
import { once } from 'node:events';
import {
  chmod,
  chown,
  lstat,
  mkdir,
  readdir,
  readFile,
  rename,
  rm,
  symlink,
  writeFile,
} from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_FAILED } from '../../src/cli/output/exit-codes.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { type Receiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import { EXIT_OK, makeMachine, runExpecting, start } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

async function until(receiver: Receiver, condition: () => Promise<boolean> | boolean): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (!(await condition())) {
    if (Date.now() > deadline) throw new Error(`it does not happen:\n${receiver.log}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

test('systemd hears that the receiver serves, reads its settings again, is alive, and stops', async (t) => {
  const receiver = await startReceiver(t);
  receiver.process?.kill('SIGTERM');
  await once(receiver.process ?? t.fail(), 'exit');
  const directory = await tempDir(t);
  const heard = join(directory, 'heard');
  await writeFile(heard, '');
  await writeFile(join(directory, 'systemd-notify'), `#!/bin/sh\necho "$@" >>${heard}\n`);
  await chmod(join(directory, 'systemd-notify'), 0o755);
  const told = async () => (await readFile(heard, 'utf8')).split('\n').filter((line) => line !== '');
  const env = {
    ...receiver.machine.env,
    PATH: `${directory}:${process.env.PATH}`,
    NOTIFY_SOCKET: '/run/systemd/notify',
    WATCHDOG_USEC: '300000',
  };
  await serve(receiver, (args) => start({ ...receiver.machine, env }, args));
  await until(receiver, async () => (await told()).includes('READY=1'));
  t.is(await readFile(`/proc/${receiver.process?.pid}/comm`, 'utf8'), 'stillpoint\n', 'as ps shows it');
  t.regex((await told())[0] ?? '', /^STATUS=serving .*\/store at https:/);
  await until(receiver, async () => (await told()).includes('WATCHDOG=1'));

  receiver.process?.kill('SIGHUP');
  await until(receiver, () => receiver.log.includes('configuration applied'));
  t.true((await told()).some((line) => line.startsWith('RELOADING=1')));
  const settings = join(receiver.store, 'receiver', 'dial-out.json');
  await writeFile(settings, 'not settings');
  receiver.process?.kill('SIGHUP');
  await until(receiver, () => receiver.log.includes('the old one stays'));

  // Another store in its place, or none: what it says it keeps is not there.
  await rename(receiver.store, `${receiver.store}.gone`);
  await until(receiver, () => receiver.log.includes('systemd is not told'));
  await rename(`${receiver.store}.gone`, receiver.store);

  receiver.process?.kill('SIGTERM');
  const [code] = await once(receiver.process ?? t.fail(), 'exit');
  t.is(code, EXIT_OK);
  t.true((await told()).includes('STOPPING=1'));
});

testWith(['root'], "root's commands leave files of the user whom the receiver belongs to", async (t) => {
  const machine = await makeMachine(t, 'receiver');
  const store = join(machine.directory, 'owned');
  const [uid, gid] = [65_534, 65_534];
  await mkdir(store, { mode: 0o700 });
  await chown(store, uid, gid);
  await chmod(machine.directory, 0o755);
  await runExpecting(t, machine, EXIT_OK, 'receiver', 'init', store);
  await runExpecting(t, machine, EXIT_OK, 'receiver', 'invite', 'web1', '--store', store);
  const check = await runExpecting(t, machine, EXIT_OK, 'receiver', 'serve', '--check', store);
  t.regex(check.stdout, /the receiver can be started/);
  const names = await readdir(store, { recursive: true });
  t.true(names.some((name) => name.startsWith('receiver/invites/')));
  for (const name of names) {
    const status = await lstat(join(store, name));
    t.deepEqual([status.uid, status.gid], [uid, gid], name);
  }

  await rm(join(store, 'receiver'), { recursive: true });
  const refused = await runExpecting(t, machine, EXIT_FAILED, 'receiver', 'serve', '--check', store);
  t.regex(refused.stderr, /no receiver was made here/);

  // Its user can put links there, but root does not act as root behind them.
  const roots = join(machine.directory, 'roots');
  await runExpecting(t, machine, EXIT_OK, 'receiver', 'init', roots);
  await symlink(join(roots, 'receiver'), join(store, 'receiver'));
  await runExpecting(t, machine, EXIT_FAILED, 'receiver', 'invite', 'web2', '--store', store);
  t.false((await readdir(join(roots, 'receiver'))).includes('invites'));
});
