/**
 * The store that is not there: an unmounted disk, another disk, an older copy, an exchanged receiver. A
 * machine that has backed up into a store makes and continues nothing silently.
 */
import { cp, mkdir, readdir, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_FAILED, EXIT_OK, EXIT_WARNINGS } from '../../src/cli/output/exit-codes.js';
import type { Point } from '../../src/domain/point/point.js';
import { attachLoop, mount, run as runProgram } from '../helpers/disks/loop-device.js';
import { enroll, killReceiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import {
  COMMAND,
  lastResult,
  type Machine,
  makeMachine,
  runHere,
  start,
} from '../helpers/machines/stillpoint.js';
import { programs, testWith } from '../helpers/requirements.js';

const MIB = 1024 * 1024;

async function imageOf(machine: Machine): Promise<string> {
  const image = join(machine.directory, 'disk.img');
  await writeFile(image, Buffer.alloc(100_000, 'stillpoint'));
  return image;
}

async function failsWith(
  t: ExecutionContext,
  machine: Machine,
  reason: RegExp,
  ...args: string[]
): Promise<void> {
  const { code, stderr } = await runHere(machine, ...args);
  t.is(code, EXIT_FAILED, stderr);
  t.regex(stderr, reason);
}

/** A backup in this process: a new one each time would take most of the test's time. */
async function backUpHere(
  machine: Machine,
  store: string | null,
  image: string,
  code: number,
  ...args: string[]
): Promise<Point> {
  const to = store === null ? [] : ['--store', store];
  const result = await runHere(machine, 'backup', image, '--name', 'd', ...to, '--json', ...args);
  if (result.code !== code) throw new Error(`exit code ${result.code}: ${result.stdout}${result.stderr}`);
  return lastResult<{ point: Point }>(result.stdout).point;
}

/** A socket can't be copied. */
function copyOf(from: string, to: string): Promise<void> {
  return cp(from, to, { recursive: true, filter: (path) => !path.endsWith('.sock') });
}

async function disk(t: ExecutionContext, machine: Machine, name: string): Promise<string> {
  const path = join(machine.directory, name);
  await writeFile(path, '');
  await truncate(path, 16 * MIB);
  runProgram('mkfs.ext4', '-q', path);
  return attachLoop(t, path);
}

testWith(
  ['root', 'loop', ...programs('mkfs.ext4')],
  'two disks are rotated at one mount point, and sometimes none is mounted',
  async (t) => {
    const machine = await makeMachine(t);
    const image = await imageOf(machine);
    const mountPoint = join(machine.directory, 'mnt');
    const store = join(mountPoint, 'store');
    const [first, second] = [await disk(t, machine, 'first'), await disk(t, machine, 'second')];
    const to = ['--name', 'd', '--store', store];
    const into = (...more: string[]) => backUpHere(machine, store, image, EXIT_OK, ...more);
    const refusals = async () => {
      const gone =
        /error: store \S+: store [0-9a-f]{12}, which this machine has backed up into, is not there\. Mount/;
      await failsWith(t, machine, gone, 'backup', image, ...to);
      await failsWith(t, machine, gone, 'backup', image, ...to, '--accept-store');
      await failsWith(t, machine, gone, 'points', '--store', store);
      await failsWith(t, machine, gone, 'receiver', 'init', store);
      await failsWith(t, machine, gone, 'receiver', 'serve', store);
      await failsWith(t, machine, gone, 'receiver', 'schedule', 'show', '--store', store);
      t.deepEqual(await readdir(mountPoint), [], 'nothing is made');
    };
    let unmount = await mount(t, first, mountPoint);
    t.is((await into()).sequence, 1);
    unmount();
    await refusals();
    unmount = await mount(t, second, mountPoint);
    // Its store comes from another machine.
    const other = await makeMachine(t);
    await backUpHere(other, store, await imageOf(other), EXIT_OK, '--name', 'theirs');
    await failsWith(
      t,
      machine,
      /it is store [0-9a-f]{12}, but this machine has backed up there into store [0-9a-f]{12}\. .*--accept-store/,
      ...['backup', image, ...to],
    );
    await failsWith(t, machine, /--accept-store/, 'receiver', 'init', store);
    t.is((await runHere(machine, 'points', '--store', store)).code, EXIT_OK, 'reading is no continuing');
    await into('--accept-store');
    unmount();
    unmount = await mount(t, first, mountPoint);
    t.is((await into()).sequence, 2);
    unmount();
    await mkdir(store);
    await failsWith(
      t,
      machine,
      /any of the stores [0-9a-f]{12}, [0-9a-f]{12}, which/,
      'backup',
      image,
      ...to,
    );
    t.is((await into('--new-store')).sequence, 1);
    t.is((await into()).sequence, 2);
  },
);

testWith(
  ['root', ...programs('unshare', 'mount')],
  'a first backup below a mount point of /etc/fstab that is not mounted makes no store',
  async (t) => {
    const machine = await makeMachine(t);
    const image = await imageOf(machine);
    const mountPoint = join(machine.directory, 'disk');
    await mkdir(mountPoint);
    const fstab = join(machine.directory, 'fstab');
    await writeFile(fstab, `UUID=1 ${mountPoint} ext4 defaults 0 2\n`);
    // In mounts of its own, /etc/fstab is another one.
    const etc = join(machine.directory, 'etc');
    await mkdir(etc);
    await cp(fstab, join(etc, 'fstab'));
    const inside = (...args: string[]) =>
      runProgram(
        'unshare',
        ...['--mount', 'sh', '-c', 'mount --bind "$0" /etc && exec "$@" 2>&1', etc],
        ...['env', `STILLPOINT_STATE=${machine.stateDirectory}`, process.execPath, COMMAND, ...args],
      );
    const args = ['backup', image, '--name', 'd', '--store', join(mountPoint, 'store')];
    const { stdout } = t.throws(() => inside(...args)) as Error & { stdout: string };
    t.regex(stdout, /disk should have a disk of its own and is not mounted\. Mount its disk .*--new-store/);
    t.deepEqual(await readdir(mountPoint), []);
    t.regex(inside(...args, '--new-store'), /d@1: committed/);
    t.regex(inside(...args), /d@2: committed/);
  },
);

test('a receiver whose store was put back to an older copy, and exchanged: the agent says so, by command and by order', async (t) => {
  const receiver = await startReceiver(t);
  const machine = await makeMachine(t);
  const image = await imageOf(machine);
  await enroll(t, receiver, machine, 'web1');
  const lost = (sequence: number) =>
    new RegExp(`point d@${sequence} \\([0-9a-f]{12}, .*\\) was acknowledged, and .*--accept-store`);
  const into = (code = EXIT_OK, ...more: string[]) => backUpHere(machine, null, image, code, ...more);
  const whileStopped = async (work: () => Promise<void>) => {
    await killReceiver(receiver);
    await work();
    await serve(receiver);
  };
  const copy = join(receiver.machine.directory, 'copy');
  await into();
  await whileStopped(() => copyOf(receiver.store, copy));
  await into();
  await whileStopped(async () => {
    await rm(receiver.store, { recursive: true });
    await rename(copy, receiver.store);
  });
  await failsWith(t, machine, lost(2), 'backup', image, '--name', 'd');

  t.is((await runHere(machine, 'agent', 'add', image, '--name', 'd')).code, EXIT_OK);
  const agent = start(machine, ['agent', 'run']);
  t.teardown(() => agent.kill('SIGKILL'));
  const order = ['receiver', 'backup', 'web1', 'd', '--store', receiver.store];
  await failsWith(t, receiver.machine, lost(2), ...order);
  const accepted = await into(EXIT_WARNINGS, '--accept-store');
  t.regex(accepted.warnings.join(), /the store has lost points, which was accepted: point d@2 /);
  t.deepEqual((await into()).warnings, []);

  // Another store behind the same certificate.
  await whileStopped(async () => {
    const old = join(receiver.machine.directory, 'old');
    await rename(receiver.store, old);
    t.is((await runHere(receiver.machine, 'receiver', 'init', receiver.store, '--new-store')).code, EXIT_OK);
    await rm(join(receiver.store, 'receiver'), { recursive: true });
    await copyOf(join(old, 'receiver'), join(receiver.store, 'receiver'));
  });
  const other =
    /receiver https:\S+: it is store [0-9a-f]{12}, but this machine has backed up there into store/;
  await failsWith(t, machine, other, 'backup', image, '--name', 'd');
  await failsWith(t, receiver.machine, other, ...order);
  t.is((await into(EXIT_OK, '--accept-store')).sequence, 1);
  t.is((await runHere(receiver.machine, ...order)).code, EXIT_OK);
});
