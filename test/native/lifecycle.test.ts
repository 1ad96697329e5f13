/**
 * What happens to native work when JavaScript goes away: the process ends, a worker is
 * terminated, objects are collected.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { fileURLToPath } from 'node:url';
import test, { type ExecutionContext } from 'ava';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';

interface Ended {
  readonly code: number | null;
  readonly signal: string | null;
  readonly output: string;
  readonly errors: string;
}

async function runChild(
  t: ExecutionContext,
  name: string,
  args: string[],
  flags: string[] = [],
): Promise<Ended> {
  const script = fileURLToPath(new URL(`children/${name}.js`, import.meta.url));
  const directory = await temporaryDirectory(t, 'child');
  const child = spawn(process.execPath, [...flags, script, directory, ...args], {
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: 60_000,
  });
  let output = '';
  let errors = '';
  child.stdout.on('data', (text) => (output += text));
  child.stderr.on('data', (text) => (errors += text));
  const [code, signal] = (await once(child, 'close')) as [number | null, string | null];
  return { code, signal, output, errors };
}

for (const [how, code] of [
  ['exit', 7],
  ['throw', 1],
  ['natural', 0],
] as const) {
  test(`the process ends in the middle of a scan: ${how}`, async (t) => {
    for (let round = 0; round < 3; round += 1) {
      const ended = await runChild(t, 'exit', [how]);
      t.is(ended.signal, null, ended.errors);
      t.is(ended.code, code, ended.errors);
      const progress = JSON.parse(ended.output) as { scannedBytes: number };
      t.true(progress.scannedBytes < 4096 * 65_536, 'it was in the middle');
    }
  });
}

test('the process lasts until what a scan uses is closed, and no longer', async (t) => {
  const ended = await runChild(t, 'close', []);
  t.deepEqual([ended.code, ended.output], [0, 'closed\n'], ended.errors);
});

test('workers that load the addon are terminated in the middle of their scans', async (t) => {
  const ended = await runChild(t, 'worker', []);
  t.deepEqual(
    { ...ended, errors: '' },
    { code: 0, signal: null, output: 'done\n', errors: '' },
    ended.errors,
  );
});

test('dropped objects are collected, those in use are not', async (t) => {
  const ended = await runChild(t, 'collect', [], ['--expose-gc']);
  t.deepEqual(
    { ...ended, errors: '' },
    { code: 0, signal: null, output: 'done\n', errors: '' },
    ended.errors,
  );
});
