/**
 * The commands about retention, on a directory without a running receiver: what they print, refuse and
 * leave.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import {
  EXIT_DAMAGED,
  EXIT_FAILED,
  EXIT_OK,
  EXIT_USAGE,
  EXIT_WARNINGS,
} from '../../src/cli/output/exit-codes.js';
import type { Point } from '../../src/domain/point/point.js';
import { encodeSealed } from '../../src/store/disk/sealed-text.js';
import { lastResult, type Machine, makeMachine, runHere } from '../helpers/machines/stillpoint.js';

interface World {
  readonly machine: Machine;
  readonly store: string;
  /** On the store; requires the exit code. @returns standard output, or standard error of a failure */
  readonly does: (code: number, ...args: string[]) => Promise<string>;
  readonly backUp: () => Promise<{ point: Point; stderr: string }>;
}

async function makeWorld(t: ExecutionContext): Promise<World> {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'disk.img');
  let count = 0;
  return {
    machine,
    store,
    does: async (code, ...args) => {
      const result = await runHere(machine, ...args, '--store', store);
      t.is(result.code, code, `${args.join(' ')}: ${result.stdout}${result.stderr}`);
      return code === EXIT_OK ? result.stdout : result.stderr;
    },
    backUp: async () => {
      count += 1;
      await writeFile(image, Buffer.alloc(70_000, `stillpoint ${count}`));
      const args = ['backup', image, '--name', 'data', '--store', store, '--json'];
      const result = await runHere(machine, ...args);
      if (result.code !== EXIT_OK) throw new Error(result.stdout + result.stderr);
      return { point: lastResult<{ point: Point }>(result.stdout).point, stderr: result.stdout };
    },
  };
}

test('the time of journals is set, shown and cleared', async (t) => {
  const { does, backUp } = await makeWorld(t);
  await backUp();
  t.regex(
    await does(EXIT_OK, 'retention', 'set', '--device', 'web1/data', '--journal-keep', '2w'),
    /^Journals are kept for:\n {2}all others: 1d\n {2}web1\/data: 14d$/m,
  );
  t.regex(
    await does(EXIT_OK, 'retention', 'set', '--journal-keep', '36h', '--keep-daily', '7'),
    /^ {2}all others: keep-daily 7\nJournals are kept for:\n {2}all others: 36h\n {2}web1\/data: 14d$/m,
  );
  t.regex(
    await does(EXIT_OK, 'retention', 'set', '--clear'),
    /^No policy is set: everything is kept\.\nJournals are kept for:\n {2}all others: 1d\n {2}web1\/data: 14d$/m,
  );
  t.notRegex(await does(EXIT_OK, 'retention', 'set', '--device', 'web1/data', '--clear'), /Journals/);
});

test('a policy is set, shown, tried and carried out', async (t) => {
  const { machine, store, does, backUp } = await makeWorld(t);
  for (let n = 0; n < 4; n += 1) await backUp();
  t.regex(
    await does(EXIT_OK, 'prune'),
    /^0 points removed, 4 stay\.\nNo policy is set, so everything is kept\./,
  );
  t.regex(
    await does(EXIT_OK, 'retention', 'show'),
    /^No policy is set: everything is kept\.\nMinimum age: none\n$/,
  );
  await does(
    EXIT_OK,
    'retention',
    'set',
    '--keep-last',
    '2',
    '--keep-within',
    '1h',
    '--time-zone',
    'Asia/Tokyo',
  );
  await does(EXIT_OK, 'retention', 'set', '--device', 'web1/data', '--keep-all');
  await does(EXIT_OK, 'retention', 'set', '--agent', 'db1', '--keep-yearly', '3');
  const shown = await does(EXIT_OK, 'retention', 'show');
  t.is(
    shown,
    'Kept is what one of the rules keeps:\n' +
      '  all others: keep-last 2, keep-within 1h\n' +
      '  agent db1: keep-yearly 3\n' +
      '  web1/data: keep-all\n' +
      'Time zone: Asia/Tokyo\nMinimum age: none\n',
  );
  t.regex(await does(EXIT_OK, 'prune', '--dry-run'), /^4 points would stay, 0 would go\.$/m);
  await does(EXIT_OK, 'retention', 'set', '--keep-last', '2');
  const alone = await runHere(machine, 'retention', 'set', '--keep-last', '2', '--store', store);
  t.regex(alone.stderr, /^keep-last alone counts points: /);
  await does(EXIT_OK, 'retention', 'set', '--agent', 'db1', '--clear');
  const table = await does(EXIT_OK, 'prune', '--dry-run');
  t.regex(table, /^POINT +COMMITTED +AGE +WHY$/m);
  t.regex(table, /^data@1 .* goes +keep-last 2: there are 2 later ones$/m);
  t.regex(table, /^data@3 .* stays +keep-last 2: number 2 of the last ones$/m);
  t.regex(
    table,
    /^data@4 .* stays +keep-last 2: number 1 of the last ones; it is the last point of its device$/m,
  );
  t.regex(table, /^2 points would stay, 2 would go\.$/m);
  const pinned = await does(EXIT_OK, 'pin', 'data@1', '--reason', 'before the move', '--until', '2099-01-31');
  t.regex(pinned, /^data@1: pinned until 20(99-01-31|99-02-01) /);
  const plan = lastResult<{ points: { sequence: number; stays: boolean; reasons: { rule: string }[] }[] }>(
    await does(EXIT_OK, 'prune', 'data', '--dry-run', '--json'),
  );
  t.deepEqual(
    plan.points.map(({ stays }) => stays),
    [true, false, true, true],
  );
  t.like(plan.points[0]?.reasons, [{ rule: 'pin' }]);
  t.is(
    await does(EXIT_OK, 'prune'),
    'data@2: removed: keep-last 2: there are 2 later ones\n1 point removed, 3 stay.\n',
  );
  const listed = await does(EXIT_OK, 'points');
  t.regex(listed, /^data@1: pinned until .*: before the move$/m);
  t.notRegex(listed, /data@2/);
  t.like(lastResult<{ pins: object[] }>(await does(EXIT_OK, 'points', '--json')).pins, [
    { reason: 'before the move' },
  ]);
  t.regex(
    await does(EXIT_OK, 'retention', 'show'),
    /^PINNED +UNTIL +REASON\ndata@1 +2099.* +before the move$/m,
  );
  await does(EXIT_OK, 'unpin', 'data@1');
  t.regex(await does(EXIT_OK, 'prune'), /^data@1: removed: .*\n1 point removed, 2 stay\.\n$/);
});

test('what a removed point needed is freed by a collection; a receiver has it all in its audit log', async (t) => {
  const { machine, store, does, backUp } = await makeWorld(t);
  for (let n = 0; n < 3; n += 1) await backUp();
  await runHere(machine, 'receiver', 'init', store, '--listen', '127.0.0.1:0');
  t.regex(await does(EXIT_OK, 'collect', '--dry-run'), / 0 B of that needed by nobody\na .* free 0 B\n$/);
  await does(EXIT_OK, 'pin', 'data@2', '--reason', 'a test');
  await does(EXIT_OK, 'forget', 'data@1');
  t.notRegex(await does(EXIT_OK, 'collect', '--dry-run'), /would free 0 B/);
  t.regex(await does(EXIT_OK, 'collect'), /freed: [1-9] packs? removed/);
  t.regex(await does(EXIT_OK, 'collect'), /^0 B freed: 0 packs removed/m);
  const audit = await does(EXIT_OK, 'receiver', 'audit');
  for (const act of [
    /pin: local, data, point data@2/,
    /point-removed: local, data, point data@1/,
    /collect: /,
  ])
    t.regex(audit, act);
  t.is((await does(EXIT_OK, 'verify')).includes('damaged'), false);
});

test('refusals say why, and have exit codes', async (t) => {
  const { machine, does, backUp, store } = await makeWorld(t);
  for (let n = 0; n < 2; n += 1) await backUp();
  const refusals: readonly (readonly [number, RegExp, ...string[]])[] = [
    [EXIT_USAGE, /it is not said what/, 'forget'],
    [EXIT_USAGE, /it is given points and --device/, 'forget', 'data@1', '--device', 'data'],
    [EXIT_FAILED, /last point of its device, and the next backup builds on it/, 'forget', 'data@2'],
    [EXIT_FAILED, /there is no point of that number/, 'forget', 'data@9'],
    [EXIT_FAILED, /device local\/none: the store has no point of it/, 'forget', '--device', 'none'],
    [EXIT_USAGE, /it is not said what is to be kept/, 'retention', 'set'],
    [EXIT_USAGE, /keep-all is given with rules/, 'retention', 'set', '--keep-all', '--keep-last', '3'],
    [EXIT_USAGE, /it is given with rules/, 'retention', 'set', '--clear', '--keep-last', '3'],
    [EXIT_USAGE, /not a number from 1/, 'retention', 'set', '--keep-last', '0'],
    [EXIT_USAGE, /it is not a period/, 'retention', 'set', '--keep-within', 'long'],
    [EXIT_USAGE, /for all of the store/, 'retention', 'set', '--agent', 'a', '--min-age', '3d'],
    [EXIT_USAGE, /time zone "Mars\/Base": it is not known/, 'retention', 'set', '--time-zone', 'Mars/Base'],
    [EXIT_USAGE, /its settings are whole/, 'retention', 'reset'],
    [EXIT_USAGE, /not pinned/, 'unpin', 'data@1'],
    [EXIT_USAGE, /--reason/, 'pin', 'data@1'],
    [EXIT_USAGE, /its end is in the past/, 'pin', 'data@1', '--reason', 'x', '--until', '2020-01-01'],
    [EXIT_USAGE, /it is not a time/, 'pin', 'data@1', '--reason', 'x', '--until', 'soon'],
  ];
  for (const [code, reason, ...args] of refusals) t.regex(await does(code, ...args), reason, args.join(' '));
  for (const args of [
    ['prune'],
    ['forget', 'data@1'],
    ['pin', 'data@1', '--reason', 'x'],
    ['retention', 'show'],
  ]) {
    const { code, stderr } = await runHere(machine, ...args, '--store', 'https://backup.example.net:8440');
    t.is(code, EXIT_USAGE);
    t.regex(
      stderr,
      /an agent can neither remove points nor say what is kept, .* Run the command on the receiver's machine/,
    );
  }
  await does(EXIT_OK, 'retention', 'set', '--min-age', '7d');
  t.regex(await does(EXIT_FAILED, 'forget', 'data@1'), /younger than the minimum age of 7d/);
  t.regex(await does(EXIT_OK, 'retention', 'set', '--min-age', '0d'), /^Minimum age: 7d, from .* on none$/m);
  t.regex(await does(EXIT_FAILED, 'forget', '--device', 'data'), /younger than the minimum age of 7d/);

  // The clock was set forward by a year since it was looked at: as if it had been a year ago.
  const reading = { wallMs: Date.now() - 365 * 86_400_000, upMs: 0, bootId: 'another' };
  const clock = { anchor: reading, latestMs: reading.wallMs };
  await writeFile(join(store, 'retention/clock'), encodeSealed('stillpoint-clock', clock));
  await does(EXIT_OK, 'retention', 'set', '--keep-daily', '1');
  t.regex(
    await does(EXIT_WARNINGS, 'prune'),
    /^warning: the clock is not believed, so no point goes by its time/m,
  );
  t.regex(await does(EXIT_OK, 'retention', 'show'), /The clock is not believed/);
  t.notRegex(await does(EXIT_OK, 'retention', 'confirm-clock'), /not believed/);
  await does(EXIT_OK, 'prune');

  for (const name of ['settings', 'settings-copy']) await writeFile(join(store, 'retention', name), 'rotten');
  const lost = await runHere(machine, 'retention', 'show', '--store', store);
  t.is(lost.code, EXIT_DAMAGED);
  t.regex(lost.stdout, /^Policies, minimum age and pins are lost: .*\n +Nothing is removed until/);
  t.regex(await does(EXIT_DAMAGED, 'forget', 'data@1'), /so nothing is removed/);
  await does(EXIT_OK, 'retention', 'reset');
  t.is(await does(EXIT_OK, 'forget', 'data@1'), 'data@1: removed\n1 point removed.\n');
});

test('after a device was forgotten its backup begins anew, and an older copy of the store does not', async (t) => {
  const { does, backUp, store } = await makeWorld(t);
  for (let n = 0; n < 2; n += 1) await backUp();
  t.is(
    await does(EXIT_OK, 'forget', '--device', 'data'),
    'data@1: removed\ndata@2: removed\n2 points removed.\n',
  );
  t.regex(await does(EXIT_OK, 'points'), /^There are no points\./);
  const third = await backUp();
  t.like(third.point, { sequence: 3, baseSequence: null, warnings: [] });
  t.regex(
    third.stderr,
    /data@2 was removed at the receiver on purpose, .*\(the operator forgot its device\); this backup begins anew/,
  );
  const { point } = await backUp();
  t.is(point.baseSequence, 3);
  // Points that are gone without a mark were lost.
  for (const folder of ['points', 'points-copy'])
    await rm(join(store, folder, 'local/data'), { recursive: true });
  await t.throwsAsync(backUp(), {
    message: /was acknowledged, and the store has no point of the device now/,
  });
});

test('the commands of the document are commands', async (t) => {
  const { does, backUp } = await makeWorld(t);
  for (let n = 0; n < 3; n += 1) await backUp();
  const text = await readFile('docs/retention.md', 'utf8');
  const commands = [...text.matchAll(/^stillpoint (.+?) --store \/srv\/stillpoint/gm)].map(
    ([, command = '']) => command,
  );
  t.true(commands.length >= 13);
  for (const command of commands) {
    const args = [...command.matchAll(/"([^"]+)"|(\S+)/g)].map(([, quoted, plain]) => quoted ?? plain ?? '');
    // The prune before has left one.
    const own = args.map((arg) => arg.replace(/^web1\/data@1[78]$/, 'data@3'));
    const isLocked = own[0] === 'forget';
    const said = await does(isLocked ? EXIT_FAILED : EXIT_OK, ...own);
    if (isLocked) t.regex(said, /minimum age|store has no point/, command);
  }
});
