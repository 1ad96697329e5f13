/** Orders of a group over several hosts: all devices of this one, or none, and what is reported of them. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { ProgressOfOrder } from '../../../src/agent/orders/order-progress.js';
import { type OrderContext, runOrder } from '../../../src/agent/orders/run-order.js';
import type { AgentOrder, OrderReport } from '../../../src/domain/order/order.js';
import { measuredLink } from '../../../src/protocol/transport/measured-link.js';
import { deviceNamed } from '../../helpers/fakes/device-settings.js';
import { INSTANT, RUN_ID, ScriptedSteps } from '../../helpers/groups/scripted-leader.js';
import { BackupWorld } from '../../helpers/worlds/backup.js';

const log = pino({ level: 'silent' });
const order: AgentOrder = {
  ...{ orderId: '0'.repeat(32), device: 'data', full: false },
  group: { runId: RUN_ID, name: 'db', devices: ['data', 'wal'] },
};

async function makeScene(t: ExecutionContext, offered: readonly string[] = ['data', 'wal', 'other']) {
  const world = await BackupWorld.make(t);
  const reports: OrderReport[] = [];
  const steps = new ScriptedSteps();
  await mkdir(world.stateDirectory, { recursive: true });
  for (const name of offered) await writeFile(join(world.stateDirectory, name), Buffer.alloc(200_000, name));
  const run = (more: Partial<OrderContext> = {}) =>
    runOrder({
      ...{ order, log, stateDirectory: world.stateDirectory, busyDevice: null, doubted: new Set<string>() },
      offers: offered.map((name) => deviceNamed(world.stateDirectory, name)),
      orders: {
        groupStep: (request, signal) => steps.groupStep(request, signal),
        reportOrder: async (_orderId, report) => {
          reports.push(report);
          return 'open';
        },
      },
      openReceiver: () => ({
        ...measuredLink(),
        receiver: { ...world.receiver, close: async () => undefined },
      }),
      ...{ signal: new AbortController().signal, reportEveryMs: 10 },
      ...more,
    });
  const end = () => reports.at(-1) as OrderReport;
  return { world, steps, reports, run, end };
}

test('all devices of the order have points; the order names that of its device', async (t) => {
  const { world, run, end } = await makeScene(t);
  await run();
  const points = await world.receiver.points();
  t.deepEqual(points.map(({ device }) => device).sort(), ['data', 'wal']);
  for (const point of points) t.like(point, { instant: INSTANT, group: { name: 'all', memberCount: 2 } });
  t.like(end(), { state: 'done', pointId: points.find(({ device }) => device === 'data')?.id });
});

test('a device that is not offered, or has other work: the order fails by its name, and nothing is begun', async (t) => {
  const missing = await makeScene(t, ['data']);
  await missing.run();
  t.like(missing.end(), { state: 'failed', error: { code: 'device-unknown', thing: 'device wal' } });
  const busy = await makeScene(t);
  await busy.run({ busyDevice: 'wal' });
  t.like(busy.end(), { state: 'failed', error: { code: 'session-busy', thing: 'device wal' } });
  t.deepEqual([...missing.steps.reports, ...busy.steps.reports], []);
  t.deepEqual(await busy.world.receiver.points(), []);
});

test('abandoned, or stopped: the order says why, and there are no points', async (t) => {
  const scene = await makeScene(t);
  scene.steps.answer = (report) =>
    report.state === 'ready' ? { do: 'abandon', reason: 'host b is gone' } : null;
  await scene.run();
  t.like(scene.end(), { state: 'failed', error: { code: 'group-failed' } });
  t.regex(JSON.stringify(scene.end()), /the receiver gave it up: host b is gone/);
  const stop = new AbortController();
  scene.steps.answer = () => null;
  const running = scene.run({ signal: stop.signal });
  while (scene.steps.states.filter((state) => state === 'ready').length < 2) await sleep(5);
  stop.abort();
  await running;
  t.like(scene.end(), { state: 'failed', error: { code: 'cancelled', reason: 'the agent was stopped' } });
  t.is(scene.steps.states.at(-1), 'failed');
  t.deepEqual(await scene.world.receiver.points(), []);
});

test('progress is the sum of all, in the phase of the one that is least far', (t) => {
  const progress = new ProgressOfOrder(log);
  t.like(progress.current, { phase: 'snapshot', doneBytes: 0 });
  progress.take({ type: 'phase', phase: 'scan' }, 'data');
  progress.take({ type: 'phase', phase: 'base' }, 'wal');
  progress.take({ type: 'progress', doneBytes: 5, totalBytes: 50, wireBytes: 1 }, 'data');
  progress.take({ type: 'progress', doneBytes: 6, totalBytes: 60, wireBytes: 2, changedBytes: 3 }, 'wal');
  t.deepEqual(progress.current, {
    ...{ phase: 'base', doneBytes: 11, totalBytes: 110, changedBytes: 3, wireBytes: 3 },
  });
});
