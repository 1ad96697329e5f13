/** Groups through the command line and a real agent, with a store in a directory. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { writeMemory } from '../../../src/agent/daemon/state.js';
import type { DaemonView } from '../../../src/agent/daemon/view.js';
import { EXIT_FAILED, EXIT_OK, EXIT_USAGE, EXIT_WARNINGS } from '../../../src/cli/output/exit-codes.js';
import { newRecord } from '../../../src/domain/order/run-plan.js';
import { endAgent, startAgent } from '../../helpers/machines/agent.js';
import {
  lastResult,
  type Machine,
  makeMachine,
  runExpecting,
  runHere,
} from '../../helpers/machines/stillpoint.js';

interface Result {
  readonly group: { readonly name: string; readonly sequence: number; readonly memberCount: number };
  readonly members: readonly { readonly point: { readonly device: string; readonly sequence: number } }[];
  readonly leftOut: readonly { readonly device: string; readonly code: string }[];
}

async function makeDisks(t: ExecutionContext): Promise<Machine> {
  const machine = await makeMachine(t);
  for (const name of ['data', 'wal', 'log'])
    await writeFile(join(machine.directory, name), Buffer.alloc(300_000, name));
  return machine;
}

async function status(machine: Machine) {
  return lastResult<DaemonView & { wrong: string[] }>((await runHere(machine, 'status', '--json')).stdout);
}

test('several devices are one group point; one of them may be left out', async (t) => {
  const machine = await makeDisks(t);
  const { directory } = machine;
  const at = (name: string) => join(directory, name);
  const to = ['--group', 'db', '--store', at('store')];
  const devices = [`data=${at('data')}`, `wal=${at('wal')}`];
  const first = await runExpecting(t, machine, EXIT_OK, 'backup', ...devices, ...to);
  const [head = '', ...rest] = first.stdout.split('\n');
  t.regex(head, /^db@1: committed, [a-z-]+, .*: data@1, wal@1$/);
  t.regex(rest.join('\n'), /^data@1: committed, (.*\n)*wal@1: committed, /m);
  await writeFile(at('wal'), Buffer.alloc(300_000, 'other'));
  const { stdout } = await runExpecting(t, machine, EXIT_OK, 'backup', ...devices, ...to, '--json');
  const result = lastResult<Result>(stdout);
  t.like(result, {
    group: { name: 'db', sequence: 2, memberCount: 2 },
    members: { length: 2, 0: { point: { device: 'data', sequence: 2 } }, 1: { point: { device: 'wal' } } },
  });
  t.deepEqual(result.leftOut, []);
  // By default a device that is not there costs the point of all.
  const three = [...devices, `log=${at('nowhere')}`];
  t.is((await runHere(machine, 'backup', ...three, ...to)).code, EXIT_FAILED);
  const without = ['backup', ...three, ...to, '--missing', 'leave-out', '--json'];
  const third = lastResult<Result>((await runExpecting(t, machine, EXIT_WARNINGS, ...without)).stdout);
  t.like(third, {
    ...{ group: { sequence: 3, memberCount: 2 }, members: { length: 2 } },
    leftOut: { length: 1, 0: { device: 'log', code: 'device-not-found' } },
  });
  // By itself a device goes on as it was.
  const alone = ['backup', at('data'), '--name', 'data', '--store', at('store'), '--json'];
  t.like(lastResult((await runExpecting(t, machine, EXIT_OK, ...alone)).stdout), {
    point: { device: 'data', sequence: 4, baseSequence: 3 },
  });
  t.is((await runHere(machine, 'backup', ...devices, '--group', 'data')).code, EXIT_USAGE);
});

test('an agent backs up a group when it is due and when it is asked; status shows it', async (t) => {
  const machine = await makeDisks(t);
  const { directory, stateDirectory } = machine;
  await mkdir(join(stateDirectory, 'config'), { recursive: true });
  const device = (name: string) => `[[device]]\nname = "${name}"\npath = "${join(directory, name)}"\n`;
  await writeFile(
    join(stateDirectory, 'config/agent.toml'),
    `store = "${directory}/store"\n${device('data')}${device('wal')}${device('log')}
[[group]]
name = "db"
members = ["data", "wal"]
schedule = "daily"
[[group]]
name = "all"
members = ["data", "wal", "log"]
missing = "leave-out"
`,
  );
  t.is((await runHere(machine, 'config', 'check')).code, EXIT_OK);
  const shown = (await runHere(machine, 'config', 'show', '--written')).stdout;
  t.regex(shown, /^group\[0\]\.members = \["data", "wal"\] {2}# .*agent\.toml:\d+$/m);
  await writeMemory(stateDirectory, {
    ...{ pause: null, devices: [] },
    groups: [{ name: 'db', record: newRecord(Date.now() - 2 * 86_400_000), last: null, lastGood: null }],
  });
  const agent = startAgent(t, machine, ['run']);
  const of = (view: DaemonView, name: string) => view.devices.find((each) => each.name === name);
  let seen = await status(machine);
  for (const endMs = Date.now() + 60_000; Date.now() < endMs; await sleep(100)) {
    seen = await status(machine);
    if (of(seen, 'db')?.last?.state === 'done') break;
  }
  t.deepEqual(seen.wrong, []);
  t.like(of(seen, 'db'), {
    ...{ state: 'waiting', members: ['data', 'wal'], lastGood: { point: 'db@1' } },
    last: { why: 'due', point: 'db@1', warningCount: 0 },
  });
  t.like(of(seen, 'wal'), { members: null, state: 'on-demand', lastGood: { point: 'wal@1' } });

  const asked = await runExpecting(t, machine, EXIT_OK, 'backup', '--now', 'db');
  t.regex(asked.stdout, /^db@2: committed, .*: data@2, wal@2\n/);
  t.is((await runHere(machine, 'pause', 'db', '--for', '2h')).code, EXIT_OK);
  t.like(of(await status(machine), 'db'), { state: 'paused' });
  t.is((await runHere(machine, 'resume', 'db')).code, EXIT_OK);
  await rm(join(directory, 'log'));
  const { stdout } = await runExpecting(t, machine, EXIT_WARNINGS, 'backup', '--now', 'all', '--json');
  t.like(lastResult<Result>(stdout), {
    ...{ group: { name: 'all', sequence: 1 }, members: { length: 2 } },
    leftOut: { length: 1, 0: { device: 'log' } },
  });
  const text = (await runHere(machine, 'status')).stdout;
  t.regex(text, /^all +on-demand +all@1 /m);
  t.regex(text, /^Groups, each with one instant:\n {2}all: data, wal, log\n {2}db: data, wal$/m);
  t.regex(text, /^ {2}all: its member log is not there$/m);
  t.is(await endAgent(agent, 'SIGTERM'), EXIT_OK, agent.log);
  t.like(of(await status(machine), 'all'), { lastGood: { point: 'all@1' } }, 'while no agent runs, too');
});
