/** A daemon under a clock that the test sets, with backups that the test ends. */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { pino } from 'pino';
import type { BackupResult } from '../../../src/agent/backup/options.js';
import { Daemon } from '../../../src/agent/daemon/daemon.js';
import type { GroupJob } from '../../../src/agent/daemon/jobs.js';
import { Matches } from '../../../src/agent/daemon/matches.js';
import type { JobResult, OnJobEvent } from '../../../src/agent/daemon/options.js';
import type { GroupBackupResult } from '../../../src/agent/group/options.js';
import { loadAgentConfig } from '../../../src/config/agent-config.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { tempDir } from '../disks/temp-dir.js';

export const HOUR = 60 * 60_000;
export const DAY = 24 * HOUR;
export const START = Date.UTC(2026, 4, 1);

interface Begun {
  readonly name: string;
  readonly atMs: number;
  readonly full: boolean;
  readonly onEvent: OnJobEvent;
  done(): void;
  fail(error: Error): void;
}

export class World {
  readonly directory: string;
  nowMs = START;
  readonly begun: Begun[] = [];
  readonly log: { msg: string; device?: string; group?: string; reason?: string }[] = [];
  readonly missing = new Set<string>();
  /** Devices whose backups have begun and not ended. */
  readonly active = new Set<string>();
  /** Backups end by themselves, well. */
  isQuick = false;
  /** Before it is said whether a path is there. */
  look: (path: string) => Promise<void> = () => Promise.resolve();
  matches = new Matches();
  stop = new AbortController();
  readonly #living: Daemon[] = [];

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
    const { settings, devices, groups } = await loadAgentConfig(join(this.directory, 'config'));
    return { parallel: settings.parallel, devices, groups };
  };

  async open(): Promise<Daemon> {
    const daemon = await Daemon.open({
      ...{ stateDirectory: this.state, load: this.load, random: () => 0.5, signal: this.stop.signal },
      nowMs: () => this.nowMs,
      isThere: async (path) => {
        await this.look(path);
        return !this.missing.has(path);
      },
      matches: this.matches,
      log: pino({ level: 'info' }, { write: (line: string) => void this.log.push(JSON.parse(line)) }),
      backUp: (job, { full, signal, onEvent }) =>
        new Promise<JobResult>((resolve, reject) => {
          const { name } = job;
          const sequence = this.begun.length + 1;
          this.active.add(name);
          const done = () => {
            this.active.delete(name);
            resolve(job.group === null ? resultOf(name, sequence) : this.#groupResult(job, sequence));
          };
          const fail = (error: Error) => {
            this.active.delete(name);
            reject(error);
          };
          this.begun.push({ name, full, atMs: this.nowMs, onEvent, done, fail });
          signal.addEventListener('abort', () =>
            fail(new StillpointError('cancelled', { thing: 'the command', reason: 'it was cancelled' })),
          );
          if (this.isQuick) done();
        }),
    });
    this.#living.push(daemon);
    return daemon;
  }

  /** Of those members that are there. */
  #groupResult({ name, devices, group }: GroupJob, sequence: number): GroupBackupResult {
    const isThere = ({ path }: { readonly path: string }) => !this.missing.has(path);
    const leftOut = devices.filter((device) => !isThere(device));
    const results = devices.filter(isThere).map((device) => resultOf(device.name, sequence));
    return {
      group: { id: '0'.repeat(32), name: group.name, sequence, memberCount: results.length },
      results,
      leftOut: leftOut.map(({ name: device, path }) => ({
        device,
        error: new StillpointError('device-not-found', { thing: path, reason: `${name} lacks it` }),
      })),
    };
  }

  /** All that lives has written what it had to. */
  async end(): Promise<void> {
    this.stop.abort();
    await Promise.all(this.#living.map((daemon) => daemon.run()));
  }

  /** The process ends at once: nothing that it had begun writes any more. */
  die(): void {
    this.active.clear();
    this.#living.length = 0;
    this.stop = new AbortController();
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
      const running = (await daemon.view()).devices.filter(({ state }) => state === 'running');
      const names = running.map(({ name }) => name).sort();
      if (names.join() === [...this.active].sort().join()) return;
    }
    throw new Error('it never settles');
  }

  async state_(daemon: Daemon, name: string) {
    const { devices } = await daemon.view();
    return devices.find((device) => device.name === name);
  }
}

/** Of a group of these. */
export function resultsOf(names: readonly string[], sequence: number): GroupBackupResult {
  const results = names.map((name) => resultOf(name, sequence));
  const group = { id: '0'.repeat(32), name: 'all', sequence, memberCount: names.length };
  return { group, results, leftOut: [] };
}

function resultOf(device: string, sequence: number): BackupResult {
  const point = { device, sequence, instant: new Date(START).toISOString() };
  return {
    ...{ point, warnings: [], wireBytes: 7, base: { start: 'empty', reason: '' }, tracking: null },
  } as unknown as BackupResult;
}

export async function makeWorld(t: ExecutionContext, config: string): Promise<World> {
  const world = new World(await tempDir(t));
  await world.configure(config);
  t.teardown(() => world.end());
  return world;
}

export const TWO = `parallel = 1
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
export const broken = new StillpointError('device-io', { thing: '/a', reason: 'it broke' });

/** A promise that the test resolves. */
export function gate(): { readonly promise: Promise<void>; open(): void } {
  let open: () => void = () => undefined;
  const promise = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { promise, open };
}
