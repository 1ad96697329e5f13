/** The daemon under a clock that the test sets, with backups that the test ends. */
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { BackupResult } from '../../../src/agent/backup/options.js';
import { viewAtRest } from '../../../src/agent/daemon/at-rest.js';
import { Daemon } from '../../../src/agent/daemon/daemon.js';
import { presenceOf } from '../../../src/agent/daemon/presence.js';
import { readMemory } from '../../../src/agent/daemon/state.js';
import { loadAgentConfig } from '../../../src/config/agent-config.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const MINUTE = 60_000;
const HOUR = 60 * MINUTE;
const DAY = 24 * HOUR;
const START = Date.UTC(2026, 4, 1);

interface Begun {
  readonly name: string;
  readonly atMs: number;
  readonly full: boolean;
  done(): void;
  fail(error: Error): void;
}

class World {
  readonly directory: string;
  nowMs = START;
  readonly begun: Begun[] = [];
  readonly log: { msg: string; device?: string; reason?: string }[] = [];
  readonly missing = new Set<string>();
  /** Devices whose backups have begun and not ended. */
  readonly active = new Set<string>();
  /** Backups end by themselves, well. */
  isQuick = false;
  stop = new AbortController();

  constructor(directory: string) {
    this.directory = directory;
  }

  get state(): string {
    return join(this.directory, 'state');
  }

  async configure(text: string): Promise<void> {
    await mkdir(join(this.directory, 'config'), { recursive: true });
    await writeFile(join(this.directory, 'config/agent.toml'), text);
  }

  load = async () => {
    const { settings, devices } = await loadAgentConfig(join(this.directory, 'config'), {});
    return { parallel: settings.parallel, devices };
  };

  open(): Promise<Daemon> {
    return Daemon.open({
      ...{ stateDirectory: this.state, load: this.load, random: () => 0.5, signal: this.stop.signal },
      nowMs: () => this.nowMs,
      isThere: async (path) => !this.missing.has(path),
      log: pino({ level: 'info' }, { write: (line: string) => void this.log.push(JSON.parse(line)) }),
      backUp: ({ name }, { full, signal }) =>
        new Promise<BackupResult>((resolve, reject) => {
          const sequence = this.begun.length + 1;
          this.active.add(name);
          const done = () => {
            this.active.delete(name);
            resolve(resultOf(name, sequence));
          };
          const fail = (error: Error) => {
            this.active.delete(name);
            reject(error);
          };
          this.begun.push({ name, full, atMs: this.nowMs, done, fail });
          signal.addEventListener('abort', () =>
            fail(new StillpointError('cancelled', { thing: 'the command', reason: 'it was cancelled' })),
          );
          if (this.isQuick) done();
        }),
    });
  }

  /** Sets the clock, has the daemon look at it, and waits for what that begins. */
  async at(daemon: Daemon, hours: number): Promise<string[]> {
    this.nowMs = START + hours * HOUR;
    const before = this.begun.length;
    await daemon.tick();
    await this.settled(daemon);
    return this.begun.slice(before).map(({ name }) => name);
  }

  /** All that is to begin has begun, and what has ended has been written. */
  async settled(daemon: Daemon): Promise<void> {
    for (const endMs = Date.now() + 20_000; Date.now() < endMs; await sleep(2)) {
      const running = (await daemon.view([])).devices.filter(({ state }) => state === 'running');
      const names = running.map(({ name }) => name).sort();
      if (names.join() === [...this.active].sort().join()) return;
    }
    throw new Error('it never settles');
  }

  async state_(daemon: Daemon, name: string) {
    const { devices } = await daemon.view([]);
    return devices.find((device) => device.name === name);
  }
}

function resultOf(device: string, sequence: number): BackupResult {
  const point = { device, sequence, instant: new Date(START).toISOString() };
  return {
    ...{ point, warnings: [], wireBytes: 7, base: { start: 'empty', reason: '' }, tracking: null },
  } as unknown as BackupResult;
}

async function makeWorld(t: ExecutionContext, config: string): Promise<World> {
  const world = new World(await tempDir(t));
  await world.configure(config);
  return world;
}

const TWO = `parallel = 1
[[device]]
name = "a"
path = "/a"
schedule = "02:00 UTC"
retries = 2
[[device]]
name = "b"
path = "/b"
schedule = "02:00 UTC"
[[device]]
name = "c"
path = "/c"
`;
const broken = new StillpointError('device-io', { thing: '/a', reason: 'it broke' });

test('what is due runs, so many at once, one session a device; what failed is tried again', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  t.deepEqual(await world.at(daemon, 1.9), []);
  t.deepEqual(await world.at(daemon, 2), ['a']);
  t.deepEqual(await world.at(daemon, 2.01), [], 'one at once');
  t.like(await world.state_(daemon, 'a'), { state: 'running', running: { why: 'due' } });
  await t.throwsAsync(
    daemon.backUpNow('a', false, world.stop.signal, () => undefined),
    {
      code: 'session-busy',
    },
  );
  world.begun[0]?.fail(broken);
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'a'), {
    ...{ state: 'retrying', failures: 1, problem: '/a: it broke' },
    ...{ last: { state: 'failed', why: 'due', reason: '/a: it broke' } },
  });
  t.deepEqual(await world.at(daemon, 2.02), ['b']);
  world.begun[1]?.done();
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'b'), {
    ...{
      state: 'waiting',
      failures: 0,
      nextAt: new Date(START + DAY + 2 * HOUR).toISOString(),
      problem: null,
    },
    ...{ lastGood: { point: 'b@2' }, last: { state: 'done', point: 'b@2', wireBytes: 7 } },
  });
  t.deepEqual(await world.at(daemon, 2.1), ['a'], 'the first retry');
  world.begun[2]?.fail(broken);
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 2.5), ['a'], 'the second');
  world.begun[3]?.fail(broken);
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 20), [], 'no third one');
  t.regex((await world.state_(daemon, 'a'))?.problem ?? '', /^3 failures in a row, the last: /);
  world.isQuick = true;
  t.deepEqual(await world.at(daemon, 26), ['b'], 'it has waited longer');
  t.deepEqual(await world.at(daemon, 26.01), ['a']);
  t.like(await world.state_(daemon, 'a'), { failures: 0, problem: null });
  t.like(await world.state_(daemon, 'c'), { state: 'on-demand', nextAt: null, last: null });
  const asked = await daemon.backUpNow('c', true, world.stop.signal, () => undefined);
  t.is(asked.point.device, 'c');
  t.like(world.begun.at(-1), { name: 'c', full: true });
  await t.throwsAsync(
    daemon.backUpNow('d', true, world.stop.signal, () => undefined),
    {
      code: 'device-unknown',
    },
  );
  t.throws(() => daemon.cancel('c'), { code: 'session-unknown' });
});

test('a restart forgets nothing: missed runs are one, an interrupted one goes on, pauses stay', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  await daemon.pause('b', 30 * DAY);
  t.deepEqual(await world.at(daemon, 2), ['a']);
  // The process dies here. Three days later:
  world.active.clear();
  const later = await world.open();
  t.like(await world.state_(later, 'a'), {
    last: { state: 'interrupted', reason: 'the agent ended meanwhile' },
  });
  t.deepEqual(await world.at(later, 74.5), ['a']);
  world.begun.at(-1)?.done();
  await world.settled(later);
  t.deepEqual(await world.at(later, 75), []);
  t.like(await world.state_(later, 'b'), { state: 'paused' });
  t.like(await viewAtRest(world.state, await world.load(), world.nowMs), {
    devices: {
      0: { name: 'a', lastGood: { point: 'a@2' }, last: { state: 'done' } },
      1: { state: 'paused' },
    },
  });
  await later.resume(null);
  t.deepEqual(await world.at(later, 75.1), ['b']);
  // Stopped, not killed: it is parked, and goes on at once.
  const end = later.run();
  world.stop.abort();
  await end;
  world.stop = new AbortController();
  const again = await world.open();
  t.like(await world.state_(again, 'b'), {
    ...{ last: { state: 'interrupted', reason: 'the agent was stopped meanwhile' }, failures: 0 },
  });
  t.deepEqual(await world.at(again, 75.2), ['b']);
  await writeFile(join(world.state, 'daemon.json'), 'damaged');
  await world.open();
  t.true(world.log.some(({ msg }) => msg.startsWith('what was remembered of runs is damaged')));
});

test('all are paused for a time; then what was missed is made up for once', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  world.isQuick = true;
  await daemon.pause(null, 2 * DAY);
  t.deepEqual(await world.at(daemon, 27), []);
  t.like(await daemon.view([]), { isPaused: true, pausedUntil: new Date(START + 2 * DAY).toISOString() });
  t.deepEqual(await world.at(daemon, 48), ['a']);
  t.deepEqual(await world.at(daemon, 48.01), ['b']);
  t.deepEqual(await world.at(daemon, 49), []);
});

test('a device that is missing is told of once, and is backed up when it is back', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  world.isQuick = true;
  world.missing.add('/a');
  t.deepEqual(await world.at(daemon, 2), ['b']);
  for (const hours of [3, 4, 5]) t.deepEqual(await world.at(daemon, hours), []);
  t.like(await world.state_(daemon, 'a'), { state: 'absent', problem: 'it is not there', failures: 0 });
  const told = () => world.log.filter(({ device }) => device === 'a').map(({ msg }) => msg);
  t.deepEqual(told(), ['the device is not there; its backup waits for it']);
  world.missing.clear();
  t.deepEqual(await world.at(daemon, 6), ['a']);
  t.is(told()[1], 'the device is back');
});

test('another command that works on a device is not a failure', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  await world.at(daemon, 2);
  const busy = new StillpointError('session-busy', {
    thing: 'device a',
    reason: 'it is at work',
    permanent: false,
  });
  world.begun[0]?.fail(busy);
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'a'), { failures: 0, problem: null, state: 'retrying' });
  await world.at(daemon, 2.01);
  world.begun[1]?.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 2.1), ['a']);
});

test('a new configuration applies while backups run; a bad one is refused, and the old one stays', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  t.deepEqual(await world.at(daemon, 2), ['a']);
  await world.configure('parallel = 0');
  await t.throwsAsync(daemon.reload(), { code: 'config' });
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['a', 'b', 'c'],
  );
  t.regex((await daemon.view([])).problems[0] ?? '', /agent\.toml:1: parallel/);
  await world.configure('parallel = 2\n[[device]]\nname = "b"\npath = "/b"\nschedule = "every 1h"\n');
  await daemon.reload();
  t.deepEqual((await daemon.view([])).problems, []);
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['b', 'a'],
    'a runs',
  );
  world.begun[0]?.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 2.1), ['b']);
  await daemon.reload();
  t.deepEqual(
    daemon.devices.map(({ name }) => name),
    ['b'],
  );
  t.deepEqual(
    (await readMemory(world.state)).devices.map(({ name }) => name),
    ['b'],
  );
});

test('a match of wildcards that is gone is said until it is forgotten; a new one is backed up', async (t) => {
  const world = await makeWorld(t, '');
  const images = join(world.directory, 'images');
  await mkdir(images);
  for (const name of ['x.raw', 'y.raw']) await writeFile(join(images, name), '');
  await world.configure(`[[device]]\nname = "vm-{}"\npath = "${images}/*.raw"\nschedule = "every 1h"\n`);
  const daemon = await world.open();
  world.isQuick = true;
  t.deepEqual((await world.at(daemon, 1)).sort(), ['vm-x', 'vm-y']);
  await rm(join(images, 'x.raw'));
  await writeFile(join(images, 'z.raw'), '');
  t.deepEqual(await world.at(daemon, 2), ['vm-y']);
  t.like(await world.state_(daemon, 'vm-x'), {
    state: 'vanished',
    lastGood: { point: 'vm-x@1' },
  });
  const again = await world.open();
  t.like(await world.state_(again, 'vm-x'), { state: 'vanished' }, 'after a restart, too');
  t.deepEqual((await world.at(again, 3.1)).sort(), ['vm-y', 'vm-z']);
  await again.forget('vm-x');
  t.is(await world.state_(again, 'vm-x'), undefined);
  await t.throwsAsync(again.forget('vm-y'), { code: 'device-unknown' });
  t.is(world.log.filter(({ msg }) => msg === 'the device has vanished').length, 2, 'once by each process');
});

test('a backup is cancelled by its name, and a schedule goes on after it', async (t) => {
  const world = await makeWorld(t, TWO);
  const daemon = await world.open();
  await world.at(daemon, 2);
  daemon.cancel('a');
  await world.settled(daemon);
  t.like(await world.state_(daemon, 'a'), { state: 'waiting', failures: 0, last: { state: 'cancelled' } });
  t.deepEqual(await world.at(daemon, 2.1), ['b']);
  world.begun[1]?.done();
  await world.settled(daemon);
  t.deepEqual(await world.at(daemon, 26), ['a']);
});

test('a path that does not answer is missing, and is asked for once at a time', async (t) => {
  let looks = 0;
  let answer: () => void = () => undefined;
  const isThere = presenceOf((path) => {
    looks += 1;
    if (path === '/none') return Promise.reject(new Error('ENOENT'));
    return path === '/there' ? Promise.resolve() : new Promise<void>((resolve) => (answer = resolve));
  }, 20);
  t.deepEqual([await isThere('/there'), await isThere('/none')], [true, false]);
  t.false(await isThere('/hung'));
  t.false(await isThere('/hung'));
  t.is(looks, 3);
  answer();
  await sleep(1);
  const late = isThere('/hung');
  answer();
  t.true(await late);
});
