/** The schedule under a clock that the test sets. */
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import { z } from 'zod';
import { writeStateFile } from '../../../src/config/state-file.js';
import type { RoundSummary } from '../../../src/domain/order/round.js';
import { readGroups, writeGroup } from '../../../src/receiver/orders/group-settings.js';
import {
  DEFAULT_SCHEDULE,
  readLastRound,
  readSchedules,
  removeSchedules,
  type Schedule,
  writeSchedule,
} from '../../../src/receiver/orders/remote-settings.js';
import { Scheduler } from '../../../src/receiver/orders/scheduler.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const HOUR = 3_600_000;
const START = Date.parse('2026-05-01T00:00:00.000Z');
const SUMMARY: RoundSummary = {
  ...{ done: 1, failed: 0, skipped: 0, withWarnings: 0, wireBytes: 5, durationMs: 1, items: [] },
};

class World {
  readonly dir: string;
  nowMs = START;
  readonly begun: number[] = [];
  /** Of the round that runs. */
  end: () => void = () => undefined;
  holdsRounds = false;
  readonly rounds: unknown[] = [];
  /** Of the next rounds; then all is done. */
  readonly summaries: RoundSummary[] = [];
  stopped = 0;

  constructor(dir: string) {
    this.dir = dir;
  }

  async start(t: ExecutionContext): Promise<Scheduler> {
    const scheduler = await Scheduler.start({
      dir: this.dir,
      readSchedules: () => readSchedules(this.dir),
      log: pino({ level: 'silent' }),
      now: () => new Date(this.nowMs),
      ...{ tickMs: 2, retryAfterMs: HOUR },
      readGroups: () => readGroups(this.dir),
      runRound: async ({ schedule, left }, signal) => {
        this.begun.push(this.nowMs);
        this.rounds.push([schedule.name, left && [[...left.agents], [...left.groups]]]);
        if (this.holdsRounds) {
          await new Promise<void>((resolve) => {
            this.end = resolve;
            signal.addEventListener('abort', () => {
              this.stopped += 1;
              resolve();
            });
          });
        }
        return this.summaries.shift() ?? SUMMARY;
      },
    });
    t.teardown(() => scheduler.close());
    return scheduler;
  }

  /** Sets the clock, and waits until so many rounds have begun; then a little longer, for one too many. */
  async at(hours: number, count = this.begun.length): Promise<void> {
    this.nowMs = START + hours * HOUR;
    for (const endMs = Date.now() + 20_000; this.begun.length < count && Date.now() < endMs; ) await sleep(5);
    await sleep(60);
  }
}

async function makeWorld(t: ExecutionContext, changes: Partial<Schedule> = {}): Promise<World> {
  const dir = await tempDir(t);
  await mkdir(join(dir, 'receiver'));
  await writeSchedule(dir, {
    ...{
      name: DEFAULT_SCHEDULE,
      at: 'every 6h',
      parallel: 1,
      waitMs: 0,
      agents: null,
      groups: null,
      retries: 2,
    },
    setAt: new Date(START).toISOString(),
    ...changes,
  });
  return new World(dir);
}

test('rounds begin when they are due, and how they ended is kept', async (t) => {
  const world = await makeWorld(t);
  await world.start(t);
  await world.at(5.9);
  t.deepEqual(world.begun, []);
  await world.at(6.1, 1);
  await world.at(12, 1);
  t.is(world.begun.length, 1, 'six hours from the last one, not from the clock');
  await world.at(12.2, 2);
  t.is(world.begun.length, 2);
  while ((await readLastRound(world.dir, DEFAULT_SCHEDULE))?.endedAt === null) await sleep(5);
  t.like(await readLastRound(world.dir, DEFAULT_SCHEDULE), {
    startedAt: new Date(START + 12.2 * HOUR).toISOString(),
    endedAt: new Date(START + 12.2 * HOUR).toISOString(),
    summary: SUMMARY,
  });
});

test('what was missed while nobody was there is made up for once', async (t) => {
  const world = await makeWorld(t);
  await world.at(100);
  await world.start(t);
  await world.at(100.1, 1);
  t.is(world.begun.length, 1);
  await world.at(106.2, 2);
  t.is(world.begun.length, 2);
});

test('a round that takes too long is followed by one, not by as many as it missed', async (t) => {
  const world = await makeWorld(t);
  world.holdsRounds = true;
  await world.start(t);
  await world.at(6, 1);
  await world.at(30, 1);
  t.is(world.begun.length, 1);
  world.end();
  await world.at(30.1, 2);
  t.is(world.begun.length, 2);
  world.end();
  await world.at(31, 2);
  t.is(world.begun.length, 2);
});

test('a receiver that died in a round does not begin it again, and the round shows as not ended', async (t) => {
  const world = await makeWorld(t);
  world.holdsRounds = true;
  await world.start(t);
  await world.at(6, 1);
  t.like(await readLastRound(world.dir, DEFAULT_SCHEDULE), { endedAt: null, summary: null });
  const again = new World(world.dir);
  await again.start(t);
  await again.at(7);
  t.deepEqual(again.begun, []);
  await again.at(12.1, 1);
  t.is(again.begun.length, 1);
});

test('a stop ends the round that runs', async (t) => {
  const world = await makeWorld(t);
  world.holdsRounds = true;
  const scheduler = await world.start(t);
  await world.at(6, 1);
  await scheduler.close();
  t.is(world.stopped, 1);
});

test('a schedule that is changed or cleared counts from then on', async (t) => {
  const world = await makeWorld(t);
  const scheduler = await world.start(t);
  const [schedule] = await readSchedules(world.dir);
  if (schedule === undefined) return t.fail();
  const setAt = new Date(START + HOUR).toISOString();
  await writeSchedule(world.dir, { ...schedule, at: 'every 1h', setAt });
  await scheduler.reload();
  await world.at(2.1, 1);
  t.is(world.begun.length, 1);
  t.deepEqual(await removeSchedules(world.dir, null), [DEFAULT_SCHEDULE]);
  await scheduler.reload();
  await world.at(50, 1);
  t.is(world.begun.length, 1);
});

test('a round goes back to what failed, and only to that, until the next one is due', async (t) => {
  const world = await makeWorld(t);
  const item = { point: null, warningCount: 0, wireBytes: 1, durationMs: 0, group: null };
  const group = { ...item, agent: null, device: null, group: 'db' };
  const failed: RoundSummary = {
    ...{ done: 1, failed: 2, skipped: 1, withWarnings: 0, wireBytes: 3, durationMs: 5 },
    items: [
      { ...group, state: 'failed', reason: 'a: x: it broke' },
      { ...item, agent: 'a', device: 'x', state: 'failed', reason: 'it broke' },
      { ...item, agent: 'b', device: null, state: 'skipped', reason: 'it is away' },
      { ...item, agent: 'a', device: 'y', state: 'done', reason: null },
    ],
  };
  const healed = (agent: string, device: string): RoundSummary => ({
    ...SUMMARY,
    items: [{ ...item, agent, device, state: 'done', reason: null }],
  });
  world.summaries.push(
    failed,
    {
      ...SUMMARY,
      ...healed('a', 'x'),
      skipped: 1,
      done: 2,
      items: [
        ...healed('a', 'x').items,
        { ...group, state: 'done', reason: null },
        { ...item, agent: 'b', device: null, state: 'skipped', reason: 'it is away' },
      ],
    },
    healed('b', 'z'),
  );
  await world.start(t);
  await world.at(6, 1);
  await world.at(6.9, 1);
  await world.at(7.1, 2);
  await world.at(9.2, 3);
  t.deepEqual(world.rounds, [
    [DEFAULT_SCHEDULE, null],
    [
      DEFAULT_SCHEDULE,
      [
        [
          ['a', new Set(['x'])],
          ['b', null],
        ],
        ['db'],
      ],
    ],
    [DEFAULT_SCHEDULE, [[['b', null]], []]],
  ]);
  while ((await readLastRound(world.dir, DEFAULT_SCHEDULE))?.endedAt === null) await sleep(5);
  t.like((await readLastRound(world.dir, DEFAULT_SCHEDULE))?.summary, { done: 4, failed: 0, skipped: 0 });
});

test('two schedules, each with its own last round; that of the former version is one of them', async (t) => {
  const world = await makeWorld(t);
  await writeStateFile(
    join(world.dir, 'receiver', 'schedule.json'),
    { format: 'stillpoint-schedule', version: 1, schema: z.any() },
    {
      ...{ timing: { kind: 'at', minutes: [120, 855] }, parallel: 3, waitMs: 1000, agents: ['a'] },
      setAt: new Date(START).toISOString(),
    },
  );
  const [former] = await readSchedules(world.dir);
  t.like(former, { name: DEFAULT_SCHEDULE, at: '02:00,14:15', parallel: 3, agents: ['a'], groups: null });
  if (former === undefined) return;
  await writeSchedule(world.dir, { ...former, name: 'often', at: 'every 1h' });
  await writeSchedule(world.dir, { ...former, at: 'every 5h' });
  await world.start(t);
  await world.at(1, 1);
  await world.at(5, 3);
  t.deepEqual(world.rounds.map((round) => (round as string[])[0]).sort(), ['default', 'often', 'often']);
  t.like(await readLastRound(world.dir, 'often'), { startedAt: new Date(START + 5 * HOUR).toISOString() });
});

test('settings and a last round without groups, of a former version, are read', async (t) => {
  const world = await makeWorld(t);
  const write = (name: string, format: string, version: number, value: object) =>
    writeStateFile(join(world.dir, 'receiver', name), { format, version, schema: z.any() }, value);
  const former = {
    ...{ name: 'often', at: 'every 1h', parallel: 2, waitMs: 7, agents: null, retries: 1 },
    setAt: new Date(START).toISOString(),
  };
  await write('schedule.json', 'stillpoint-schedule', 2, { schedules: [former] });
  t.deepEqual(await readSchedules(world.dir), [{ ...former, groups: null }]);
  const figures = { done: 0, failed: 1, skipped: 0, withWarnings: 0, wireBytes: 3, durationMs: 5 };
  const item = {
    ...{ agent: 'a', device: 'x', state: 'failed', reason: 'it broke', point: null },
    ...{ warningCount: 0, wireBytes: 3, durationMs: 5 },
  };
  const round = { startedAt: former.setAt, endedAt: former.setAt, summary: { ...figures, items: [item] } };
  await write('last-round-often.json', 'stillpoint-last-round', 1, round);
  t.like(await readLastRound(world.dir, 'often'), {
    ...round,
    summary: { ...figures, items: [{ ...item, group: null }] },
  });
});

test('agents are told of the rounds that reach them, by a group too', async (t) => {
  const world = await makeWorld(t, { name: 'db', groups: ['db'] });
  const [schedule] = await readSchedules(world.dir);
  if (schedule === undefined) return t.fail();
  await writeSchedule(world.dir, { ...schedule, name: 'all', groups: null });
  await writeSchedule(world.dir, { ...schedule, name: 'own', agents: ['c'], groups: null });
  const members = [
    { agent: 'a', device: 'data' },
    { agent: 'b', device: 'log' },
  ];
  await writeGroup(world.dir, { name: 'db', missing: 'fail', members });
  const scheduler = await world.start(t);
  const told = (agent: string) =>
    scheduler
      .planned(agent)
      .map(({ name }) => name)
      .sort();
  t.deepEqual(
    [told('a'), told('b'), told('c'), told('d')],
    [['all', 'db'], ['all', 'db'], ['all', 'own'], ['all']],
  );
  await writeGroup(world.dir, { name: 'db', missing: 'fail', members: [{ agent: 'd', device: 'data' }] });
  await scheduler.reload();
  t.deepEqual([told('a'), told('d')], [['all'], ['all', 'db']]);
});
