/** A real agent with a store in a directory: schedules, commands over its socket, reload, backups by hand. */
import { mkdir, rm, stat, writeFile } from 'node:fs/promises';
import { request } from 'node:http';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { writeMemory } from '../../../src/agent/daemon/state.js';
import type { DaemonView } from '../../../src/agent/daemon/view.js';
import {
  EXIT_FAILED,
  EXIT_NO_ACCESS,
  EXIT_OK,
  EXIT_USAGE,
  EXIT_WARNINGS,
} from '../../../src/cli/output/exit-codes.js';
import { newRecord } from '../../../src/domain/order/run-plan.js';
import { endAgent, logged, startAgent } from '../../helpers/machines/agent.js';
import {
  lastResult,
  type Machine,
  makeMachine,
  runExpecting,
  runHere,
} from '../../helpers/machines/stillpoint.js';

type Status = DaemonView & { isRunning: boolean; wrong: string[] };

async function status(machine: Machine): Promise<Status> {
  return lastResult<Status>((await runHere(machine, 'status', '--json')).stdout);
}

async function until(machine: Machine, what: string, holds: (status: Status) => boolean): Promise<Status> {
  for (const endMs = Date.now() + 60_000; Date.now() < endMs; await sleep(100)) {
    const seen = await status(machine);
    if (holds(seen)) return seen;
  }
  throw new Error(`never: ${what}`);
}

async function makeWorld(t: ExecutionContext) {
  const machine = await makeMachine(t, 'daemon');
  const { directory, stateDirectory } = machine;
  const config = join(stateDirectory, 'config');
  await mkdir(config, { recursive: true });
  for (const name of ['one', 'two']) await writeFile(join(directory, name), Buffer.alloc(300_000, name));
  const configure = (more: string) =>
    writeFile(
      join(config, 'agent.toml'),
      `store = "${directory}/store"\n${more}[[device]]\nname = "one"\npath = "${directory}/one"\nschedule = "daily"\n`,
    );
  await configure(`[[device]]\nname = "two"\npath = "${directory}/two"\n`);
  return { machine, configure };
}

test('an agent without a receiver: what was missed is backed up, commands are taken, state survives', async (t) => {
  const { machine, configure } = await makeWorld(t);
  const { directory, stateDirectory } = machine;
  const at = await status(machine);
  t.like(at, { isRunning: false, wrong: ['the agent does not run'], devices: { 0: { name: 'one' } } });
  const pausing = await runHere(machine, 'pause');
  t.is(pausing.code, EXIT_NO_ACCESS);
  t.regex(pausing.stderr, /stillpoint agent run/);
  // It was down for two days.
  await writeMemory(stateDirectory, {
    pause: null,
    groups: [],
    devices: [
      {
        ...{ name: 'one', path: join(directory, 'one'), pattern: null, last: null, lastGood: null },
        record: newRecord(Date.now() - 2 * 86_400_000),
      },
    ],
  });
  const agent = startAgent(t, machine, ['run']);
  const first = await until(machine, 'a point', ({ devices }) => devices[0]?.lastGood != null);
  t.like(first, { isRunning: true, wrong: [], devices: { 0: { last: { why: 'due', state: 'done' } } } });
  const socket = join(stateDirectory, 'agent.sock');
  t.is((await stat(socket)).mode & 0o777, 0o600);

  // On demand: progress and exit codes are those of backup.
  const now = await runExpecting(t, machine, EXIT_OK, 'backup', '--now', 'two', '--json');
  t.like(lastResult(now.stdout), { point: { device: 'two', sequence: 1 }, warnings: [] });
  t.regex((await runHere(machine, 'backup', '--now', 'two')).stdout, /^two@2: committed/);
  t.is((await runHere(machine, 'backup', '--now', 'three')).code, EXIT_FAILED);
  t.is((await runHere(machine, 'backup', '--now', 'two', '--fuzzy')).code, EXIT_USAGE);
  const other = await runHere(machine, 'backup', '--now', 'two', '--compression-level', '3');
  t.regex(other.stderr, /^error: --now with --compression-level: /);
  t.is((await runHere(machine, 'backup', '--now', '../two')).code, EXIT_USAGE);
  // By hand, beside it, into the same store.
  await runExpecting(
    t,
    machine,
    EXIT_OK,
    'backup',
    join(directory, 'two'),
    '--name',
    'two',
    '--store',
    join(directory, 'store'),
  );

  // Pausing, and what is no message.
  t.is((await runHere(machine, 'pause', 'one', '--for', '2h')).code, EXIT_OK);
  t.is((await runHere(machine, 'pause', 'three')).code, EXIT_FAILED);
  t.like(await status(machine), { isPaused: false, devices: { 0: { state: 'paused' } } });
  t.is((await runHere(machine, 'resume')).code, EXIT_OK);
  t.like(await status(machine), { devices: { 0: { state: 'waiting' } } });
  for (const [method, path, body, expected] of [
    ['POST', '/v1/pause', '{"name":5}', 400],
    ['POST', '/v1/pause', 'no JSON', 400],
    ['POST', '/v1/pause', JSON.stringify({ name: 'x'.repeat(100_000) }), 400],
    ['GET', '/v2/status', '', 400],
    ['POST', '/v1/devices/one/cancel', '', 404],
  ] as const)
    t.deepEqual(await ask(socket, method, path, body), [expected, 'error'], `${path} ${body.slice(0, 20)}`);

  // A bad configuration is refused, a good one applies.
  await configure('parallel = "many"\n');
  agent.process.kill('SIGHUP');
  await logged(agent, 'the new configuration is refused');
  const bad = await status(machine);
  t.regex(bad.wrong.join(), /agent\.toml:2: parallel/);
  t.is(bad.devices.length, 2);
  t.is((await runHere(machine, 'backup', '--now', 'two')).code, EXIT_OK, 'the old one stays');
  t.is((await runHere(machine, 'status')).code, EXIT_WARNINGS);
  await configure('');
  agent.process.kill('SIGHUP');
  await until(machine, 'one device', ({ devices }) => devices.length === 1);

  // A device that is gone is said.
  await rm(join(directory, 'one'));
  t.deepEqual((await status(machine)).wrong, ['one: it is not there']);
  t.is(await endAgent(agent, 'SIGTERM'), EXIT_OK, agent.log);
  const after = await status(machine);
  t.like(after, { isRunning: false, devices: { 0: { lastGood: { point: 'one@1' } } } });
  const shown = (await runHere(machine, 'status')).stdout;
  t.regex(shown, /^The agent does not run: nothing is backed up by schedule\.$/m);
  t.regex(shown, /^one +absent +one@1 /m);
});

function ask(socketPath: string, method: string, path: string, body: string): Promise<unknown[]> {
  return new Promise((resolve, reject) => {
    const headers = body === '' ? {} : { 'content-type': 'application/json' };
    const asked = request({ socketPath, method, path, headers }, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () => {
        const text = Buffer.concat(chunks).toString('utf8');
        resolve([response.statusCode, Object.keys(JSON.parse(text) as object)[0]]);
      });
    });
    asked.once('error', reject);
    asked.end(body);
  });
}
