/**
 * A tapped image with its real process, a load through it, a store, and points whose instants are known
 * to lie between two times.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, open, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import type { ExecutionContext } from 'ava';
import { runBackup } from '../../../src/agent/backup/backup.js';
import type { BackupOptions, BackupResult } from '../../../src/agent/backup/options.js';
import { runRestore } from '../../../src/agent/restore/restore.js';
import type { Snapshot, SnapshotProvider } from '../../../src/capture/ports.js';
import { tapProvider } from '../../../src/capture/providers/tap/tap.js';
import type { RestOptions } from '../../../src/capture/quiesce/rest.js';
import type { Point } from '../../../src/domain/point/point.js';
import { native } from '../../../src/native/index.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { openEmbeddedReceiver } from '../../../src/receiver/embedded.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { connectTap } from '../../../src/tap/control/client.js';
import type { TapReport } from '../../../src/tap/control/messages.js';
import { reportOf, startProcess, stopTap } from '../../../src/tap/launch.js';
import { addTap, type RegisteredTap } from '../../../src/tap/registry/registry.js';
import type { TapSettings } from '../../../src/tap/registry/settings.js';
import { temporaryDirectory } from '../disks/loop-device.js';
import { holdAtOnce } from '../machines/hold-at-once.js';
import { COMMAND, IN_MEMORY } from '../machines/stillpoint.js';
import { nativeProgram } from '../native-programs.js';
import { settingsFor } from './taps.js';

const execute = promisify(execFile);

/** CLOCK_MONOTONIC, in ns: before the instant was asked for, and after it was had. */
export interface Interval {
  readonly from: bigint;
  readonly to: bigint;
}

export interface LoadResult {
  readonly answered: number;
  readonly failed: number;
  readonly unanswered: number;
  /** The server went away. */
  readonly died: boolean;
}

export interface TapBackupOptions extends Partial<BackupOptions> {
  readonly quiesce?: RestOptions;
  readonly sampleRandom?: () => number;
  /** The receiver commits, the tap does not hear of it. */
  readonly loseCommit?: boolean;
}

const NO_QUIESCE: RestOptions = { name: 'disk', hooks: [], freeze: 'none' };

export class TapWorld {
  readonly directory: string;
  readonly image: string;
  readonly stateDirectory: string;
  readonly tap: RegisteredTap;
  readonly #log: string;
  /** By session, which is the id of the point that it becomes. */
  readonly #instants = new Map<string, Interval>();
  #receiver: ReceiverPort;
  #patterns = 0;

  private constructor(directory: string, receiver: ReceiverPort, tap: RegisteredTap) {
    this.directory = directory;
    this.image = tap.settings.sourcePath;
    this.stateDirectory = join(directory, 'agent');
    this.#receiver = receiver;
    this.tap = tap;
    this.#log = join(directory, 'load.log');
  }

  /** Not started. The image is all zeros. */
  static async make(
    t: ExecutionContext,
    sizeBytes: number,
    changes: Partial<TapSettings> = {},
    parent: string = IN_MEMORY,
  ): Promise<TapWorld> {
    const directory = await temporaryDirectory(t, 'world', parent);
    const image = join(directory, 'disk.img');
    const file = await open(image, 'w');
    await file.truncate(sizeBytes);
    await file.close();
    await mkdir(join(directory, 'agent'));
    await createStore(join(directory, 'store'));
    const receiver = await openEmbeddedReceiver(join(directory, 'store'), { openStore });
    const tap = await addTap(directory, settingsFor({ directory, image }, changes));
    const world = new TapWorld(directory, receiver, tap);
    t.teardown(async () => {
      await stopTap(tap).catch(() => undefined);
      await world.receiver.close();
    });
    return world;
  }

  get receiver(): ReceiverPort {
    return this.#receiver;
  }

  /** By another directory, as if that had been restored. */
  async replaceStore(directory: string): Promise<void> {
    await this.#receiver.close();
    const store = join(this.directory, 'store');
    await rm(store, { recursive: true });
    await rename(directory, store);
    this.#receiver = await openEmbeddedReceiver(store, { openStore });
  }

  get uri(): string {
    const path = this.tap.settings.listen[0]?.replace(/^unix:/, '') ?? '';
    return `nbd+unix:///${this.tap.settings.exportName}?socket=${path}`;
  }

  start(): Promise<TapReport> {
    const serve = [COMMAND, 'tap', 'serve', this.tap.settings.name, '--state', this.directory, '--json'];
    return startProcess(this.tap, [process.execPath, ...serve]);
  }

  stop(): Promise<void> {
    return stopTap(this.tap);
  }

  /** SIGKILL. @returns when the process is gone. */
  async kill(): Promise<void> {
    const report = await reportOf(this.tap);
    if (report === null) throw new Error('the tap does not run');
    process.kill(report.processId, 'SIGKILL');
    // Not before the last of its files is closed, its locks with them.
    while (isAlive(report.processId)) await sleep(2);
  }

  async report(): Promise<TapReport> {
    const report = await reportOf(this.tap);
    if (report === null) throw new Error('the tap does not run');
    return report;
  }

  /** @returns when all connections are made. The log of earlier loads of this world goes on. */
  async startLoad(t: ExecutionContext, seed: number, connections: number, depth: number): Promise<Load> {
    return Load.start(t, ['run', this.uri, this.#log, String(seed), String(connections), String(depth)]);
  }

  /** Through the tap: other bytes each time. */
  async writeBlocks(blockIndexes: readonly number[], blockSize: number): Promise<void> {
    const byte = String(1 + (this.#patterns++ % 255));
    const offsets = blockIndexes.map((index) => String(index * blockSize));
    await execute(nativeProgram('nbd_load'), ['put', this.uri, byte, String(blockSize), ...offsets]);
  }

  async backup(options: TapBackupOptions = {}): Promise<BackupResult> {
    const { quiesce = NO_QUIESCE, sampleRandom, loseCommit = false, ...rest } = options;
    const provider = tapProvider({
      tap: this.tap,
      rest: quiesce,
      ...(sampleRandom === undefined ? {} : { random: sampleRandom }),
    });
    const noting: SnapshotProvider = {
      name: provider.name,
      hold: async (path, hold) => {
        const from = process.hrtime.bigint();
        const snapshot = await provider.hold(path, hold);
        this.#instants.set(hold.sessionId, { from, to: process.hrtime.bigint() });
        return loseCommit ? withoutCommit(snapshot) : snapshot;
      },
    };
    const { receiver, image: path, stateDirectory } = this;
    return runBackup({
      ...{ receiver, path, device: 'disk', stateDirectory, provider: noting },
      ...rest,
    });
  }

  /** Also of backups that failed, but whose point had been committed. */
  points(): Promise<Point[]> {
    return this.receiver.points('disk');
  }

  /**
   * @returns the path of an image of the point; of the last one that was restored, there is none any more.
   */
  async restore(point: Point): Promise<string> {
    const target = join(this.directory, 'restored.img');
    await rm(target, { force: true });
    const { receiver, stateDirectory } = this;
    await runRestore({ receiver, point, target, stateDirectory });
    return target;
  }

  instantOf(point: Point): Interval {
    const instant = this.#instants.get(point.id);
    if (instant === undefined) throw new Error(`${point.id} is no point of this world`);
    return instant;
  }

  /** Holds an instant of everything, reads it at once, in reads of this length, and judges it. */
  async judgeHeld(readBytes: number): Promise<void> {
    const control = await connectTap(this.tap.controlPath);
    try {
      const sessionId = randomBytes(16).toString('hex');
      const from = process.hrtime.bigint();
      const options = {
        sessionId,
        basePointId: null,
        full: true,
        readBlockSize: 65_536,
        sampleBlocks: [],
      };
      const { snapshotAddress, exportName } = await holdAtOnce(control, options);
      const to = process.hrtime.bigint();
      const device = await native.openSnapshot(snapshotAddress, exportName);
      const image = join(this.directory, 'held.img');
      const parts: Buffer[] = [];
      for (let at = 0; at < device.sizeBytes; at += readBytes) {
        parts.push(await device.read(at, Math.min(readBytes, device.sizeBytes - at)));
      }
      await device.close();
      await control.abort();
      await writeFile(image, parts);
      await this.#judge(image, { from, to });
    } finally {
      control.close();
    }
  }

  /** @throws if the image is not the point's instant; `nbd_load` says the rule. */
  async judge(point: Point, image: string): Promise<{ readonly dataSectors: number }> {
    return this.#judge(image, this.instantOf(point));
  }

  async #judge(image: string, instant: Interval): Promise<{ readonly dataSectors: number }> {
    const { stdout } = await execute(nativeProgram('nbd_load'), [
      'check',
      image,
      this.#log,
      String(instant.from),
      String(instant.to),
    ]);
    return JSON.parse(stdout) as { dataSectors: number };
  }
}

function isAlive(processId: number): boolean {
  try {
    return process.kill(processId, 0);
  } catch {
    return false;
  }
}

function withoutCommit(snapshot: Snapshot): Snapshot {
  const { tracking } = snapshot;
  if (tracking === undefined) throw new Error('nothing is tracked');
  const committed = () => Promise.reject(new Error('lost: the tap does not hear of the commit'));
  return { ...snapshot, tracking: { ...tracking, committed } };
}

export class Load {
  readonly #child: ChildProcess;
  readonly #ended: Promise<unknown>;
  #output = '';
  #errors = '';

  private constructor(child: ChildProcess) {
    this.#child = child;
    this.#ended = once(child, 'close');
    child.stdout?.on('data', (chunk: Buffer) => {
      this.#output += chunk.toString();
    });
    child.stderr?.on('data', (chunk: Buffer) => {
      this.#errors += chunk.toString();
    });
  }

  static async start(t: ExecutionContext, args: readonly string[]): Promise<Load> {
    const child = spawn(nativeProgram('nbd_load'), args, { stdio: ['ignore', 'pipe', 'pipe'] });
    t.teardown(() => void child.kill('SIGKILL'));
    const load = new Load(child);
    while (!load.#output.includes('\n')) {
      if (child.exitCode !== null) throw new Error(load.#errors);
      await sleep(2);
    }
    return load;
  }

  /** Ends by itself when the server is gone. @throws what went wrong otherwise. */
  async result(): Promise<LoadResult> {
    await this.#ended;
    if (this.#child.exitCode !== 0) throw new Error(this.#errors);
    return JSON.parse(this.#output.trimEnd().split('\n').at(-1) ?? '') as LoadResult;
  }

  stop(): Promise<LoadResult> {
    this.#child.kill('SIGTERM');
    return this.result();
  }
}
