/** Group points on the command line: listed, restored, pinned and forgotten; other commands refuse them. */
import { readFile, stat } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { targetsOf } from '../../../src/cli/commands/restore/group.js';
import { exitCodeOf } from '../../../src/cli/commands/restore/told.js';
import {
  EXIT_FAILED,
  EXIT_INCOMPLETE,
  EXIT_OK,
  EXIT_USAGE,
  EXIT_WARNINGS,
} from '../../../src/cli/output/exit-codes.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { KiB } from '../../../src/domain/base/limits.js';
import { groupPoints } from '../../../src/domain/point/group.js';
import { type Point, pointLabel } from '../../../src/domain/point/point.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { makePoint } from '../../helpers/bytes/points.js';
import { backUpGroup } from '../../helpers/groups/store-groups.js';
import { lastResult, type Machine, makeMachine, runHere } from '../../helpers/machines/stillpoint.js';
import { backUp, change, type DeviceState, emptyState } from '../../helpers/worlds/store-device.js';

const BLOCK = 64 * KiB;
const EMPTY = emptyState({ sizeBytes: 10 * BLOCK, blockSize: BLOCK });
const stateOf = (n: number) => change(EMPTY, [[n, 10 + n]]);

interface World {
  readonly machine: Machine;
  at(name: string): string;
  /** On the store; requires the exit code. @returns standard output, or standard error of a failure */
  does(code: number, ...args: string[]): Promise<string>;
}

/** db@1 and db@2 of data and wal; then data@3 and wal@3 alone. */
async function makeWorld(t: ExecutionContext): Promise<World> {
  const machine = await makeMachine(t);
  const dir = join(machine.directory, 'store');
  await createStore(dir);
  const store = await openStore(dir);
  const members = (before: number | null, after: number) =>
    ['data', 'wal'].map((device, i) => ({
      ...{ device, before: before === null ? null : stateOf(before + i), after: stateOf(after + i) },
    }));
  await backUpGroup(store, 'db', members(null, 1));
  await backUpGroup(store, 'db', members(1, 3));
  await backUp(store, 'data', stateOf(3), stateOf(6));
  await backUp(store, 'wal', stateOf(4), stateOf(6));
  await store.close();
  return {
    machine,
    at: (name) => join(machine.directory, name),
    does: async (code, ...args) => {
      const result = await runHere(machine, ...args, '--store', dir);
      t.is(result.code, code, `${args.join(' ')}: ${result.stdout}${result.stderr}`);
      return code === EXIT_OK ? result.stdout : result.stderr;
    },
  };
}

const imageOf = ({ blocks }: DeviceState): Buffer => {
  const bytes = Buffer.alloc(10 * BLOCK);
  for (const [index, block] of blocks) block.copy(bytes, index * BLOCK);
  return bytes;
};

test('points lists group points after the points, also by their name', async (t) => {
  const { does } = await makeWorld(t);
  const all = await does(EXIT_OK, 'points');
  t.regex(
    all,
    /alpha\/wal@3 [\s\S]*GROUP POINT +INSTANT +KIND +MEMBERS +MISSING +ID\nalpha\/db@1 .* data@1, wal@1 +- /,
  );
  const ofGroup = lastResult<{
    points: Point[];
    groups: { name: string; sequence: number; points: string[] }[];
  }>(await does(EXIT_OK, 'points', 'alpha/db', '--json'));
  t.deepEqual(ofGroup.points.map(pointLabel), ['data@1', 'data@2', 'wal@1', 'wal@2']);
  t.deepEqual(
    ofGroup.groups.map(({ name, sequence, points }) => [name, sequence, points.length]),
    [
      ['db', 1, 2],
      ['db', 2, 2],
    ],
  );
  const ofDevice = await does(EXIT_OK, 'points', 'data');
  t.notRegex(ofDevice, /^alpha\/wal@/m);
  t.regex(ofDevice, /alpha\/db@2 /);
  await does(EXIT_OK, 'forget', '--device', 'alpha/wal');
  const broken = await does(EXIT_OK, 'points');
  t.regex(broken, /alpha\/db@1: not whole any more: of 2 points only alpha\/data@1 is left/);
  t.notRegex(broken, /GROUP POINT/);
});

test('restore writes all points of a group point, each to its target', async (t) => {
  const { does, at } = await makeWorld(t);
  const said = await does(EXIT_OK, 'restore', 'db@1', `data=${at('d.img')}`, `alpha/wal=${at('w.img')}`);
  t.regex(said, /alpha\/data@1 of .*\nalpha\/wal@1 of .*\nGroup point alpha\/db@1 of .* restored: 2 points/);
  t.true(imageOf(stateOf(1)).equals(await readFile(at('d.img'))));
  t.true(imageOf(stateOf(2)).equals(await readFile(at('w.img'))));
  const targets = [`data=${at('d.img')}`, `wal=${at('w.img')}`];
  t.regex(
    await does(EXIT_USAGE, 'restore', 'alpha/db@latest', ...targets),
    /d\.img: it exists and is not empty/,
  );
  const json = await does(EXIT_OK, 'restore', 'db@latest', ...targets, '--overwrite', '--verify', '--json');
  const result = lastResult<{
    group: { sequence: number };
    restores: { point: Point; isComplete: boolean }[];
  }>(json);
  t.is(result.group.sequence, 2);
  t.deepEqual(
    result.restores.map(({ point, isComplete }) => [pointLabel(point), isComplete]),
    [
      ['data@2', true],
      ['wal@2', true],
    ],
  );
  t.true(imageOf(stateOf(4)).equals(await readFile(at('w.img'))));
  await t.throwsAsync(stat(at('w.img.stillpoint-partial')));
});

test('restore refuses targets that do not fit', async (t) => {
  const { does, at } = await makeWorld(t);
  const same = [`data=${at('x.img')}`, `wal=${at('x.img')}`];
  t.regex(await does(EXIT_USAGE, 'restore', 'db@1', ...same), /they are the same, so one would overwrite/);
  t.regex(
    await does(EXIT_USAGE, 'restore', 'db@1', at('x.img')),
    /does not say which of its 2 points goes where/,
  );
  t.regex(
    await does(EXIT_USAGE, 'restore', 'data@1', at('x.img'), at('y.img')),
    /it is one point, and 2 targets/,
  );
  t.regex(await does(EXIT_USAGE, 'restore', 'db@1', '-'), /does not say which/);
  await does(EXIT_OK, 'restore', 'data@1', at('a=b.img'));
  t.true(imageOf(stateOf(1)).equals(await readFile(at('a=b.img'))));
  const unknown = await does(EXIT_FAILED, 'restore', 'nothing@1', at('x.img'));
  t.regex(unknown, /Devices with points: alpha\/data, alpha\/wal\. Groups: alpha\/db\./);
  await t.throwsAsync(stat(at('x.img')));
});

test('each NAME is a device of the group point, and each device has a target', (t) => {
  const group = { id: 'a'.repeat(32), name: 'db', sequence: 3, memberCount: 2 };
  const made = (device: string) => makePoint({ device, id: device.padEnd(32, '0'), group });
  const [whole] = groupPoints([made('data'), made('wal')]);
  if (whole === undefined) throw new Error('it is whole');
  const refusal = (...texts: string[]) => {
    const error = t.throws(() => targetsOf(whole, texts, null), { instanceOf: StillpointError });
    t.is(error?.code, 'usage');
    return error?.message ?? '';
  };
  t.deepEqual(
    targetsOf(whole, ['wal=/dev/b', 'local/data=/a=b'], null).map(({ point, target }) => [
      point.device,
      target,
    ]),
    [
      ['data', '/a=b'],
      ['wal', '/dev/b'],
    ],
  );
  t.is(
    refusal('data=/dev/a'),
    'group point db@3: wal has no target. Write data=TARGET wal=TARGET. To restore only one of its points, name that, such as data@1.',
  );
  t.regex(
    refusal('data=/dev/a', 'wal=/dev/b', 'etc=/c', 'opt=/d'),
    /it has no point of etc and opt\. Its devices/,
  );
  t.regex(refusal('data=/dev/a', 'data=/dev/b'), /data has two targets/);
  t.regex(refusal('data=-', 'wal=/dev/b'), /data can't go to standard output/);
  t.regex(refusal('data='), /"data=" does not say/);
});

test('a group point is pinned, unpinned and forgotten as a whole', async (t) => {
  const { does } = await makeWorld(t);
  t.regex(
    await does(EXIT_OK, 'pin', 'db@1', '--reason', 'the move'),
    /^alpha\/db@1 \(alpha\/data@1, alpha\/wal@1\): pinned/,
  );
  t.regex(await does(EXIT_OK, 'points'), /alpha\/data@1: pinned: the move\nalpha\/wal@1: pinned: the move/);
  t.regex(await does(EXIT_FAILED, 'forget', 'db@1'), /pinned: the move/);
  await does(EXIT_OK, 'unpin', 'alpha/wal@1');
  await does(EXIT_OK, 'unpin', 'db@1');
  t.regex(await does(EXIT_USAGE, 'unpin', 'db@1'), /it is not pinned/);
  t.regex(await does(EXIT_FAILED, 'forget', 'data@1'), /belongs to the group point .*db@1/);
  const forgotten = await does(EXIT_OK, 'forget', 'db@1');
  t.regex(forgotten, /^alpha\/data@1: removed\nalpha\/wal@1: removed\n2 points removed\.\n$/);
  const device = await does(EXIT_OK, 'forget', '--device', 'alpha/wal');
  t.regex(device, /alpha\/db@2: not whole any more; alpha\/data@2 stays as a point of its own\n$/);
});

test('commands that take one point refuse a group point, and name its points', async (t) => {
  const { does } = await makeWorld(t);
  const remedy =
    /group point alpha\/db@1: it is 2 points, and one is needed\. Name one of its points: alpha\/data@1/;
  t.regex(await does(EXIT_USAGE, 'verify', 'db@1'), remedy);
  t.regex(await does(EXIT_USAGE, 'verify', 'db'), /group point alpha\/db@2: it is 2 points/);
  t.regex(await does(EXIT_USAGE, 'diff', 'db@1', 'data@2'), remedy);
  t.regex(await does(EXIT_USAGE, 'map', 'db@1'), remedy);
  t.regex(await does(EXIT_FAILED, 'verify', 'nothing@1'), /Groups: alpha\/db\./);
});

test('the exit code is that of the worst member', (t) => {
  const result = {
    ...{ writtenBytes: 1, readBytes: 0, differingBytes: null, wireBytes: 0, isVerified: false },
    ...{ lostRanges: [], warnings: [] },
  };
  const warned = { ...result, warnings: ['partitions were not read again'] };
  const lost = { ...warned, lostRanges: [{ byteOffset: 0, byteLength: 512 }] };
  t.is(exitCodeOf([result, result]), EXIT_OK);
  t.is(exitCodeOf([result, warned]), EXIT_WARNINGS);
  t.is(exitCodeOf([lost, result, warned]), EXIT_INCOMPLETE);
});
