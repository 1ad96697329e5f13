/**
 * Images and devices with a tap, by the command line alone, as their users have them: for tests with other
 * people's programs as clients.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { EXIT_OK } from '../../../src/cli/output/exit-codes.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { TapReport } from '../../../src/tap/control/messages.js';
import { nbdUri } from '../../../src/tap/registry/listen-address.js';
import type { TapSettings } from '../../../src/tap/registry/settings.js';
import { makeStampedImage } from '../bytes/stamped-blocks.js';
import { difference } from '../disks/images.js';
import { run } from '../disks/loop-device.js';
import {
  lastResult,
  type Machine,
  makeMachine,
  type Outcome,
  outcome,
  restore,
  runExpecting,
  run as stillpoint,
  start as stillpointProcess,
} from '../machines/stillpoint.js';

const NAME = 'disk';

/** Runs somebody else's program; its failure is an outcome. */
export async function client(program: string, ...args: string[]): Promise<Outcome> {
  // The distribution's own interpreter: another one that comes first in PATH lacks its packages. It reads
  // modules from where it is started, so not in /tmp, where anybody's re.py would be taken for Python's.
  const env = { ...process.env, LC_ALL: 'C', PATH: `/usr/bin:${process.env.PATH ?? ''}` };
  return outcome(spawn(program, args, { env, cwd: '/', stdio: ['ignore', 'pipe', 'pipe'] }));
}

/** @returns what it printed; a failure fails the test. */
export async function succeeds(t: ExecutionContext, program: string, ...args: string[]): Promise<string> {
  const { code, signal, stdout, stderr } = await client(program, ...args);
  if (code !== 0) {
    t.fail(`${program} ${args.join(' ')}: exit code ${code ?? signal}\n${stdout}\n${stderr}`);
  }
  return stdout;
}

export interface Tapped {
  readonly machine: Machine;
  /** A path in the machine's directory. */
  at(name: string): string;
  /** What is tapped. */
  readonly source: string;
  readonly name: string;
  readonly settings: TapSettings;
  /** Of the address that the tap listens on; of the only one. */
  readonly uri: string;
  report(): Promise<TapReport>;
  stop(): Promise<void>;
  start(): Promise<void>;
  /** SIGKILL; returns when it is gone. */
  kill(): Promise<void>;
  /** Into the machine's own store. */
  backup(...args: string[]): Promise<BackupResult>;
  /** Starts a backup, and returns when the instant is taken and nothing has been read of it yet. */
  pausedBackup(...args: string[]): Promise<PausedBackup>;
  /** Backs up, restores elsewhere, and compares all three: what the clients wrote is what a restore gives. */
  checkPoint(...args: string[]): Promise<BackupResult>;
}

export interface BackupResult {
  readonly point: Point;
  /** Whether it read only what the map names, and why. */
  readonly tracking: { readonly used: boolean; readonly reason: string };
}

export interface PausedBackup {
  readonly child: ChildProcess;
  /** Lets it go on. @returns how it ended. */
  go(): Promise<Outcome>;
}

export interface TappedOptions {
  readonly machine?: Machine;
  /** Default: an image without data, of `sizeBytes`. */
  readonly source?: string;
  readonly sizeBytes?: number;
  /** More of `tap add`. */
  readonly args?: readonly string[];
}

/** The tap is removed when the test ends, whatever became of it. */
export async function tapped(t: ExecutionContext, options: TappedOptions = {}): Promise<Tapped> {
  const machine = options.machine ?? (await makeMachine(t, 'tapped'));
  const at = (name: string) => join(machine.directory, name);
  const source = options.source ?? at('disk.img');
  if (options.source === undefined) run('truncate', '--size', String(options.sizeBytes ?? 0), source);
  const json = async (...args: string[]) =>
    lastResult<TapSettings & { readonly report: TapReport | null }>(
      (await runExpecting(t, machine, EXIT_OK, 'tap', ...args, '--json')).stdout,
    );
  const report = async (): Promise<TapReport> => {
    const { report } = await json('status', NAME);
    if (report === null) throw new Error('the tap does not run');
    return report;
  };
  const added = await json('add', source, '--name', NAME, ...(options.args ?? []));
  t.teardown(async () => {
    const { code, stderr } = await stillpoint(machine, 'tap', 'remove', NAME, '--force');
    if (code !== EXIT_OK) throw new Error(stderr);
  });
  const store = at('store');
  const self: Tapped = {
    ...{ machine, at, source, name: NAME, settings: added, report },
    uri: nbdUri(added.report?.listen[0] ?? '', added.exportName),
    stop: async () => void (await json('stop', NAME)),
    start: async () => void (await json('start', NAME)),
    kill: async () => {
      const { processId } = await report();
      process.kill(processId, 'SIGKILL');
      while (isAlive(processId)) await sleep(5);
    },
    backup: async (...args) => {
      const command = ['backup', source, '--name', NAME, '--store', store, '--json'];
      return lastResult<BackupResult>((await runExpecting(t, machine, EXIT_OK, ...command, ...args)).stdout);
    },
    pausedBackup: async (...args) => {
      const [hook, taken, go] = [at('hook'), at('taken'), at('go')];
      // After the instant hooks are let go, and the backup waits for them.
      // The end of the test takes the directory away.
      const wait = `while [ -e ${taken} ] && ! [ -e ${go} ]; do sleep 0.02; done`;
      await writeFile(hook, `#!/bin/sh\necho ready\nread -r word\n: > ${taken}\n${wait}\n`, { mode: 0o755 });
      await Promise.all([taken, go].map((path) => rm(path, { force: true })));
      const child = stillpointProcess(machine, [
        ...['backup', source, '--name', NAME, '--store', store, '--hook', hook, '--json', ...args],
      ]);
      const ended = outcome(child);
      t.teardown(() => child.kill('SIGKILL'));
      while (!existsSync(taken)) {
        if (child.exitCode !== null) throw new Error((await ended).stderr);
        await sleep(10);
      }
      return {
        child,
        go: async () => {
          await writeFile(go, '');
          return ended;
        },
      };
    },
    checkPoint: async (...args) => {
      const result = await self.backup(...args);
      const { point } = result;
      const target = at(`restored-${point.sequence}`);
      await restore(t, machine, store, `${NAME}@${point.sequence}`, target);
      t.is(difference(target, source), null, `point ${point.sequence}`);
      return result;
    },
  };
  return self;
}

/** Not a zombie either. */
function isAlive(processId: number): boolean {
  try {
    return !/^State:\s+[ZX]/m.test(run('cat', `/proc/${processId}/status`));
  } catch {
    return false;
  }
}

export const DATA_BYTES = 16 * MiB + 512;

/** A tapped image of DATA_BYTES with data in its 64 KiB blocks 1, 2, 3, 100 and 255; holes elsewhere. */
export async function tappedData(t: ExecutionContext, ...args: string[]): Promise<Tapped> {
  const machine = await makeMachine(t, 'tapped');
  const source = join(machine.directory, 'disk.img');
  const blockIndexes = [1, 2, 3, 100, 255];
  await makeStampedImage(source, { sizeBytes: DATA_BYTES, blockSize: 64 * KiB, seed: 3, blockIndexes });
  return tapped(t, { machine, source, args });
}
