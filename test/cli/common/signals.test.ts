/** What a signal does to a running command. */
import { once } from 'node:events';
import { readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_OK, EXIT_SIGNAL } from '../../../src/cli/output/exit-codes.js';
import { startReceiver } from '../../helpers/machines/receiver.js';
import { makeMachine, outcome, runHere, start } from '../../helpers/machines/stillpoint.js';

for (const signal of ['SIGINT', 'SIGTERM'] as const) {
  test(`${signal} ends a restore with its exit code, and says so`, async (t) => {
    const machine = await makeMachine(t);
    const store = join(machine.directory, 'store');
    const image = join(machine.directory, 'disk.img');
    await writeFile(image, 'more than any pipe takes '.repeat(400_000));
    t.is((await runHere(machine, 'backup', image, '--name', 'disk', '--store', store)).code, EXIT_OK);

    const child = start(machine, ['restore', 'disk@1', '-', '--store', store]);
    // Nobody reads further: the restore is under way until it is stopped.
    await once(child.stdout ?? t.fail(), 'readable');
    const stderr: Buffer[] = [];
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    const ended = once(child, 'exit');
    child.kill(signal);
    t.deepEqual(await ended, [EXIT_SIGNAL[signal], null]);
    child.stdout?.destroy();
    t.is(Buffer.concat(stderr).toString(), 'warning: stopped on request\n');
    t.deepEqual((await readdir(machine.directory)).sort(), ['disk.img', 'state', 'store']);
  });
}

test('a receiver that is told to stop ends well', async (t) => {
  const receiver = await startReceiver(t);
  const child = receiver.process;
  if (child === null) return t.fail();
  const ended = outcome(child);
  child.kill('SIGTERM');
  t.is((await ended).code, EXIT_OK);
  t.regex(receiver.log, /receiver closed/);
});
