/** Groups over several hosts, as their hosts see them: the same on every ReceiverPort. */
import { setTimeout as sleep } from 'node:timers/promises';
import { RUN_LIMITS, type Run, type RunSettings } from '../../src/domain/group/run.js';
import type { GroupCommand, GroupReport } from '../../src/domain/group/steps.js';
import type { GroupOrder } from '../../src/domain/order/order.js';
import type { Point } from '../../src/domain/point/point.js';
import { beginRequest } from '../helpers/bytes/requests.js';
import { HostPort } from '../helpers/groups/host-port.js';
import type { Tests } from '../helpers/in-turns.js';
import { refused } from '../helpers/refused.js';
import { type MakeWorld, newSessionId, type ReceiverWorld } from './receiver.js';

const HOSTS = [
  { agent: 'db1', devices: ['data', 'wal'] },
  { agent: 'db2', devices: ['log'] },
] as const;

const FAILED: GroupReport = {
  state: 'failed',
  error: { code: 'device-io', thing: 'log', reason: 'it broke', permanent: true },
};

interface Scene {
  readonly world: ReceiverWorld;
  readonly hosts: readonly [HostPort, HostPort];
  readonly runId: string;
  run(): Run;
}

async function setUp(make: () => Promise<ReceiverWorld>, changes: Partial<RunSettings> = {}): Promise<Scene> {
  const world = await make();
  const runId = newSessionId();
  const settings = {
    id: runId,
    name: 'db',
    hosts: HOSTS,
    missing: 'fail',
    limits: RUN_LIMITS,
    ...changes,
  } as const;
  let run = world.runs().start(settings, (changed) => {
    run = changed;
  });
  const [a, b] = [await world.portFor('db1'), await world.portFor('db2')];
  const hosts = [new HostPort(a, runId, ['data', 'wal']), new HostPort(b, runId, ['log'])] as const;
  return { world, hosts, runId, run: () => run };
}

export function groupRunsConformance(test: Tests, make: MakeWorld): void {
  test('hosts close, cut and commit together, and each sees its own part', async (t) => {
    const { hosts, run } = await setUp(() => make(t));
    t.deepEqual(await hosts[0].says({ state: 'preparing' }, 0), { do: 'wait' });
    const instants = await Promise.all(hosts.map((host) => host.cuts()));
    t.is(instants[0], instants[1]);
    t.deepEqual(run().hosts[1]?.stalls, [{ device: 'log', stallMs: 3 }]);
    const reports = await Promise.all(hosts.map((host) => host.sends()));
    const commands = await Promise.all(hosts.map((host, at) => host.says(reports[at] as GroupReport)));
    t.deepEqual(commands[0], commands[1]);
    const points = await Promise.all(
      hosts.map((host, at) => host.commits(commands[at] as GroupCommand, instants[0] as string)),
    );
    t.is(run().phase, 'done');
    const group = { id: run().settings.id, name: 'db', sequence: 1, memberCount: 3 };
    for (const point of points[0] as Point[]) t.deepEqual(point.group, { ...group, ownCount: 2 });
    t.deepEqual(points[1]?.[0]?.group, { ...group, ownCount: 1 });
    t.is((await hosts[0].port.points()).length, 2);
    t.like(await hosts[1].says(reports[1] as GroupReport), { do: 'commit' }, 'said again');
  });

  test('a run that an agent has no part in is as unknown as none', async (t) => {
    const { world, runId } = await setUp(() => make(t));
    const port = await world.portFor('stranger');
    const report = { state: 'ready', try: 1 } as const;
    const known = await port.groupStep({ runId, report, waitMs: 10_000 });
    t.like(known, { do: 'abandon' });
    t.deepEqual(await port.groupStep({ runId: newSessionId(), report, waitMs: 10_000 }), known);
  });

  test('the next report of a host ends its question', async (t) => {
    const { hosts } = await setUp(() => make(t));
    const first = hosts[0].says({ state: 'ready', try: 1 });
    await sleep(100);
    const second = hosts[0].says({ state: 'ready', try: 1 });
    t.deepEqual(await first, { do: 'wait' });
    t.like(await hosts[1].says({ state: 'ready', try: 1 }), { do: 'rest' });
    t.like(await second, { do: 'rest' });
  });

  test('another agent’s session is as wrong as none', async (t) => {
    const answers: unknown[] = [];
    for (const isOther of [true, false]) {
      const { hosts } = await setUp(() => make(t), { missing: 'leave-out' });
      await Promise.all(hosts.map((host) => host.cuts()));
      await hosts[0].sends();
      const sessionIds = [isOther ? (hosts[0].sessionIds[0] as string) : newSessionId()];
      answers.push(await hosts[1].says({ state: 'transferred', kind: 'crash', sessionIds }));
    }
    t.like(answers[0], { do: 'abandon' });
    t.deepEqual(answers[0], answers[1]);
  });

  test('what a session is of is checked, too', async (t) => {
    const { hosts } = await setUp(() => make(t));
    await Promise.all(hosts.map((host) => host.cuts()));
    await hosts[0].sends();
    const sessionIds = [...hosts[0].sessionIds].reverse();
    t.like(await hosts[0].says({ state: 'transferred', kind: 'crash', sessionIds }), { do: 'abandon' });
    t.like(await hosts[1].says({ state: 'preparing' }), { do: 'abandon' });
  });

  test('one that is left out is not told to the others', async (t) => {
    const { hosts, run } = await setUp(() => make(t), { missing: 'leave-out' });
    t.deepEqual(await hosts[1].says(FAILED), { do: 'abandon', reason: 'it broke' });
    const instant = await hosts[0].cuts();
    const command = await hosts[0].says(await hosts[0].sends());
    const [point] = await hosts[0].commits(command, instant);
    t.like(point?.group, { memberCount: 2, ownCount: 2 });
    t.false('missing' in (point?.group ?? {}));
    t.false('missing' in ((await hosts[0].port.points())[0]?.group ?? {}));
    t.is(run().phase, 'done');
  });

  test('a commit of a run that the receiver does not know any more makes no point', async (t) => {
    const { world, hosts } = await setUp(() => make(t), { missing: 'leave-out' });
    await hosts[1].says(FAILED);
    const instant = await hosts[0].cuts();
    const command = await hosts[0].says(await hosts[0].sends());
    await world.restart();
    const port = await world.portFor('db1');
    const after = new HostPort(port, newSessionId(), ['data', 'wal']);
    after.sessionIds.push(...hosts[0].sessionIds);
    await refused(t, after.commits(command, instant), 'group-failed', /restarted/);
    t.deepEqual(await port.points(), []);
    t.like(await after.says({ state: 'preparing' }), { do: 'abandon' });
  });

  test('after a restart of the receiver hosts let go, and their sessions go on in the next run', async (t) => {
    const scene = await setUp(() => make(t));
    await Promise.all(scene.hosts.map((host) => host.cuts()));
    await scene.hosts[0].sends();
    await scene.world.restart();
    const port = await scene.world.portFor('db1');
    const after = new HostPort(port, scene.runId, ['data', 'wal']);
    const answer = await after.says({
      state: 'transferred',
      kind: 'crash',
      sessionIds: scene.hosts[0].sessionIds,
    });
    t.like(answer, { do: 'abandon' });
    t.regex(answer.do === 'abandon' ? answer.reason : '', /does not know this run/);
    t.deepEqual(await port.points(), []);
    for (const [at, device] of (['data', 'wal'] as const).entries()) {
      const sessionId = scene.hosts[0].sessionIds[at] as string;
      const resumed = await port.begin(beginRequest({ device, sessionId }));
      t.like(resumed, { resumed: true, durableSequence: 1 });
    }
  });

  test('commits say what their agents were told, or are refused', async (t) => {
    const { hosts } = await setUp(() => make(t));
    const [instant] = await Promise.all(hosts.map((host) => host.cuts()));
    const reports = await Promise.all(hosts.map((host) => host.sends()));
    const [command] = await Promise.all(hosts.map((host, at) => host.says(reports[at] as GroupReport)));
    if (command?.do !== 'commit') return t.fail();
    const other = { ...command, kind: 'filesystem' } as const;
    await refused(t, hosts[0].commits(other, instant as string), 'bad-message', /told/);
    await refused(t, hosts[0].commits(command, '2026-01-01T00:00:00.000Z'), 'bad-message', /told/);
    const less = { ...command.group, sessionIds: hosts[0].sessionIds };
    await refused(t, hosts[0].commits({ ...command, group: less }, instant as string), 'bad-message', /told/);
    await Promise.all(hosts.map((host) => host.commits(command, instant as string)));
  });

  test('orders: a group is for agents that can, and that offer all its members', async (t) => {
    const world = await make(t);
    const port = await world.portFor('db1');
    const group: GroupOrder = { runId: newSessionId(), name: 'db', devices: ['data', 'wal'] };
    const place = () =>
      world.orders().place({ agent: 'db1', device: 'data', full: false, group }, 60_000, () => undefined);
    const ask = { running: [], ordersMax: 1, waitMs: 20 };
    await port.awaitOrder({ ...ask, devices: ['data', 'wal'] });
    t.throws(place, { message: /older version, which can’t take part in a group/ });
    await port.awaitOrder({ ...ask, devices: ['data'], canGroup: true });
    t.throws(place, { message: /device wal of the agent db1: the agent does not offer it; it offers data/ });
    await port.awaitOrder({ ...ask, devices: ['data', 'wal'], canGroup: true });
    place();
    const order = await port.awaitOrder({ ...ask, devices: ['data', 'wal'], canGroup: true, waitMs: 10_000 });
    t.deepEqual(order?.group, group);
    t.is(order?.device, 'data');
  });
}
