/** What a user's set-up builds of the native code, and what one for tests builds besides. */
import { execFile } from 'node:child_process';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import test from 'ava';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';

const execute = promisify(execFile);
const PROGRAMS = ['nbd_load', 'nbd_serve', 'tap_kills'];

test('programs for tests are built only where they were asked for, and from then on', async (t) => {
  const build = await temporaryDirectory(t, 'native');
  const programsAfter = async (...settings: string[]): Promise<string[]> => {
    await execute('cmake', ['-S', 'native', '-B', build, ...settings]);
    const { stdout } = await execute('cmake', ['--build', build, '--target', 'help']);
    const targets = new Set(stdout.match(/[\w-]+/g));
    t.true(targets.has('stillpoint-freezer'));
    return PROGRAMS.filter((name) => targets.has(name));
  };
  t.deepEqual(await programsAfter(), []);
  t.deepEqual(await programsAfter('-DSTILLPOINT_TEST_PROGRAMS=ON'), PROGRAMS);
  // As "npm run build:native" does: a test must not run a program that is older than the core.
  t.deepEqual(await programsAfter(), PROGRAMS);
});

test("with the core's tests, the core is compiled as without them: nothing is compiled twice", async (t) => {
  const build = await temporaryDirectory(t, 'native');
  const compiledWith = async (tests: 'ON' | 'OFF') => {
    const settings = ['-DCMAKE_EXPORT_COMPILE_COMMANDS=ON', `-DSTILLPOINT_TESTS=${tests}`];
    await execute('cmake', ['-S', 'native', '-B', build, ...settings]);
    const commands = JSON.parse(await readFile(join(build, 'compile_commands.json'), 'utf8')) as {
      file: string;
      command: string;
    }[];
    return commands.filter(({ file }) => file.includes('/native/core/'));
  };
  const without = await compiledWith('OFF');
  t.true(without.length > 30);
  t.deepEqual(await compiledWith('ON'), without);
});
