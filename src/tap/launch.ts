/**
 * Starts and stops the process of a tap: under systemd if its unit is installed, otherwise as a process of
 * its own.
 */
import { type ChildProcess, execFile, spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import { z } from 'zod';
import { ERROR_CODES, isStillpointError, StillpointError } from '../domain/base/errors.js';
import { lockFile } from '../native/files.js';
import { connectTap } from './control/client.js';
import type { TapReport } from './control/messages.js';
import type { RegisteredTap } from './registry/registry.js';

const execute = promisify(execFile);

/** A large map that is read, a slow device that is flushed. */
const START_TIMEOUT_MS = 60_000;
const STOP_TIMEOUT_MS = 120_000;
const POLL_MS = 50;
const LOG_TAIL_BYTES_MAX = 64 * 1024;
const UNIT_DIRECTORIES = [
  '/etc/systemd/system',
  '/usr/local/lib/systemd/system',
  '/usr/lib/systemd/system',
  '/lib/systemd/system',
];

const unitOf = (tap: RegisteredTap): string => `stillpoint-tap@${tap.settings.name}.service`;

/** Systemd runs this machine, and knows the unit. Its taps are those of the default state directory. */
export function hasUnit(): boolean {
  return (
    existsSync('/run/systemd/system') &&
    UNIT_DIRECTORIES.some((directory) => existsSync(`${directory}/stillpoint-tap@.service`))
  );
}

/** Also at each start of the machine; returns when systemd says that it serves. @throws StillpointError */
export async function startUnit(tap: RegisteredTap): Promise<TapReport> {
  const unit = unitOf(tap);
  const failed = (cause: unknown) =>
    new StillpointError('device-io', {
      thing: unit,
      reason: 'systemd could not start it',
      remedy: `See: journalctl -u ${unit}`,
      cause,
    });
  await execute('systemctl', ['enable', '--now', unit]).catch((cause: unknown) => {
    throw failed(cause);
  });
  return waitUntilServing(tap, async () => null);
}

/** Ends also what systemd still tries. */
export async function disableUnit(tap: RegisteredTap): Promise<void> {
  await execute('systemctl', ['disable', '--now', unitOf(tap)]);
}

/**
 * A process that outlives this one and all sessions, with the tap's `log` as its output.
 * @param command what serves the tap, with errors as JSON lines (`--json`).
 * @throws StillpointError as the process said
 */
export async function startProcess(tap: RegisteredTap, command: readonly string[]): Promise<TapReport> {
  const [program = '', ...args] = command;
  const log = await open(tap.logPath, 'a', 0o600);
  try {
    const { size } = await log.stat();
    const child = spawn(program, args, { detached: true, cwd: '/', stdio: ['ignore', log.fd, log.fd] });
    const ended = endOf(child);
    let end: string | null = null;
    void ended.then((how) => {
      end = how;
    });
    const report = await waitUntilServing(tap, async () =>
      end === null ? null : ((await errorInLog(tap.logPath, size)) ?? didNotStart(tap, end)),
    );
    child.unref();
    return report;
  } finally {
    await log.close();
  }
}

function endOf(child: ChildProcess): Promise<string> {
  return new Promise((resolve) => {
    child.once('error', (error) => resolve(error.message));
    child.once('exit', (code, signal) => resolve(signal ?? `exit code ${code}`));
  });
}

function didNotStart(tap: RegisteredTap, how: string): StillpointError {
  return new StillpointError('device-io', {
    thing: `tap ${tap.settings.name}`,
    reason: `its process ended before it served (${how})`,
    remedy: `See ${tap.logPath}`,
  });
}

const errorLine = z.looseObject({
  event: z.literal('error'),
  code: z.enum(ERROR_CODES),
  thing: z.string(),
  reason: z.string(),
  remedy: z.string().nullable(),
});

/** The error that a command prints with `--json`, where the log has one after the byte offset. */
async function errorInLog(path: string, byteOffset: number): Promise<StillpointError | null> {
  const lines = (await readFile(path))
    .subarray(byteOffset)
    .subarray(-LOG_TAIL_BYTES_MAX)
    .toString('utf8')
    .split('\n');
  for (const line of lines.reverse()) {
    const { data } = errorLine.safeParse(parseJson(line));
    if (data === undefined) continue;
    const { code, thing, reason, remedy } = data;
    return new StillpointError(code, { thing, reason, ...(remedy === null ? {} : { remedy }) });
  }
  return null;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** @param failure asked again and again: why it will never serve; null: it still may. */
async function waitUntilServing(
  tap: RegisteredTap,
  failure: () => Promise<StillpointError | null>,
): Promise<TapReport> {
  for (
    const deadline = performance.now() + START_TIMEOUT_MS;
    performance.now() < deadline;
    await sleep(POLL_MS)
  ) {
    const report = await reportOf(tap);
    if (report !== null) return report;
    const error = await failure();
    if (error !== null) throw error;
  }
  throw new StillpointError('timeout', {
    thing: `tap ${tap.settings.name}`,
    reason: `it does not serve after ${START_TIMEOUT_MS / 1000} s`,
    remedy: `See ${tap.logPath}`,
    permanent: false,
  });
}

/** Null: it does not run. */
export async function reportOf(tap: RegisteredTap): Promise<TapReport | null> {
  try {
    const control = await connectTap(tap.controlPath);
    try {
      return await control.status();
    } finally {
      control.close();
    }
  } catch (error) {
    if (isStillpointError(error, 'unreachable') || isStillpointError(error, 'connection-lost')) return null;
    throw error;
  }
}

/**
 * Resolves when the process has let go of the device. Does nothing if none serves.
 * @throws StillpointError `timeout`
 */
export async function stopTap(tap: RegisteredTap): Promise<void> {
  if ((await reportOf(tap)) !== null) {
    const control = await connectTap(tap.controlPath);
    await control.stop();
    control.close();
  }
  for (
    const deadline = performance.now() + STOP_TIMEOUT_MS;
    performance.now() < deadline;
    await sleep(POLL_MS)
  ) {
    const lock = await lockFile(tap.lockPath);
    if (lock !== null) return lock.close();
  }
  throw new StillpointError('timeout', {
    thing: `tap ${tap.settings.name}`,
    reason: `it has not stopped after ${STOP_TIMEOUT_MS / 1000} s`,
    remedy: 'The device below may hang; see the log of the tap.',
    permanent: false,
  });
}
