/** `stillpoint config`: what it prints, and where the configuration is. */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { writeMemory } from '../../src/agent/daemon/state.js';
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE } from '../../src/cli/output/exit-codes.js';
import { findConfigDirectory } from '../../src/config/config-directory.js';
import { newRecord } from '../../src/domain/order/run-plan.js';
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

test('a receiver that a configuration names: its settings are there, and only there', async (t) => {
  const machine = await makeMachine(t);
  const dir = join(machine.directory, 'r');
  const config = join(machine.stateDirectory, 'config');
  const receiver = (...args: string[]) => runHere(machine, 'receiver', ...args);
  t.is((await receiver('init', dir, '--keep-partial', '3d')).code, EXIT_OK);
  t.is((await receiver('schedule', 'set', '--at', '02:00', '--store', dir)).code, EXIT_OK);
  const shown = async () => (await receiver('schedule', 'show', '--store', dir)).stdout.split('\n')[0];
  t.is(await shown(), 'default: rounds begin at 02:00, 1 at once, of all agents and groups');
  await mkdir(config);
  await writeFile(join(config, 'receiver.toml'), `store = "${dir}"\nlisten = "127.0.0.1:8449"\n`);
  t.is(await shown(), 'default: rounds begin at 02:00, 1 at once, of all agents and groups');
  t.is((await receiver('schedule', 'set', '--every', '6h')).code, EXIT_OK, 'its store is the default');
  t.is(await shown(), 'default: rounds begin every 6h, 1 at once, of all agents and groups');
  const refused = await receiver('init', dir, '--listen', '127.0.0.1:1');
  t.is(refused.code, EXIT_USAGE);
  t.regex(refused.stderr, /--listen: .*receiver\.toml:2 says it for this receiver\. Change it there\./);
  t.is((await receiver('schedule', 'clear')).code, EXIT_OK);
  t.is(await shown(), 'No rounds are scheduled.');
  t.deepEqual(await readdir(config), ['receiver.toml'], 'commands write into the store alone');
  t.is((await runHere(machine, 'retention', 'show')).code, EXIT_OK, 'its store is the default here, too');
  t.regex((await receiver('serve', '--check')).stdout, /the receiver can be started/);

  const other = join(machine.directory, 'other');
  t.is((await receiver('init', other)).code, EXIT_OK);
  const unused = await receiver('serve', '--check', other);
  t.regex(unused.stderr, /receiver\.toml is for the store .*\/r, not for .*\/other/);
  await writeFile(join(dir, 'receiver', 'schedule.json'), 'no schedule');
  t.not((await receiver('serve', '--check')).code, EXIT_OK, 'it looks at what the start will read');
});

test('a match of wildcards that is gone is shown until it is removed', async (t) => {
  const machine = await makeMachine(t);
  const config = join(machine.stateDirectory, 'config');
  await mkdir(config);
  const pattern = join(machine.directory, '*.raw');
  await writeFile(
    join(config, 'agent.toml'),
    `store = "/s"\n[[device]]\nname = "vm-{}"\npath = "${pattern}"\nschedule = "daily"\n`,
  );
  await writeFile(join(machine.directory, 'there.raw'), '');
  const memory = (name: string) => ({
    ...{ name: `vm-${name}`, path: join(machine.directory, `${name}.raw`), pattern },
    ...{
      record: newRecord(0),
      last: null,
      lastGood: { point: `vm-${name}@3`, instant: '2026-01-01T00:00:00.000Z' },
    },
  });
  await writeMemory(machine.stateDirectory, {
    ...{ devices: [memory('gone'), memory('there')], groups: [], pause: null },
  });
  const names = async () => {
    const { stdout } = await runHere(machine, 'status', '--json');
    return lastResult<{ devices: { name: string; state: string }[] }>(stdout).devices.map(
      ({ name, state }) => `${name} ${state}`,
    );
  };
  t.deepEqual(await names(), ['vm-gone vanished', 'vm-there waiting']);
  t.regex((await runHere(machine, 'status')).stdout, /vm-gone: nothing is at this path any more/);
  t.is((await runHere(machine, 'agent', 'remove', 'vm-there')).code, EXIT_FAILED);
  t.is((await runHere(machine, 'agent', 'remove', 'vm-gone')).code, EXIT_OK);
  t.deepEqual(await names(), ['vm-there waiting']);
});
