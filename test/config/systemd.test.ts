/** What systemd hears of a service, by a program in the place of systemd-notify. */
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { delimiter, join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { serviceNotifier } from '../../src/config/systemd.js';
import { tempDir } from '../helpers/disks/temp-dir.js';

/** @returns what was told so far, in order. */
async function listen(t: ExecutionContext): Promise<() => Promise<string[]>> {
  const directory = await tempDir(t);
  const heard = join(directory, 'heard');
  const program = join(directory, 'systemd-notify');
  await writeFile(heard, '');
  await writeFile(program, `#!/bin/sh\necho "$@" >>${heard}\n`);
  await chmod(program, 0o755);
  const { PATH } = process.env;
  process.env.PATH = `${directory}${delimiter}${PATH}`;
  t.teardown(() => {
    process.env.PATH = PATH;
  });
  return async () => (await readFile(heard, 'utf8')).split('\n').filter((line) => line !== '');
}

const pause = (ms: number) => new Promise((resolve) => setTimeout(resolve, ms));

async function until(condition: () => Promise<boolean>): Promise<void> {
  while (!(await condition())) await pause(10);
}

const unexpected = (reason: string): never => {
  throw new Error(reason);
};

test.serial(
  'a service says that it serves, reads its settings again and stops; none is told without systemd',
  async (t) => {
    const told = await listen(t);
    const silent = serviceNotifier({ WATCHDOG_USEC: '3000' }, () => true, unexpected);
    await silent.ready();
    silent.close();
    const notifier = serviceNotifier({ NOTIFY_SOCKET: '/x' }, () => true, unexpected);
    await notifier.status('serving');
    await notifier.status('serving');
    await notifier.ready();
    await notifier.reloading();
    await notifier.stopping();
    notifier.close();
    const lines = (await told()).map((line) => line.replace(/=\d{3,}$/, '=TIME'));
    t.deepEqual(lines, ['STATUS=serving', 'READY=1', 'RELOADING=1 MONOTONIC_USEC=TIME', 'STOPPING=1']);
  },
);

test.serial('the watchdog hears of a service as long as its work proves that it is alive', async (t) => {
  const told = await listen(t);
  const problems: string[] = [];
  let answer: () => boolean | Promise<boolean> = () => true;
  const environment = { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '60000' };
  const notifier = serviceNotifier(
    environment,
    () => answer(),
    (reason) => problems.push(reason),
  );
  // The timer alone would not keep this test running, as it must not keep a service.
  const running = setInterval(() => undefined, 1000);
  t.teardown(() => {
    clearInterval(running);
    notifier.close();
  });
  await until(async () => (await told()).length >= 2);
  t.deepEqual([...new Set(await told())], ['WATCHDOG=1']);
  t.deepEqual(problems, []);

  answer = () => false;
  await until(async () => problems.includes('it is not alive'));
  answer = () => Promise.reject(new Error('the disk is gone'));
  await until(async () => problems.includes('the disk is gone'));
  let asked = 0;
  answer = () => {
    asked++;
    return new Promise(() => undefined);
  };
  await until(async () => asked > 0);
  // What was told before is written by now.
  await pause(200);
  const { length } = await told();
  await pause(200);
  t.is((await told()).length, length);
  t.is(asked, 1);
});

test.serial("a watchdog that is another process's is not fed", async (t) => {
  const told = await listen(t);
  const environment = { NOTIFY_SOCKET: '/x', WATCHDOG_USEC: '30000', WATCHDOG_PID: '1' };
  const notifier = serviceNotifier(environment, () => true, unexpected);
  await pause(100);
  notifier.close();
  t.deepEqual(await told(), []);
});
