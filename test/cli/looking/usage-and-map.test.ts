/** `usage` and `map`: what people and programs see of a store, in a directory and over the network. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { Usage } from '../../../src/cli/commands/looking/usage-view.js';
import { EXIT_OK, EXIT_USAGE } from '../../../src/cli/output/exit-codes.js';
import { gptHead } from '../../helpers/disks/partition-tables.js';
import { lastResult, type Machine, makeMachine, runHere } from '../../helpers/machines/stillpoint.js';

const BLOCK = 4096;
const BLOCKS = 400;
/** In the first blocks: the table. */
const HEAD = gptHead(512, [
  [80, 1599, 'first'],
  [1600, 3199, 'second'],
]);

function image(filled: Readonly<Record<number, string>>): Buffer {
  const bytes = Buffer.alloc(BLOCKS * BLOCK);
  HEAD.copy(bytes);
  for (const [block, text] of Object.entries(filled))
    bytes.fill(text, Number(block) * BLOCK, (Number(block) + 1) * BLOCK);
  return bytes;
}

async function run(t: ExecutionContext, machine: Machine, ...args: string[]): Promise<string> {
  const { code, stdout, stderr } = await runHere(machine, ...args);
  t.is(code, EXIT_OK, stderr);
  return stdout;
}

interface Region {
  readonly event: string;
  readonly byteOffset: number;
  readonly byteLength: number;
  readonly contentBytes: number;
  readonly changedBytes: number;
  readonly zeroedBytes: number;
  readonly changedTimes: number;
}

const regionsOf = (stdout: string): Region[] =>
  stdout
    .trimEnd()
    .split('\n')
    .map((line) => JSON.parse(line) as Region)
    .filter(({ event }) => event === 'region');

test('usage and map of a directory', async (t) => {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const back = async (name: string, filled: Readonly<Record<number, string>>) => {
    const path = join(machine.directory, `${name}.img`);
    await writeFile(path, image(filled));
    await run(t, machine, 'backup', path, '--name', name, '--block-size', '4K', '--store', store);
  };
  await back('disk', { 100: 'a', 101: 'b', 300: 'c' });
  await back('other', { 100: 'a' });
  await back('disk', { 100: 'a', 101: 'x', 200: 'd' });
  await back('disk', { 100: 'a', 101: 'y', 200: 'd' });

  const text = await run(t, machine, 'usage', '--exact', '--store', store);
  t.regex(
    text,
    /^DEVICE +POINTS +SIZE +AS IMAGES +ADDED +PER WEEK +UNIQUE\nlocal\/disk +3 +1.56 MiB +4.69 MiB/,
  );
  t.regex(text, /\nlocal\/other +1 .*\nall +4 /);
  t.regex(text, /\nNeeded by agent local alone: .*\nNeeded by several agents: 0 B\n/);
  t.regex(text, /\nTime left: unknown, as there are too few points or they are of less than 7 days\n$/);
  const whole = lastResult<Usage>(await run(t, machine, 'usage', '--exact', '--json', '--store', store));
  const { needed, store: sizes } = whole;
  const unique = (needed?.devices ?? []).reduce((sum, device) => sum + device.unique.bytes, 0);
  t.is(unique + (needed?.agents[0]?.shared.bytes ?? 0), needed?.total.bytes ?? -1);
  t.true((needed?.total.bytes ?? 0) > 0 && (needed?.total.bytes ?? 0) < (sizes?.packBytes ?? 0));
  t.is(sizes?.daysLeft, null);
  const one = lastResult<Usage>(await run(t, machine, 'usage', 'other', '--json', '--store', store));
  t.deepEqual([one.devices.map(({ device }) => device), one.needed], [['other'], null]);
  const added = one.growth.periods.reduce(
    (sum, { firstBytes, addedBytes }) => sum + firstBytes + addedBytes,
    0,
  );
  t.is(added, one.devices[0]?.addedBytes ?? -1);
  const unknown = await runHere(machine, 'usage', 'nobody', '--store', store);
  t.regex(unknown.stderr, /nobody: no agent or device .* local\/disk, local\/other/);

  // One row of a picture of a device without a terminal: 80 columns, no color, the locale's characters.
  const ascii = { ...machine, env: { ...machine.env, LC_ALL: 'C' } };
  const utf8 = { ...machine, env: { ...machine.env, LC_ALL: 'de_DE.UTF-8' } };
  const picture = (await run(t, ascii, 'map', 'disk', '--store', store)).split('\n');
  t.is(picture[0], ' OFFSET  one character: 4 KiB');
  t.is(picture[1], `      0  #${'.'.repeat(47)}  < 1`);
  t.is(picture[3], ` 393216  ....#*${'.'.repeat(42)}`);
  t.regex(picture.join('\n'), /\n +786432 .*\n/);
  t.regex(
    picture.join('\n'),
    /\n +1 +40960 +760 KiB +first\n +2 +819200 +800 KiB +second\ndisk@3: 1.56 MiB, /,
  );
  t.true(picture.every((line) => line.length <= 100 && !line.includes('\x1b')));
  t.regex(await run(t, utf8, 'map', 'disk@2', '--store', store), /▓◆·.*\n[\s\S]*◇[\s\S]*became zeros/);

  const json = await run(t, machine, 'map', 'disk@2', '--check', '--json', '--store', store);
  const regions = regionsOf(json);
  const total = lastResult<Record<string, number>>(json);
  const sum = (of: (region: Region) => number) => regions.reduce((bytes, region) => bytes + of(region), 0);
  t.is(
    sum(({ contentBytes }) => contentBytes),
    total.contentBytes ?? -1,
  );
  t.deepEqual(
    regions.filter(({ changedBytes }) => changedBytes > 0).map(({ byteOffset }) => byteOffset / BLOCK),
    [101, 200, 300],
  );
  t.is(total.changedBytes, 3 * BLOCK);
  t.is(total.zeroedBytes, BLOCK);
  t.is(total.lostBytes, 0);

  const heat = regionsOf(await run(t, machine, 'map', 'disk', '--over', '1d', '--json', '--store', store));
  t.deepEqual(
    heat.map(({ byteOffset, changedTimes }) => [byteOffset / BLOCK, changedTimes]),
    [
      [101, 2],
      [200, 1],
      [300, 1],
    ],
  );
  const coarse = regionsOf(
    await run(t, machine, 'map', 'disk', '--over', '1d', '--cells', '4', '--json', '--store', store),
  );
  t.deepEqual(
    coarse.map(({ changedTimes }) => changedTimes),
    [2, 1, 1],
  );
  t.regex(
    await run(t, machine, 'map', 'disk', '--over', '1d', '--store', store),
    /disk@1 to disk@3, in 1 d 00 h: 16 KiB changed in 2 intervals between points\n$/,
  );
  const alone = await runHere(machine, 'map', 'other', '--over', '1d', '--store', store);
  t.regex(alone.stderr, /no point that comes after another one/);
  t.is((await runHere(machine, 'map', 'disk', '--over', '1d', '--check', '--store', store)).code, EXIT_USAGE);
});
