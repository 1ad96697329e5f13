/** `stillpoint config`: what it prints, and where the configuration is. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { EXIT_OK, EXIT_USAGE } from '../../src/cli/output/exit-codes.js';
import { findConfigDirectory } from '../../src/config/config-directory.js';
import { lastResult, makeMachine, runHere } from '../helpers/machines/stillpoint.js';

test('check names all faults, show names the place of each value', async (t) => {
  const machine = await makeMachine(t);
  const config = join(machine.directory, 'etc');
  await mkdir(join(config, 'receiver.d'), { recursive: true });
  const run = (...args: string[]) => runHere(machine, '--config', config, 'config', ...args);
  t.regex((await run('check')).stdout, /^There are no files in /);
  await writeFile(join(config, 'agent.toml'), 'parallel = 2\n[[device]]\npath = "/dev/x"\n');
  await writeFile(join(config, 'receiver.d/a.toml'), '[[schedule]]\nat = "daily"\n');
  t.is((await run('check')).stdout, '2 files, nothing is wrong\n');
  const shown = (await run('show', '--written')).stdout.replaceAll(config, 'DIR');
  t.is(
    shown,
    `# agent: DIR/agent.toml
parallel = 2  # DIR/agent.toml:1
device[0].path = "/dev/x"  # DIR/agent.toml:3
# receiver: DIR/receiver.d/a.toml
schedule[0].at = "daily"  # DIR/receiver.d/a.toml:2
`,
  );
  t.regex((await run('show', 'agent')).stdout, /^device\[0\]\.retries = 5 {2}# preset$/m);
  const draft = join(machine.directory, 'draft.toml');
  await writeFile(draft, 'parallel = 0\n[[device]]\npth = "/dev/x"\n');
  t.is((await run('check', draft)).code, EXIT_USAGE);
  const { code, stdout } = await run('check', draft, '--as', 'agent');
  t.is(code, EXIT_USAGE);
  t.deepEqual(
    stdout
      .replaceAll(draft, 'FILE')
      .split('\n')
      .map((line) => line.split(' ').slice(0, 3).join(' ')),
    ['FILE:1: parallel: it', 'FILE:3: device.pth: there', 'FILE:2: device.path: it', '1 file, 3', ''],
  );
  const json = await run('check', draft, '--as', 'agent', '--json');
  t.like(lastResult(json.stdout), { files: [draft], faultCount: 3 });
  await writeFile(join(config, 'agent.toml'), 'parallel = 0\nstore = 1\n');
  t.regex(
    (await run('show')).stderr,
    /agent\.toml:2: store: .*There is 1 more: see "stillpoint config check"\.\n$/,
  );
  t.is((await run('show', 'everything')).code, EXIT_USAGE);
  t.is((await run('reference')).code, EXIT_OK);
});

test('the state directory that agent.toml names is that of all commands', async (t) => {
  const machine = await makeMachine(t);
  const config = join(machine.directory, 'etc');
  const state = join(machine.directory, 'elsewhere');
  await mkdir(config);
  await writeFile(join(config, 'agent.toml'), `state = "${state}"\n`);
  const { STILLPOINT_STATE: _, ...env } = machine.env;
  const elsewhere = { ...machine, env: { ...env, STILLPOINT_CONFIG: config } };
  const store = lastResult((await runHere(elsewhere, 'receiver', 'init', '--json')).stdout);
  t.like(store, { directory: join(state, 'receiver') });
});

test('where the configuration is', (t) => {
  const at = (choice: { config?: string; state?: string }, environment = {}, userId = 0) =>
    findConfigDirectory({ config: undefined, state: undefined, ...choice }, environment, userId);
  t.is(at({}), '/etc/stillpoint');
  t.is(at({ config: '/c' }, { STILLPOINT_CONFIG: '/d' }), '/c');
  t.is(at({}, { STILLPOINT_CONFIG: '/d' }), '/d');
  t.is(at({ state: '/s' }), '/s/config', 'never the one of the machine');
  t.is(at({ state: '/var/lib/stillpoint' }), '/etc/stillpoint');
  t.is(at({}, { STILLPOINT_STATE: '/s' }), '/s/config');
  t.is(at({}, { HOME: '/h' }, 1000), '/h/.config/stillpoint');
  t.is(at({}, { HOME: '/h', XDG_CONFIG_HOME: '/x' }, 1000), '/x/stillpoint');
});
