/** `stillpoint tap ...` without the native tap's process: what is registered, shown and refused. */
import { readdir, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE } from '../../src/cli/output/exit-codes.js';
import { describeTap, listLines } from '../../src/cli/output/tap-view.js';
import { createStore } from '../../src/store/open.js';
import type { TapReport } from '../../src/tap/control/messages.js';
import { lockTap, readTap } from '../../src/tap/registry/registry.js';
import { FakeTap } from '../helpers/fakes/tap.js';
import { lastResult, type Machine, makeMachine, runHere } from '../helpers/machines/stillpoint.js';

interface Place {
  readonly machine: Machine;
  readonly image: string;
}

async function place(t: ExecutionContext): Promise<Place> {
  const machine = await makeMachine(t);
  const image = join(machine.directory, 'disk.img');
  await writeFile(image, Buffer.alloc(1024 * 1024, 'tap'));
  return { machine, image };
}

async function succeeds(t: ExecutionContext, machine: Machine, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runHere(machine, 'tap', ...args);
  t.is(code, EXIT_OK, stderr);
  return stdout;
}

async function fails(
  t: ExecutionContext,
  machine: Machine,
  code: number,
  message: RegExp,
  ...args: string[]
): Promise<void> {
  const { code: actual, stdout, stderr } = await runHere(machine, 'tap', ...args);
  t.is(actual, code, stderr);
  t.is(stdout, '');
  t.regex(stderr, /^error: [^\n]+\n$/);
  t.regex(stderr, message);
}

test('added, listed, shown, removed', async (t) => {
  const { machine, image } = await place(t);
  t.is(await succeeds(t, machine, 'list'), 'There are no taps.\n');
  const added = await succeeds(t, machine, 'add', image, '--name', 'vm1', '--no-start', '--json');
  const socket = join(machine.stateDirectory, 'taps', 'vm1', 'nbd.sock');
  const expected = {
    name: 'vm1',
    running: false,
    report: null,
    sourcePath: image,
    exportName: 'vm1',
    listen: [`unix:${socket}`],
    blockSize: 65_536,
    readOnly: false,
    preserveDirectory: join(machine.stateDirectory, 'taps', 'vm1', 'preserve'),
    whenFull: 'fail',
    attach: false,
  };
  t.like(lastResult<object>(added), expected);
  t.like(lastResult<object>(await succeeds(t, machine, 'status', 'vm1', '--json')), expected);
  t.like(lastResult<{ taps: object[] }>(await succeeds(t, machine, 'list', '--json')).taps[0], expected);
  t.regex(await succeeds(t, machine, 'list'), /^TAP .*\nvm1 +stopped +\S+disk\.img +- +- +-\n$/);
  t.regex(
    await succeeds(t, machine, 'status', 'vm1'),
    /vm1: stopped\n.*source.*\n.*nbd\+unix:\/\/\/vm1\?socket=/,
  );
  const link = join(machine.directory, 'link');
  await symlink(image, link);
  t.is(await succeeds(t, machine, 'status', link), await succeeds(t, machine, 'status', 'vm1'));
  await succeeds(t, machine, 'stop', 'vm1');
  t.regex(await succeeds(t, machine, 'remove', 'vm1'), /removed; .*disk\.img stays as it is/);
  t.deepEqual(await readdir(join(machine.stateDirectory, 'taps')), ['lock']);
});

test('options become settings', async (t) => {
  const { machine, image } = await place(t);
  const options = [
    ...['--listen', 'unix:/run/a.sock', '--listen', 'tcp:127.0.0.1:10809', '--listen', 'tcp:192.0.2.1:10809'],
    ...[
      '--unprotected',
      '--export',
      'root disk',
      '--read-only',
      '--block-size',
      '4K',
      '--throttle',
      '--attach',
    ],
    ...['--preserve-dir', join(machine.directory, 'area'), '--preserve-max', '5G'],
  ];
  const added = await succeeds(t, machine, 'add', image, '--name', 'vm1', '--no-start', '--json', ...options);
  t.like(lastResult<object>(added), {
    listen: ['unix:/run/a.sock', 'tcp:127.0.0.1:10809', 'tcp:192.0.2.1:10809'],
    exportName: 'root disk',
    readOnly: true,
    blockSize: 4096,
    whenFull: 'throttle',
    attach: true,
    preserveDirectory: join(machine.directory, 'area'),
    preserveMaxBytes: 5 * 1024 ** 3,
  });
});

test('what can not be a tap is refused, and leaves nothing', async (t) => {
  const { machine, image } = await place(t);
  const add = (code: number, message: RegExp, ...args: string[]) =>
    fails(t, machine, code, message, 'add', '--no-start', ...args);
  await add(EXIT_FAILED, /it does not exist/, join(machine.directory, 'nowhere'));
  await add(EXIT_FAILED, /it is a directory/, machine.directory);
  await add(EXIT_USAGE, /a name has/, image, '--name', '../x');
  await add(EXIT_USAGE, /not a power of two/, image, '--block-size', '5000');
  await add(EXIT_USAGE, /neither unix:PATH nor tcp/, image, '--listen', 'here');
  await add(EXIT_USAGE, /neither passwords nor encryption/, image, '--listen', 'tcp:0.0.0.0:10809');
  await add(EXIT_USAGE, /needs a unix socket/, image, '--attach', '--listen', 'tcp:127.0.0.1:10809');
  await fails(
    t,
    machine,
    EXIT_USAGE,
    /107 bytes/,
    'add',
    image,
    '--no-start',
    '--state',
    `/${'x'.repeat(90)}`,
  );
  t.deepEqual(await readdir(machine.stateDirectory), []);
});

test('a second tap of the same, and one that is not there', async (t) => {
  const { machine, image } = await place(t);
  await succeeds(t, machine, 'add', image, '--name', 'vm1', '--no-start');
  await fails(
    t,
    machine,
    EXIT_FAILED,
    /the tap vm1 already serves it/,
    'add',
    image,
    '--name',
    'b',
    '--no-start',
  );
  await fails(t, machine, EXIT_USAGE, /there already is one/, 'add', image, '--name', 'vm1', '--no-start');
  for (const command of ['status', 'start', 'stop', 'serve', 'remove']) {
    await fails(t, machine, EXIT_FAILED, /tap vm2: there is no tap of this name/, command, 'vm2');
  }
  const other = join(machine.directory, 'other.img');
  await writeFile(other, 'other');
  await fails(t, machine, EXIT_FAILED, /no tap serves it/, 'status', other);
});

test('one that a process serves is not served twice', async (t) => {
  const { machine, image } = await place(t);
  await succeeds(t, machine, 'add', image, '--name', 'vm1', '--no-start');
  const lock = await lockTap(await readTap(machine.stateDirectory, 'vm1'));
  await fails(t, machine, EXIT_FAILED, /a process serves it/, 'serve', 'vm1');
  await lock.close();
});

test('a running tap is described for people', async (t) => {
  const { machine, image } = await place(t);
  await succeeds(t, machine, 'add', image, '--name', 'vm1', '--no-start', '--preserve-max', '1G');
  const { settings } = await readTap(machine.stateDirectory, 'vm1');
  const native = new FakeTap({ path: image, blockSize: 65_536, mapPath: null, identity: '' });
  let attachment: TapReport['attachment'] = { device: '/dev/nbd0', problem: null };
  const report = (): TapReport => ({
    ...{
      name: 'vm1',
      processId: 77,
      startedAt: '2026-03-01T12:00:00Z',
      listen: settings.listen,
      exportName: 'vm1',
    },
    attachment,
    status: native.status(),
  });
  const text = (): string =>
    describeTap({ settings, report: report() })
      .join('\n')
      .replaceAll(machine.directory, 'DIR')
      .replace(/since [\d-]+ [\d:]+\S+/, 'since INSTANT');
  t.snapshot(text(), 'serving');
  await native.prepare({
    ...{
      sessionId: '0123456789abcdef'.repeat(2),
      basePointId: null,
      full: true,
      readBlockSize: 65_536,
      sampleBlocks: [],
    },
    ...{ preserveDirectory: '/x', preserveMaxBytes: 4096, whenFull: 'fail' },
  });
  await native.closeGate();
  await native.cut();
  t.snapshot(text(), 'held');
  native.giveUp('the preserve area is full');
  t.snapshot(text(), 'given up');
  t.regex(
    listLines([{ settings, report: report() }])[1] ?? '',
    /serving, snapshot given up .*\/dev\/nbd0 +0 +not known/,
  );
  attachment = { device: null, problem: 'nbd-client: it is not installed' };
  t.regex(text(), /\n {2}device {4}none: nbd-client: it is not installed\n/);
});

test('no tap is put on what belongs to a store, or to the state directory', async (t) => {
  const { machine } = await place(t);
  const file = join(machine.stateDirectory, 'file');
  await writeFile(file, 'x');
  const message = /it belongs to the state directory .*, which is never overwritten/;
  await fails(t, machine, EXIT_USAGE, message, 'add', file, '--no-start');
  const store = join(machine.directory, 'store');
  await createStore(store);
  await fails(
    t,
    machine,
    EXIT_USAGE,
    /it belongs to the store /,
    'add',
    join(store, 'store.json'),
    '--no-start',
  );
  t.is(await succeeds(t, machine, 'list'), 'There are no taps.\n');
});
