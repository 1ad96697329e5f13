/**
 * Tells systemd how a service is (sd_notify(3)). Node can't send datagrams to a Unix socket, so that
 * systemd-notify(1) does; the unit needs NotifyAccess=all. Without NOTIFY_SOCKET nothing is done.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const TIMEOUT_MS = 10_000;

export interface ServiceNotifier {
  /** It serves. */
  ready(): Promise<void>;
  reloading(): Promise<void>;
  stopping(): Promise<void>;
  /** One line. */
  status(text: string): Promise<void>;
  /** Ends what keeps the watchdog quiet. */
  close(): void;
}

/**
 * @param isAlive asked twice in each interval of the watchdog, if the unit has one
 * @param onProblem is told what systemd could not be told, and why
 */
export function serviceNotifier(
  environment: Readonly<Record<string, string | undefined>>,
  isAlive: () => boolean,
  onProblem: (reason: string) => void,
): ServiceNotifier {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = environment;
  const tell = async (...assignments: string[]): Promise<void> => {
    if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === '') return;
    await execute('systemd-notify', [`--pid=${process.pid}`, ...assignments], {
      env: { ...process.env, NOTIFY_SOCKET },
      timeout: TIMEOUT_MS,
    }).catch((error: Error) => onProblem(error.message));
  };
  const watchdogMs = Number(WATCHDOG_USEC) / 1000;
  const isWatched = watchdogMs > 0 && (WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid));
  const timer = isWatched
    ? setInterval(() => {
        if (isAlive()) void tell('WATCHDOG=1');
      }, watchdogMs / 2).unref()
    : null;
  let status = '';
  return {
    ready: () => tell('READY=1'),
    reloading: () => tell('RELOADING=1', `MONOTONIC_USEC=${process.hrtime.bigint() / 1000n}`),
    stopping: () => tell('STOPPING=1'),
    status: async (text) => {
      if (text !== status) await tell(`STATUS=${text}`);
      status = text;
    },
    close: () => {
      if (timer !== null) clearInterval(timer);
    },
  };
}
