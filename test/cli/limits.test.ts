/**
 * Output that can't be written, and machines that refuse what a command needs: with real
 * limits, files and file systems.
 */
import { spawn, spawnSync } from 'node:child_process';
import { closeSync, openSync } from 'node:fs';
import { chmod, chown, mkdir, readFile, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  backup,
  COMMAND,
  type Machine,
  makeMachine,
  type Outcome,
  outcome,
  points,
  runExpecting,
} from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const IMAGE_BYTES = 300_000;

interface World {
  readonly machine: Machine;
  readonly image: string;
  readonly store: string;
}

async function world(t: ExecutionContext): Promise<World> {
  const machine = await makeMachine(t);
  const image = join(machine.directory, 'disk.img');
  const store = join(machine.directory, 'store');
  await writeFile(image, Buffer.alloc(IMAGE_BYTES, 'stillpoint'));
  await backup(t, machine, store, image, '--name', 'disk');
  return { machine, image, store };
}

/** Within a shell that sets the scene; `"$@"` is the command. */
function within({ machine }: World, scene: string, args: readonly string[], env = {}): Promise<Outcome> {
  const shell = ['-c', scene, 'sh', process.execPath, COMMAND, ...args];
  return outcome(spawn('sh', shell, { env: { ...machine.env, ...env }, cwd: machine.directory }));
}

function failsOnce(t: ExecutionContext, { code, signal, stderr }: Outcome, reason: RegExp): void {
  t.is(signal, null);
  t.is(code, 1, stderr);
  t.regex(stderr, reason);
  t.is(stderr.match(/^error: /gm)?.length, 1, stderr);
  t.notRegex(stderr, /defect|^\s+at |\bE[A-Z]{3,}:/m);
}

/** A file system that takes so many bytes. */
async function smallDisk(t: ExecutionContext, { machine }: World, size: string): Promise<string> {
  const path = join(machine.directory, 'small');
  await mkdir(path);
  t.is(spawnSync('mount', ['-t', 'tmpfs', '-o', `size=${size}`, 'stillpoint-test', path]).status, 0);
  t.teardown(() => void spawnSync('umount', [path]));
  return path;
}

test('a result, a list, events, help: on a full device the exit code is 1, and the reason is told', async (t) => {
  const scene = await world(t);
  const { store } = scene;
  for (const args of [['points', '--store', store], ['--json', 'points', '--store', store], ['--help']])
    failsOnce(t, await within(scene, '"$@" >/dev/full', args), /standard output: .*no space left/);
});

test('a backup whose result can not be printed says that the point is there', async (t) => {
  const scene = await world(t);
  const { machine, store, image } = scene;
  const args = ['backup', image, '--name', 'disk', '--store', store];
  for (const json of [[], ['--json']]) {
    const got = await within(scene, '"$@" >/dev/full', [...json, ...args]);
    failsOnce(t, got, /The point disk@\d was made anyway\./);
  }
  t.is((await points(t, machine, store)).length, 3);
  const quiet = await within(scene, '"$@" --quiet >/dev/full', args);
  t.is(quiet.code, 0, quiet.stderr);
});

test('standard output that is closed, that is not for writing, whose reader has ended', async (t) => {
  const scene = await world(t);
  const list = ['points', '--store', scene.store];
  failsOnce(
    t,
    await within(scene, '"$@"', list, { STILLPOINT_CLOSED_OUTPUT: '1' }),
    /standard output: .*it is closed/,
  );
  failsOnce(
    t,
    await within(scene, '"$@" 1</dev/null', list),
    /standard output: .*opened for another purpose/,
  );
  const child = spawn(process.execPath, [COMMAND, ...list], { env: scene.machine.env });
  child.stdout.destroy();
  failsOnce(t, await outcome(child), /standard output: .*its reader has ended/);
});

test('standard error that can not be written is no crash', async (t) => {
  const scene = await world(t);
  const nowhere = await within(scene, '"$@" 2>/dev/full', [
    'points',
    '--store',
    join(scene.store, 'nowhere'),
  ]);
  t.deepEqual([nowhere.code, nowhere.signal], [1, null]);
  const fine = await within(scene, '"$@" 2>/dev/full', ['points', '--store', scene.store]);
  t.is(fine.code, 0);
  t.regex(fine.stdout, /disk@1/);
});

test('a point that goes to standard output is whole, or the exit code says that it is not', async (t) => {
  const scene = await world(t);
  const args = ['restore', 'disk@1', '-', '--store', scene.store];
  const whole = join(scene.machine.directory, 'whole');
  const file = openSync(whole, 'w');
  const child = spawn(process.execPath, [COMMAND, ...args], {
    env: scene.machine.env,
    stdio: ['ignore', file, 'pipe'],
  });
  const got = await outcome(child);
  closeSync(file);
  t.is(got.code, 0, got.stderr);
  t.deepEqual(await readFile(whole), await readFile(scene.image));
  failsOnce(t, await within(scene, '"$@" >/dev/full', args), /standard output: there is no space left/);
  failsOnce(
    t,
    await within(scene, 'ulimit -f 100; "$@" >limited', args),
    /standard output: it would be larger/,
  );
});

testWith(['root'], 'a disk that takes a part of what is printed is full', async (t) => {
  const scene = await world(t);
  const list = ['backup', '--help'];
  const { stdout } = await runExpecting(t, scene.machine, 0, ...list);
  t.true(stdout.length > 2096);
  const disk = await smallDisk(t, scene, '4k');
  await writeFile(`${disk}/out`, 'x'.repeat(2000));
  failsOnce(t, await within(scene, `"$@" >>${disk}/out`, list), /standard output: .*no space left/);
  t.is((await stat(`${disk}/out`)).size, 4096);
});

test('few file descriptors: an error in one line that says so', async (t) => {
  const scene = await world(t);
  const list = ['points', '--store', scene.store];
  let told = 0;
  for (let limit = 22; limit > 12; limit -= 1) {
    const got = await within(scene, `ulimit -n ${limit}; "$@"`, list);
    if (got.code === 0) continue;
    // With fewer, Node itself does not start.
    if (told > 0 && !got.stderr.startsWith('error: ')) break;
    failsOnce(t, got, /^error: .*(may open no more files.*ulimit -n|limit of open files)/);
    told += 1;
  }
  t.true(told > 0);
  const enough = await within(scene, 'ulimit -n 32; "$@"', list);
  t.is(enough.code, 0, enough.stderr);
});

testWith(
  ['root'],
  'a user without a home is told to name a state directory, where one is needed',
  async (t) => {
    const scene = await world(t);
    const { machine, store } = scene;
    await chmod(machine.directory, 0o777);
    t.is(spawnSync('chown', ['-R', '54321', store]).status, 0);
    const as = 'exec setpriv --reuid 54321 --regid 54321 --clear-groups env -u HOME -u STILLPOINT_STATE "$@"';
    if ((await within(scene, as, ['--version'])).code !== 0) {
      t.log('skipped: another user may not read this checkout');
      t.pass();
      return;
    }
    const needs = await within(scene, as, ['backup', scene.image, '--store', store]);
    t.is(needs.code, 2, needs.stderr);
    t.regex(needs.stderr, /^error: state directory: user 54321 has no home .*--state/);
    for (const args of [
      ['points', '--store', store],
      ['restore', 'disk@1', join(machine.directory, 'copy'), '--store', store],
      ['verify', '--store', store],
    ]) {
      const got = await within(scene, as, args);
      t.is(got.code, 0, got.stderr);
    }
  },
);

testWith(
  ['root'],
  'a state directory that can not be written: a backup names it and why, a restore does without',
  async (t) => {
    const scene = await world(t);
    const { machine, store, image } = scene;
    const disk = await smallDisk(t, scene, '64k');
    const file = join(machine.directory, 'file');
    await writeFile(file, '');
    const locked = join(machine.directory, 'locked');
    await mkdir(locked);
    await chown(locked, 0, 0);
    const isFlagged = spawnSync('chattr', ['+i', locked]).status === 0;
    t.teardown(() => void spawnSync('chattr', ['-i', locked]));
    t.is(spawnSync('mount', ['-o', 'remount,ro', disk]).status, 0);
    const cases: [string, RegExp][] = [
      [join(disk, 'state'), /read-only file system.*--state/],
      [join(file, 'state'), /\/file, on the path to it, is not a directory/],
      [join(machine.directory, 'x'.repeat(300)), /longer than the file system allows/],
      ...(isFlagged
        ? [[join(locked, 'state'), /\/locked is marked immutable.*chattr -i/] as [string, RegExp]]
        : []),
    ];
    for (const [position, [state, reason]] of cases.entries()) {
      const command = ['--state', state];
      const made = await within(scene, '"$@"', [
        ...command,
        'backup',
        image,
        '--name',
        'disk',
        '--store',
        store,
      ]);
      failsOnce(t, made, reason);
      t.true(made.stderr.includes(state), made.stderr);
      const target = join(machine.directory, `copy-${position}`);
      const restored = await within(scene, '"$@"', [
        ...command,
        'restore',
        'disk@1',
        target,
        '--store',
        store,
      ]);
      t.is(restored.code, 0, restored.stderr);
      t.deepEqual(await readFile(target), await readFile(image));
    }
  },
);

testWith(
  ['root'],
  'a backup without /proc or /sys is refused: nobody would seem to use the device',
  async (t) => {
    const scene = await world(t);
    const args = ['backup', scene.image, '--name', 'disk', '--store', scene.store];
    for (const at of ['/proc', '/sys']) {
      const hidden = `exec unshare -m sh -c 'mount -t tmpfs none ${at} && exec "$@"' sh "$@"`;
      failsOnce(t, await within(scene, hidden, args), new RegExp(`error: ${at}/.*Mount /proc and /sys`));
    }
  },
);
