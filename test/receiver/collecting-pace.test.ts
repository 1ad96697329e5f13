import test from 'ava';
import { Collecting } from '../../src/receiver/sessions/collecting.js';
import { type CollectReport, NOTHING_COLLECTED, type Store } from '../../src/store/port/store.js';

test('a collection that could not finish is tried again later, in proportion to what it took', async (t) => {
  let nowMs = 0;
  let runs = 0;
  let next: Partial<CollectReport> = {
    state: 'put-off',
    reason: 'a command reads the store',
    durationMs: 100,
  };
  const collect = async () => {
    runs += 1;
    return { ...NOTHING_COLLECTED, ...next };
  };
  const collecting = new Collecting({
    ...{ store: { collect } as unknown as Store, hasSessions: () => false, nowMs: () => nowMs },
  });
  await collecting.tick();
  nowMs += 1999;
  await collecting.tick();
  t.is(runs, 1);
  nowMs += 1;
  next = { state: 'done', keptPacks: 3, durationMs: 50 };
  await collecting.tick();
  t.is(runs, 2);
  await collecting.tick();
  t.is(runs, 2);
  // A command is not put off.
  next = { state: 'done', keptPacks: 0, durationMs: 1_000_000 };
  await collecting.run({ force: true });
  await collecting.tick();
  t.is(runs, 4);
});

test('it ends at its next step when its command or the receiver is stopped', async (t) => {
  for (const what of ['command', 'receiver'] as const) {
    let steps = 0;
    const command = new AbortController();
    const collect = async ({ pace }: { pace: (bytes: number) => Promise<void> }) => {
      for (; steps < 100; steps += 1) {
        await pace(0);
        if (steps !== 3) continue;
        if (what === 'command') command.abort();
        else collecting.stop();
      }
      return NOTHING_COLLECTED;
    };
    const collecting = new Collecting({ store: { collect } as unknown as Store, hasSessions: () => false });
    await t.throwsAsync(collecting.run({}, command.signal), { code: 'cancelled' });
    t.is(steps, 4);
  }
});

test('it rests while sessions are open, and only then', async (t) => {
  for (const hasSessions of [true, false]) {
    let restedMs = 0;
    const collect = async ({ pace }: { pace: (bytes: number) => Promise<void> }) => {
      for (let i = 0; i < 64; i += 1) await pace(2 ** 20);
      return NOTHING_COLLECTED;
    };
    const collecting = new Collecting({
      ...{ store: { collect } as unknown as Store, hasSessions: () => hasSessions },
      rest: async (restMs) => {
        restedMs += restMs;
      },
    });
    await collecting.run();
    t.is(Math.round(restedMs), hasSessions ? 1000 : 0, '64 MiB');
  }
});

test('none begins by itself while one runs, and a command gets its own', async (t) => {
  const asked: (boolean | undefined)[] = [];
  const ends: (() => void)[] = [];
  const collect = async ({ force }: { force?: boolean }) => {
    asked.push(force);
    await new Promise<void>((resolve) => ends.push(resolve));
    return { ...NOTHING_COLLECTED, freedBytes: 1 };
  };
  const freed: number[] = [];
  const collecting = new Collecting({
    ...{ store: { collect } as unknown as Store, hasSessions: () => false },
    onFreed: (bytes) => freed.push(bytes),
  });
  const first = collecting.tick();
  await collecting.tick();
  const forced = collecting.run({ force: true });
  await collecting.tick();
  t.deepEqual(asked, [undefined, true]);
  for (const end of ends) end();
  await Promise.all([first, forced]);
  t.deepEqual(freed, [1], 'one entry of the audit log');
  const next = collecting.tick();
  ends.at(-1)?.();
  await next;
  t.is(asked.length, 3);
});
