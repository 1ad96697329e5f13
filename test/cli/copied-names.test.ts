/** What a command prints of points can be given back to it. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_OK, makeMachine, runExpecting } from '../helpers/machines/stillpoint.js';

test('a time copied from the list of points names the point that it was copied from', async (t) => {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  const image = join(machine.directory, 'a.img');
  // Fast enough for two within a second, which are then listed to the millisecond; any other
  // number of them is as good.
  for (const version of ['one', 'two', 'three']) {
    await writeFile(image, version);
    await runExpecting(t, machine, EXIT_OK, 'backup', image, '--name', 'a', '--store', store, '--quiet');
  }
  const { stdout } = await runExpecting(t, machine, EXIT_OK, 'points', '--store', store);
  const rows = stdout.split('\n').filter((line) => line.startsWith('a@'));
  t.is(rows.length, 3);
  for (const [at, row] of rows.entries()) {
    const [label = '', day = '', clock = ''] = row.split(/ +/);
    for (const name of [label, `a@${day} ${clock}`]) {
      const target = join(machine.directory, `${at}.img`);
      await runExpecting(t, machine, EXIT_OK, 'restore', name, target, '--store', store, '--overwrite');
      t.is(await readFile(target, 'utf8'), ['one', 'two', 'three'][at] ?? '', name);
    }
  }
});

test('images whose names differ in letters that a name can not hold are two devices', async (t) => {
  const machine = await makeMachine(t);
  const store = join(machine.directory, 'store');
  for (const name of ['\u65e5\u672c.img', '\u4e2d\u56fd.img']) {
    await writeFile(join(machine.directory, name), name);
    await runExpecting(t, machine, EXIT_OK, 'backup', join(machine.directory, name), '--store', store);
  }
  const { stdout } = await runExpecting(t, machine, EXIT_OK, 'points', '--store', store);
  t.is(stdout.split('\n').filter((line) => line.includes('@1 ')).length, 2);
});
