/** How the command finds the Node that it runs under, whatever the machine has in PATH. */
import { spawnSync } from 'node:child_process';
import { chmod, copyFile, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { tempDir } from '../helpers/disks/temp-dir.js';

const RUNTIME = 'scripts/runtime/package.json';

async function program(path: string, text: string): Promise<void> {
  await writeFile(path, text);
  await chmod(path, 0o755);
}

/** A checkout whose Node prints its arguments, and whether it was told that standard output is closed. */
async function makeCheckout(t: ExecutionContext): Promise<{ checkout: string; command: string }> {
  const checkout = await tempDir(t);
  for (const folder of ['bin', 'elsewhere/links', 'scripts/runtime', 'build/runtime/node_modules/.bin'])
    await mkdir(join(checkout, folder), { recursive: true });
  const command = join(checkout, 'bin/stillpoint.js');
  await copyFile('bin/stillpoint.js', command);
  await copyFile(RUNTIME, join(checkout, RUNTIME));
  await writeFile(join(checkout, 'package.json'), '{ "type": "module" }');
  await program(
    join(checkout, 'build/runtime/node_modules/.bin/node'),
    `#!/bin/sh\necho "own node: $* \${STILLPOINT_CLOSED_OUTPUT:-}" >&2\n`,
  );
  return { checkout, command };
}

function run(command: string, args: readonly string[], env: NodeJS.ProcessEnv): string {
  const { stdout, stderr, status } = spawnSync(command, args, { encoding: 'utf8', env });
  return `${stdout}${stderr}${status}`;
}

test('the command runs under its own Node, whatever PATH has', async (t) => {
  const { checkout, command } = await makeCheckout(t);
  await program(join(checkout, 'elsewhere/node'), '#!/bin/sh\necho "a foreign node" >&2\n');
  for (const PATH of ['', join(checkout, 'elsewhere')]) {
    const output = run(command, ['points', 'two words'], { PATH });
    t.is(output, `own node: ${checkout}/bin/../bin/stillpoint.js points two words \n0`);
  }
});

test('the command runs through links to it', async (t) => {
  const { checkout, command } = await makeCheckout(t);
  await symlink(command, join(checkout, 'elsewhere/links/first'));
  await symlink('first', join(checkout, 'elsewhere/links/second'));
  const output = run(join(checkout, 'elsewhere/links/second'), ['--version'], { PATH: process.env.PATH });
  t.is(output, `own node: ${checkout}/bin/stillpoint.js --version \n0`);
  t.true((await readFile('bin/stillpoint', 'utf8')).startsWith('#!/bin/sh\n'));
});

test('a closed standard output is told, an inherited word of one is not believed', async (t) => {
  const { command } = await makeCheckout(t);
  const env = { PATH: process.env.PATH, STILLPOINT_CLOSED_OUTPUT: '1' };
  for (const shell of ['sh', 'bash']) {
    const call = `${shell} "${command}" points`;
    t.regex(run('sh', ['-c', `${call} >&-`], { PATH: process.env.PATH }), /points 1\n0$/, shell);
    t.regex(run('sh', ['-c', call], env), /points \n0$/, shell);
    t.regex(run('sh', ['-c', `${call} >/dev/null`], env), /points \n0$/, shell);
  }
});

test('without its Node, the command names the remedy', async (t) => {
  const { checkout, command } = await makeCheckout(t);
  const elsewhere = join(checkout, 'elsewhere/bin');
  await mkdir(elsewhere);
  await copyFile(command, join(elsewhere, 'stillpoint.js'));
  const output = run(join(elsewhere, 'stillpoint.js'), ['points'], { PATH: process.env.PATH });
  t.regex(output, /^error: stillpoint: its Node is not installed yet\. Run scripts\/setup in .*\n1$/);
});

test('started by hand under another kind of Node, the command says how to be started', async (t) => {
  const { checkout, command } = await makeCheckout(t);
  t.regex(run(process.execPath, [command], process.env), /it is not built yet/);
  const runtime = await readFile(RUNTIME, 'utf8');
  await writeFile(join(checkout, RUNTIME), runtime.replace(/(node-linux-\w+": ")\d+/g, '$199'));
  const output = run(process.execPath, [command], process.env);
  t.regex(output, /^error: stillpoint: it does not run under Node 2\d\.\S+\. Run bin\/stillpoint\.js itself/);
});

test('the Node of the checkout has one version on all machines', async (t) => {
  const { optionalDependencies } = JSON.parse(await readFile(RUNTIME, 'utf8'));
  t.is(new Set(Object.values(optionalDependencies)).size, 1);
});
