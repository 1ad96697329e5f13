/** What a service tells systemd, to a program that stands for systemd-notify. */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { serviceNotifier } from '../../src/config/systemd.js';
import { tempDir } from '../helpers/disks/temp-dir.js';

test('states, a status that changed, and the watchdog while the service lives', async (t) => {
  const directory = await tempDir(t);
  const told = join(directory, 'told');
  await writeFile(
    join(directory, 'systemd-notify'),
    `#!/bin/sh\nshift\necho "$NOTIFY_SOCKET $*" >>${told}\n`,
  );
  await chmod(join(directory, 'systemd-notify'), 0o755);
  await writeFile(told, '');
  const { PATH } = process.env;
  process.env.PATH = `${directory}:${PATH}`;
  t.teardown(() => {
    process.env.PATH = PATH;
  });
  let isAlive = true;
  const problems: string[] = [];
  const environment = { NOTIFY_SOCKET: '/sock', WATCHDOG_USEC: '40000' };
  const notifier = serviceNotifier(
    environment,
    () => isAlive,
    (reason) => problems.push(reason),
  );
  t.teardown(() => notifier.close());
  const lines = async () => (await readFile(told, 'utf8')).trim().split('\n');
  await notifier.ready();
  await notifier.status('2 devices');
  await notifier.status('2 devices');
  await notifier.reloading();
  await notifier.stopping();
  while (!(await lines()).includes('/sock WATCHDOG=1')) await sleep(5);
  isAlive = false;
  await sleep(500);
  const before = (await lines()).length;
  await sleep(100);
  t.is((await lines()).length, before);
  const states = (await lines()).filter((line) => !line.includes('WATCHDOG'));
  t.deepEqual(
    states.map((line) => line.replace(/\d{3,}$/, 'N')),
    ['READY=1', 'STATUS=2 devices', 'RELOADING=1 MONOTONIC_USEC=N', 'STOPPING=1'].map(
      (line) => `/sock ${line}`,
    ),
  );
  // Not under systemd: nothing is started.
  await serviceNotifier(
    {},
    () => true,
    (reason) => problems.push(reason),
  ).ready();
  // Another process is watched.
  serviceNotifier(
    { ...environment, WATCHDOG_PID: '1' },
    () => true,
    () => undefined,
  ).close();
  t.deepEqual(problems, []);
  await chmod(join(directory, 'systemd-notify'), 0o644);
  process.env.PATH = directory;
  await notifier.ready();
  t.is(problems.length, 1);
});
