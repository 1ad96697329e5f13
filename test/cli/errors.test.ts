/** What people read when they got something wrong, and the exit code that scripts see: held as snapshots. */
import { once } from 'node:events';
import { mkdir, open, readdir, rm, truncate, writeFile } from 'node:fs/promises';
import { type AddressInfo, createServer } from 'node:net';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_FAILED, EXIT_NO_ACCESS, EXIT_OK, EXIT_USAGE } from '../../src/cli/output/exit-codes.js';
import { encodeMark } from '../../src/devices/facts/half-restored.js';
import type { Point } from '../../src/domain/point/point.js';
import { enrolled } from '../helpers/machines/enrolled.js';
import { type Machine, makeMachine, runHere } from '../helpers/machines/stillpoint.js';

/**
 * Runs the command, which must fail so; its message, without what differs from run to run, is the snapshot.
 */
async function fails(t: ExecutionContext, machine: Machine, code: number, ...args: string[]): Promise<void> {
  const { code: actual, stdout, stderr } = await runHere(machine, ...args);
  const stable = (text: string): string =>
    text
      .replaceAll(machine.directory, 'DIR')
      .replace(/\d{4}-\d\d-\d\dT[\d:.]+Z/g, 'INSTANT')
      .replace(/\b[0-9a-f]{12}\b/g, 'ID')
      .replace(/\d+:\d+\/\d+/g, 'INODE')
      .replace(/process \d+/g, 'process PID')
      .replace(/[23][0-9A-Z]{3}(-[0-9A-Z]{4}){13}/g, 'CODE');
  t.is(actual, code, stderr);
  t.is(stdout, '');
  t.regex(stderr, /^(warning: .*\n)*error: [^\n]+[.?]\n$/);
  t.snapshot(stable(stderr), args.map((arg) => stable(arg)).join(' '));
}

async function withOnePoint(
  t: ExecutionContext,
): Promise<{ machine: Machine; store: string; image: string }> {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'disk.img');
  await writeFile(image, Buffer.alloc(70_000, 'stillpoint'));
  const made = await runHere(machine, 'backup', image, '--name', 'disk', '--store', store);
  t.is(made.code, EXIT_OK, made.stderr);
  return { machine, store, image };
}

test('the command line itself', async (t) => {
  const machine = await makeMachine(t);
  for (const args of [
    ['backupp', '/dev/sdb'],
    ['backup'],
    ['backup', 'a', 'b'],
    ['backup', 'a', '--group', 'g'],
    ['backup', 'a', '--missing', 'leave-out'],
    ['backup', 'a', 'b', '--group', '../g'],
    ['backup', 'x=a', 'y=b', '--group', 'x'],
    ['backup', 'x=a', 'x=b', '--group', 'g'],
    ['backup', `x=${machine.directory}/a`, `y=${machine.directory}/./a`, '--group', 'g'],
    ['backup', 'x y=a', 'b', '--group', 'g'],
    ['backup', 'a', 'b', '--group', 'g', '--missing', 'never'],
    ['backup', 'a', 'b', '--group', 'g', '--name', 'n'],
    ['backup', 'a', 'b', '--group', 'g', '--fuzzy'],
    ['backup', 'a', 'b', '--group', 'g', '--partitions', '1'],
    ['backup', 'a', 'b', '--group', 'g', '--exclude-swap'],
    ['backup', '--now', 'a', 'b'],
    ['backup', '--now', 'a', '--group', 'g'],
    ['backup', ...Array.from({ length: 33 }, (_, n) => `d${n}`), '--group', 'g'],
    ['backup', 'a', '--no-such-option'],
    ['backup', 'a', '--compression-level', '20'],
    ['backup', 'a', '--compression-level', 'fast'],
    ['backup', 'a', '--patch', 'sometimes'],
    ['backup', 'a', '--block-size', '64Q'],
    ['backup', 'a', '--limit-rate', '9kbit'],
    ['restore', 'a@1', 'b', '--limit-rate', '08:00-18:00'],
    ['backup', 'a', '--name', '../x'],
    ['points', '--log-level', 'loud'],
    ['points', '--journal', '--partial'],
    ['receiver', 'begin'],
  ]) {
    await fails(t, machine, EXIT_USAGE, ...args);
  }
});

test('help is no error, no command is one', async (t) => {
  const machine = await makeMachine(t);
  const help = await runHere(machine, '--help');
  t.is(help.code, EXIT_OK);
  t.regex(help.stdout, /Exit codes:/);
  for (const command of [
    ...['backup', 'points', 'restore', 'verify', 'diff', 'compare', 'enroll', 'agent', 'receiver'],
  ]) {
    const { code, stdout } = await runHere(machine, command, '--help');
    t.is(code, EXIT_OK);
    t.regex(stdout, /--json/);
  }
  t.is((await runHere(machine)).code, EXIT_USAGE);
  t.is((await runHere(machine, 'receiver')).code, EXIT_USAGE);
  t.regex((await runHere(machine, '--version')).stdout, /^\d+\.\d+\.\d+\n$/);
});

test('no receiver', async (t) => {
  const machine = await makeMachine(t);
  const { directory } = machine;
  await fails(t, machine, EXIT_NO_ACCESS, 'points');
  await fails(t, machine, EXIT_NO_ACCESS, 'points', '--store', 'https://backup.example.net:8440');
  await fails(t, machine, EXIT_USAGE, 'points', '--store', 'http://backup.example.net');
  await fails(t, machine, EXIT_FAILED, 'points', '--store', join(directory, 'nowhere'));
  await fails(
    t,
    machine,
    EXIT_USAGE,
    ...['restore', 'disk@1', join(directory, 'target'), '--store', directory, '--limit-rate', '1M'],
  );
  t.deepEqual(await readdir(directory), ['state']);
});

test('enrolling', async (t) => {
  const machine = await makeMachine(t);
  const url = 'https://127.0.0.1:1';
  await fails(t, machine, EXIT_NO_ACCESS, 'enroll', url, '12');
  await fails(t, machine, EXIT_NO_ACCESS, 'enroll', url, 'AAAA-'.repeat(13).concat('AAAA'));
  await fails(t, machine, EXIT_USAGE, 'enroll', 'ftp://x', await validCode(t, machine));
  await fails(t, machine, EXIT_NO_ACCESS, 'enroll', url, await validCode(t, machine));
});

async function validCode(t: ExecutionContext, machine: Machine): Promise<string> {
  const store = join(machine.directory, 'receiver');
  t.is((await runHere(machine, 'receiver', 'init', store)).code, EXIT_OK);
  const { stdout } = await runHere(machine, 'receiver', 'invite', 'a', '--store', store);
  return stdout.trim();
}

test('a directory that is no store', async (t) => {
  const machine = await makeMachine(t);
  const { directory } = machine;
  const home = join(directory, 'home');
  await mkdir(home);
  await writeFile(join(home, 'letter'), 'dear');
  await writeFile(join(directory, 'disk.img'), 'x'.repeat(5000));
  await fails(t, machine, EXIT_USAGE, 'backup', join(directory, 'disk.img'), '--store', home);
  await fails(t, machine, EXIT_FAILED, 'points', '--store', join(home, 'letter'));
  await fails(t, machine, EXIT_USAGE, 'receiver', 'init', home);
  await fails(t, machine, EXIT_FAILED, 'receiver', 'serve', join(directory, 'nothing'));
  await fails(t, machine, EXIT_FAILED, 'receiver', 'invite', 'a', '--store', join(directory, 'nothing'));
  await fails(t, machine, EXIT_USAGE, 'receiver', 'init', join(directory, 'r'), '--listen', 'everywhere');
  await fails(t, machine, EXIT_USAGE, 'receiver', 'init', join(directory, 'r'), '--url', 'http://x');
  for (const period of ['soon', '5m', '-1d'])
    await fails(t, machine, EXIT_USAGE, 'receiver', 'init', join(directory, 'r'), '--keep-partial', period);
  await fails(t, machine, EXIT_FAILED, 'points', '--partial', '--store', join(directory, 'nowhere'));
  await fails(t, machine, EXIT_FAILED, 'points', '--journal', '--store', join(directory, 'nowhere'));
  t.deepEqual(await readdir(home), ['letter']);
});

test('a port that is taken', async (t) => {
  const machine = await makeMachine(t);
  const dir = join(machine.directory, 'receiver');
  const other = createServer().listen(0, '127.0.0.1');
  await once(other, 'listening');
  t.teardown(() => other.close());
  const listen = `127.0.0.1:${(other.address() as AddressInfo).port}`;
  t.is((await runHere(machine, 'receiver', 'init', dir, '--listen', listen)).code, EXIT_OK);
  const { code, stderr } = await runHere(machine, 'receiver', 'serve', dir);
  t.is(code, EXIT_USAGE);
  t.regex(stderr, /^error: listen address 127[^ ]+: listening on it failed \(EADDRINUSE\)\. .*--listen\.\n$/);
});

test('devices', async (t) => {
  const { machine, store, image } = await withOnePoint(t);
  const { directory } = machine;
  const to = ['--store', store];
  await fails(t, machine, EXIT_FAILED, 'backup', join(directory, 'nowhere.img'), ...to);
  const nowhere = await runHere(
    machine,
    'backup',
    join(directory, 'nowhere.img'),
    '--store',
    join(directory, 'new'),
  );
  t.is(nowhere.code, EXIT_FAILED);
  t.false((await readdir(directory)).includes('new'), 'no store is made for a device that is not there');
  await fails(t, machine, EXIT_FAILED, 'backup', directory, ...to);
  await fails(t, machine, EXIT_FAILED, 'backup', '/dev/null', ...to);
  await fails(t, machine, EXIT_USAGE, 'backup', image, '--block-size', '3000', ...to);
  await fails(t, machine, EXIT_USAGE, 'backup', image, '--block-size', '8M', ...to);
  const other = join(directory, 'other.img');
  await writeFile(other, 'not the disk');
  await fails(t, machine, EXIT_FAILED, 'backup', other, '--name', 'disk', ...to);
  const writer = await open(image, 'r+');
  try {
    await fails(t, machine, EXIT_FAILED, 'backup', image, '--name', 'disk', ...to);
  } finally {
    await writer.close();
  }
});

test('points and targets', async (t) => {
  const { machine, store, image } = await withOnePoint(t);
  const unknown = await runHere(machine, 'points', 'tape', '--store', store);
  t.is(unknown.stdout, 'There are no points of device tape.\n');
  const target = join(machine.directory, 'target.img');
  const from = ['--store', store];
  await fails(t, machine, EXIT_USAGE, 'restore', 'disk', target, ...from);
  await fails(t, machine, EXIT_USAGE, 'restore', 'disk@yesterday', target, ...from);
  await fails(t, machine, EXIT_FAILED, 'restore', 'disk@2', target, ...from);
  await fails(t, machine, EXIT_FAILED, 'restore', 'tape@latest', target, ...from);
  await fails(t, machine, EXIT_FAILED, 'restore', 'disk@2001-01-01', target, ...from);
  await fails(t, machine, EXIT_FAILED, 'restore', '00000000', target, ...from);
  await fails(t, machine, EXIT_FAILED, 'verify', 'tape@1', ...from);
  await fails(t, machine, EXIT_USAGE, 'restore', 'disk@1', '-', '--verify', ...from);
  await fails(t, machine, EXIT_USAGE, 'restore', 'disk@1', image, ...from);
  await fails(t, machine, EXIT_FAILED, 'restore', 'disk@1', machine.directory, ...from);
  await fails(t, machine, EXIT_USAGE, 'restore', 'disk@1', '', ...from);
  t.teardown(() => rm('/dev/no-such-disk', { force: true }));
  await fails(t, machine, EXIT_FAILED, 'restore', 'disk@1', '/dev/no-such-disk', ...from);
  const half = join(machine.directory, 'half.img');
  const { stdout } = await runHere(machine, 'points', '--json', ...from);
  const [point] = (JSON.parse(stdout) as { points: [Point] }).points;
  const mark = encodeMark({ ...point, id: '0f'.repeat(16) }, new Date());
  await writeFile(half, Buffer.concat([mark, Buffer.alloc(69_488)]));
  await fails(t, machine, EXIT_FAILED, 'backup', half, '--name', 'disk', '--accept-identity', ...from);
  await rm(half);
  await fails(t, machine, EXIT_USAGE, 'backup', image, '--store', '');
  await fails(t, machine, EXIT_USAGE, 'points', '--agent', 'web1');
  await truncate(image, 0);
  t.deepEqual((await readdir(machine.directory)).sort(), ['disk.img', 'state', 'store']);
});

test('a diff of points that have nothing to compare', async (t) => {
  const { machine, store, image } = await withOnePoint(t);
  const from = ['--store', store];
  const smaller = ['--name', 'disk', '--block-size', '4K', ...from];
  t.is((await runHere(machine, 'backup', image, ...smaller)).code, EXIT_OK);
  await fails(t, machine, EXIT_USAGE, 'diff', 'disk@1', 'disk@2', ...from);
  await fails(t, machine, EXIT_USAGE, 'diff', 'disk@1', ...from);
  await fails(t, machine, EXIT_USAGE, 'diff', 'disk', 'disk@1', ...from);
  await fails(t, machine, EXIT_FAILED, 'diff', 'disk@1', 'disk@3', ...from);
  await fails(t, machine, EXIT_FAILED, 'diff', 'tape@1', 'disk@1', ...from);
  await fails(t, machine, EXIT_USAGE, 'diff', 'disk@1', 'disk@2', '--agent', 'web1');
});

test('comparisons that can’t be', async (t) => {
  const { machine, store, image } = await withOnePoint(t);
  const to = ['--name', 'disk', '--store', store];
  t.is((await runHere(machine, 'backup', image, ...to)).code, EXIT_OK);
  const compare = (code: number, ...args: string[]) => fails(t, machine, code, 'compare', ...args);
  await compare(EXIT_USAGE);
  await compare(EXIT_FAILED, join(machine.directory, 'nowhere.img'), ...to);
  await compare(EXIT_FAILED, image, 'disk@3', ...to);
  await compare(EXIT_FAILED, image, 'tape@1', ...to);
  await compare(EXIT_FAILED, image, '--name', 'tape', '--store', store);
  await compare(EXIT_USAGE, image, '--ranges', '5-4', ...to);
  await compare(EXIT_USAGE, image, '--ranges', '1M-2M', ...to);
  await compare(EXIT_USAGE, image, '--digests', 'both', ...to);
  await compare(EXIT_USAGE, image, '--block-size', '4K', ...to);
  await compare(EXIT_USAGE, image, '--ship', '--mark', ...to);
  await compare(EXIT_USAGE, image, '--ship', '--ranges', '0-1M', ...to);
  await compare(EXIT_USAGE, image, '--mark', '--digests', 'from-agent', ...to);
  await compare(EXIT_USAGE, image, '--mark', ...to);
  await compare(EXIT_USAGE, image, 'disk@1', '--ship', ...to);
  await compare(EXIT_USAGE, image, '--provider', 'tap', ...to);
});

test('what the receiver starts', async (t) => {
  const machine = await makeMachine(t);
  const { directory } = machine;
  const dir = join(directory, 'r');
  await fails(t, machine, EXIT_FAILED, 'receiver', 'dial', 'web1', 'web1:8441', '--store', dir);
  await fails(t, machine, EXIT_FAILED, 'receiver', 'schedule', 'set', '--every', '6h', '--store', dir);
  t.is((await runHere(machine, 'receiver', 'init', dir)).code, EXIT_OK);
  const store = ['--store', dir];
  for (const args of [['backup', 'web1', 'disk'], ['agents'], ['round']])
    await fails(t, machine, EXIT_NO_ACCESS, 'receiver', ...args, ...store);
  for (const args of [
    ['backup', 'web1', '../disk'],
    ['backup', 'web1', 'disk', '--wait', 'long'],
    ['dial', 'web1', 'everywhere'],
    ['dial', 'web1', 'web1:0'],
    ['round', '--parallel', '0'],
    ['round', '--agents', 'web1,../x'],
    ['round', '--groups', 'db,../x'],
    ['schedule', 'set'],
    ['schedule', 'set', '--at', '02:00', '--every', '6h'],
    ['schedule', 'set', '--at', '25:00'],
    ['schedule', 'set', '--every', 'often'],
    ['schedule', 'set', '--at', '02:00', '--retries', 'many'],
    ['schedule', 'set', '--at', '02:00', '--groups', 'db'],
    ['schedule', 'clear', '--name', 'nightly'],
  ])
    await fails(t, machine, EXIT_USAGE, 'receiver', ...args, ...store);
  for (const op of ['backup', 'cancel'])
    await fails(t, machine, EXIT_NO_ACCESS, 'receiver', 'group', op, 'db', ...store);
  for (const args of [
    ['set', 'db', 'data'],
    ['set', 'db', 'web1/data', 'web1/data'],
    ['set', 'db', 'web1/db'],
    ['set', '../db', 'web1/data'],
    ['set', 'db', 'web1/data', '--missing', 'never'],
    ['set', 'db', 'web1/data'],
    ['show', 'db'],
    ['remove', 'db'],
    ['backup', '../db'],
  ])
    await fails(t, machine, EXIT_USAGE, 'receiver', 'group', ...args, ...store);
  await enrolled(dir, 'web1');
  t.is((await runHere(machine, 'receiver', 'group', 'set', 'db', 'web1/data', ...store)).code, EXIT_OK);
  const nightly = ['--name', 'nightly', '--at', '02:00', '--groups', 'db'];
  t.is((await runHere(machine, 'receiver', 'schedule', 'set', ...nightly, ...store)).code, EXIT_OK);
  await fails(t, machine, EXIT_USAGE, 'receiver', 'group', 'remove', 'db', ...store);
  t.is((await runHere(machine, 'receiver', 'schedule', 'clear', ...store)).code, EXIT_OK);
  t.is((await runHere(machine, 'receiver', 'dial', 'web1', 'web1:8441', ...store)).code, EXIT_OK);
  t.is(
    (await runHere(machine, 'receiver', 'schedule', 'show', ...store)).stdout,
    'No rounds are scheduled.\n',
  );
});

test('offering devices, and waiting for orders', async (t) => {
  const { machine, image } = await withOnePoint(t);
  const { directory } = machine;
  await fails(t, machine, EXIT_FAILED, 'agent', 'add', join(directory, 'nowhere.img'));
  await fails(t, machine, EXIT_USAGE, 'agent', 'add', image, '--name', '../x');
  t.is((await runHere(machine, 'agent', 'add', image, '--name', 'disk')).code, EXIT_OK);
  await fails(t, machine, EXIT_USAGE, 'agent', 'add', image, '--name', 'disk');
  await fails(t, machine, EXIT_FAILED, 'agent', 'remove', 'tape');
  t.is((await runHere(machine, 'agent', 'remove', 'disk')).code, EXIT_OK);
  t.is((await runHere(machine, 'agent', 'list')).stdout, 'No device is offered.\n');
  await fails(t, machine, EXIT_NO_ACCESS, 'agent', 'run');
  await fails(t, machine, EXIT_NO_ACCESS, 'agent', 'listen');
  await fails(t, machine, EXIT_USAGE, 'agent', 'listen', '--listen', 'everywhere');
  await fails(t, machine, EXIT_USAGE, 'agent', 'run', '--parallel', '1000');
});

test('errors for programs', async (t) => {
  const machine = await makeMachine(t);
  const { code, stdout, stderr } = await runHere(machine, 'points', '--json');
  t.is(code, EXIT_NO_ACCESS);
  t.is(stderr, '');
  const { reason, remedy, ...rest } = JSON.parse(stdout) as Record<string, unknown>;
  t.deepEqual(rest, {
    event: 'error',
    code: 'not-enrolled',
    exitCode: EXIT_NO_ACCESS,
    thing: 'this machine',
  });
  t.is(typeof reason, 'string');
  t.is(typeof remedy, 'string');
  const usage = await runHere(machine, '--json', 'backup');
  t.is(usage.code, EXIT_USAGE);
  t.like(JSON.parse(usage.stdout), { event: 'error', code: 'usage', exitCode: EXIT_USAGE });
});
