/** The receiver starts backups over a connection that the agent holds open; and whatever dies meanwhile. */

import { randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import {
  EXIT_FAILED,
  EXIT_NO_ACCESS,
  EXIT_OK,
  EXIT_USAGE,
  EXIT_WARNINGS,
} from '../../../src/cli/output/exit-codes.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { RoundSummary } from '../../../src/domain/order/round.js';
import type { Point } from '../../../src/domain/point/point.js';
import { readSchedules, writeSchedule } from '../../../src/receiver/orders/remote-settings.js';
import { makeStampedImage } from '../../helpers/bytes/stamped-blocks.js';
import { difference } from '../../helpers/disks/images.js';
import {
  agentsOf,
  connected,
  endAgent,
  logged,
  order,
  startAgent,
  startOrder,
  type WaitingAgent,
} from '../../helpers/machines/agent.js';
import {
  enroll,
  killReceiver,
  type Receiver,
  serve,
  startReceiver,
} from '../../helpers/machines/receiver.js';
import {
  lastResult,
  type Machine,
  makeMachine,
  points,
  restore,
  run,
  runExpecting,
} from '../../helpers/machines/stillpoint.js';

const BLOCK = 64 * KiB;
/** Some 10 MiB/s. */
const SLOWLY = ['--compression-level', '19'];

async function makeAgent(
  t: ExecutionContext,
  receiver: Receiver,
  name: string,
  devices: Readonly<Record<string, string>>,
  ...options: string[]
): Promise<Machine> {
  const machine = await makeMachine(t, name);
  await enroll(t, receiver, machine, name);
  for (const [device, path] of Object.entries(devices)) {
    await runExpecting(t, machine, EXIT_OK, 'agent', 'add', path, '--name', device, ...options);
  }
  return machine;
}

async function stamped(machine: { readonly directory: string }, name: string, seed: number): Promise<string> {
  const path = join(machine.directory, name);
  const blockIndexes = Array.from({ length: 64 }, (_, index) => index);
  await makeStampedImage(path, { sizeBytes: 8 * MiB, blockSize: BLOCK, seed, blockIndexes });
  return path;
}

/** With SLOWLY, takes long enough to be met in the middle. */
async function large(
  machine: { readonly directory: string },
  name: string,
  sizeBytes: number,
): Promise<string> {
  const path = join(machine.directory, name);
  const file = await open(path, 'w');
  for (let at = 0; at < sizeBytes; at += 8 * MiB) await file.write(randomBytes(8 * MiB));
  await file.close();
  return path;
}

async function running(
  t: ExecutionContext,
  receiver: Receiver,
  name: string,
  machine: Machine,
): Promise<WaitingAgent> {
  const agent = startAgent(t, machine, ['run']);
  await connected(t, receiver, name);
  return agent;
}

async function checkRestores(
  t: ExecutionContext,
  machine: Machine,
  point: string,
  source: string,
): Promise<void> {
  const target = join(machine.directory, 'restored');
  await restore(t, machine, null, point, target, '--verify');
  t.is(difference(target, source), null);
  await rm(target);
}

test.serial('an order becomes a point like any other; what can’t be ordered is refused', async (t) => {
  const receiver = await startReceiver(t);
  const place = await makeMachine(t, 'devices');
  const source = await stamped(place, 'source', 1);
  const machine = await makeAgent(t, receiver, 'web1', { disk: source });
  const absent = await order(t, receiver, EXIT_NO_ACCESS, 'backup', 'web1', 'disk', '--wait', '0.5');
  t.regex(absent.stderr, /agent web1: it is not connected.*agent run/);
  const agent = await running(t, receiver, 'web1', machine);
  const { stdout } = await order(t, receiver, EXIT_OK, 'backup', 'web1', 'disk', '--json');
  const { point } = lastResult<{ point: Point }>(stdout);
  t.like(point, { agent: 'web1', device: 'disk', sequence: 1, kind: 'idle' });
  t.deepEqual(await points(t, machine, null), [point]);
  await checkRestores(t, machine, 'disk@1', source);
  const full = await order(t, receiver, EXIT_OK, 'backup', 'web1', 'disk', '--full', '--json');
  t.like(lastResult<{ point: Point }>(full.stdout).point, { sequence: 2, statistics: { changedBytes: 0 } });

  const path = await order(t, receiver, EXIT_FAILED, 'backup', 'web1', 'tape');
  t.regex(path.stderr, /does not offer it; it offers disk/);
  await order(t, receiver, EXIT_USAGE, 'backup', 'web1', source);
  await order(t, receiver, EXIT_USAGE, 'backup', 'web9', 'disk');
  await rm(source);
  const gone = await order(t, receiver, EXIT_FAILED, 'backup', 'web1', 'disk');
  t.regex(gone.stderr, /source: it does not exist/, 'the agent’s own error');
  t.is((await points(t, machine, null)).length, 2);
  const second = await run(machine, 'agent', 'run');
  t.is(second.code, EXIT_NO_ACCESS);
  t.regex(second.stderr, /another process waits for orders/);
  t.is(await endAgent(agent, 'SIGTERM'), EXIT_OK);
});

test.serial('Ctrl-C cancels: the agent stops, nothing is listed, and the next order succeeds', async (t) => {
  const receiver = await startReceiver(t);
  const place = await makeMachine(t, 'devices');
  const source = await large(place, 'source', 64 * MiB);
  const machine = await makeAgent(t, receiver, 'web1', { disk: source }, ...SLOWLY);
  const agent = await running(t, receiver, 'web1', machine);
  const { child, end } = startOrder(receiver, 'backup', 'web1', 'disk');
  await logged(agent, 'backup begins');
  child.kill('SIGINT');
  t.is((await end).code, 130);
  await logged(agent, '"code":"cancelled"');
  t.deepEqual(await points(t, machine, null), []);
  await order(t, receiver, EXIT_OK, 'backup', 'web1', 'disk');
  await checkRestores(t, machine, 'disk@latest', source);
});

test.serial(
  'the agent is killed in the middle of an order: that is said, and the next one succeeds',
  async (t) => {
    const receiver = await startReceiver(t);
    const place = await makeMachine(t, 'devices');
    const source = await large(place, 'source', 64 * MiB);
    const machine = await makeAgent(t, receiver, 'web1', { disk: source });
    const first = await running(t, receiver, 'web1', machine);
    const { end } = startOrder(receiver, 'backup', 'web1', 'disk');
    await logged(first, 'backup begins');
    await sleep(200);
    await endAgent(first, 'SIGKILL');
    await running(t, receiver, 'web1', machine);
    const { code, stderr } = await end;
    t.is(code, EXIT_NO_ACCESS, stderr);
    t.regex(stderr, /or was restarted/);
    t.deepEqual(await points(t, machine, null), []);
    await order(t, receiver, EXIT_OK, 'backup', 'web1', 'disk');
    await checkRestores(t, machine, 'disk@latest', source);
  },
);

test.serial(
  'the receiver is killed in the middle of an order: the backup goes on, and its point is there',
  async (t) => {
    const receiver = await startReceiver(t);
    const place = await makeMachine(t, 'devices');
    const source = await large(place, 'source', 64 * MiB);
    const machine = await makeAgent(t, receiver, 'web1', { disk: source });
    const agent = await running(t, receiver, 'web1', machine);
    const { end } = startOrder(receiver, 'backup', 'web1', 'disk');
    await logged(agent, 'backup begins');
    await sleep(300);
    await killReceiver(receiver);
    const { code, stderr } = await end;
    t.is(code, EXIT_NO_ACCESS, stderr);
    t.regex(stderr, /A backup that an agent has begun continues by itself/);
    await serve(receiver);
    await logged(agent, 'backup done');
    t.is((await points(t, machine, null)).length, 1);
    await connected(t, receiver, 'web1');
    await order(t, receiver, EXIT_OK, 'backup', 'web1', 'disk');
    await checkRestores(t, machine, 'disk@latest', source);
  },
);

test.serial('an agent that is stopped in the middle of an order says so, and ends at once', async (t) => {
  const receiver = await startReceiver(t);
  const place = await makeMachine(t, 'devices');
  const source = await large(place, 'source', 64 * MiB);
  const machine = await makeAgent(t, receiver, 'web1', { disk: source }, ...SLOWLY);
  const agent = await running(t, receiver, 'web1', machine);
  const { end } = startOrder(receiver, 'backup', 'web1', 'disk');
  await logged(agent, 'backup begins');
  await sleep(300);
  const startMs = Date.now();
  t.is(await endAgent(agent, 'SIGTERM'), EXIT_OK);
  t.true(Date.now() - startMs < 15_000, `${Date.now() - startMs} ms`);
  const { code, stderr } = await end;
  t.is(code, EXIT_FAILED, stderr);
  t.regex(stderr, /the agent was stopped/);
});

test.serial(
  'a round: one agent is unreachable, one fails, the others are backed up; no more at once than asked for',
  async (t) => {
    const receiver = await startReceiver(t);
    const place = await makeMachine(t, 'devices');
    const good = { a: await stamped(place, 'a', 1), b: await stamped(place, 'b', 2) };
    const bad = await stamped(place, 'c', 3);
    const machines = {
      good: await makeAgent(t, receiver, 'good', good),
      bad: await makeAgent(t, receiver, 'bad', { c: bad }),
      away: await makeAgent(t, receiver, 'away', { d: good.a }),
    };
    await rm(bad);
    await running(t, receiver, 'good', machines.good);
    await running(t, receiver, 'bad', machines.bad);
    const { stdout } = await order(t, receiver, EXIT_FAILED, 'round', '--wait', '2', '--json');
    const summary = lastResult<RoundSummary>(stdout);
    t.like(summary, { done: 2, failed: 1, skipped: 1 });
    t.deepEqual(
      summary.items.map(({ agent, device, state, point }) => [agent, device, state, point]),
      [
        ['bad', 'c', 'failed', null],
        ['away', null, 'skipped', null],
        ['good', 'a', 'done', 'a@1'],
        ['good', 'b', 'done', 'b@1'],
      ],
    );
    // One at a time. An agent that was skipped as a whole has no device in its line.
    let [now, most] = [0, 0];
    for (const line of stdout.trimEnd().split('\n')) {
      const { event, text = '' } = JSON.parse(line) as { event: string; text?: string };
      if (event !== 'note' || !/^\w+ \w+: /.test(text)) continue;
      now += text.endsWith(': ordered') ? 1 : -1;
      most = Math.max(most, now);
    }
    t.deepEqual([now, most], [0, 1]);
    const some = await order(
      t,
      receiver,
      EXIT_WARNINGS,
      'round',
      '--agents',
      'good,away',
      '--parallel',
      '2',
      '--wait',
      '1',
      '--json',
    );
    t.like(lastResult<RoundSummary>(some.stdout), { done: 2, failed: 0, skipped: 1 });
    await order(t, receiver, EXIT_OK, 'round', '--agents', 'good');
    await order(t, receiver, EXIT_FAILED, 'round', '--agents', 'away', '--wait', '0.2');
    await order(t, receiver, EXIT_USAGE, 'round', '--agents', 'nobody');
  },
);

test.serial('a schedule survives restarts, begins rounds, and shows how the last one ended', async (t) => {
  const receiver = await startReceiver(t);
  const place = await makeMachine(t, 'devices');
  const machine = await makeAgent(t, receiver, 'web1', { disk: await stamped(place, 'disk', 1) });
  await running(t, receiver, 'web1', machine);
  await order(t, receiver, EXIT_OK, 'schedule', 'set', '--every', '6h', '--wait', '20');
  await killReceiver(receiver);
  // It was down for a day: four rounds are missed, and one is made up for.
  const [schedule] = await readSchedules(receiver.store);
  if (schedule === undefined) return t.fail();
  const setAt = new Date(Date.now() - 86_400_000).toISOString();
  await writeSchedule(receiver.store, { ...schedule, setAt });
  await serve(receiver);
  await logged(receiver, 'round ended');
  const shown = await order(t, receiver, EXIT_OK, 'schedule', 'show', '--json');
  t.like(lastResult(shown.stdout), {
    schedules: [{ lastRound: { summary: { done: 1, failed: 0, skipped: 0 } } }],
  });
  await order(t, receiver, EXIT_OK, 'schedule', 'clear');
  t.like(lastResult((await order(t, receiver, EXIT_OK, 'schedule', 'show', '--json')).stdout), {
    schedules: [],
  });
  t.is(receiver.log.split('round begins').length, 2, 'one round');
  t.like(await agentsOf(t, receiver), [
    { agent: 'web1', devices: ['disk'], plans: [{ device: 'disk', schedule: null, failures: 0 }] },
  ]);
});
