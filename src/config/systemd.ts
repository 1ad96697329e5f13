/**
 * Tells systemd how a service is (sd_notify(3)). Node can't send datagrams to a Unix socket, so that
 * systemd-notify(1) does; the unit needs NotifyAccess=all. Without NOTIFY_SOCKET nothing is done.
 */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';

const execute = promisify(execFile);
const TIMEOUT_MS = 10_000;
/** So many pings are due in one interval of the watchdog: two may come late. */
const PINGS = 3;

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
 * @param isAlive asked for each ping of the watchdog, if the unit has one. A question that is not answered is
 * not asked again: the pings end, and systemd starts the service anew.
 * @param onProblem is told what systemd could not be told, or why it is told nothing
 */
export function serviceNotifier(
  environment: Readonly<Record<string, string | undefined>>,
  isAlive: () => boolean | Promise<boolean>,
  onProblem: (reason: string) => void,
): ServiceNotifier {
  const { NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID } = environment;
  const tell = async (...assignments: string[]): Promise<void> => {
    if (NOTIFY_SOCKET === undefined || NOTIFY_SOCKET === '') return;
    await execute('systemd-notify', assignments, {
      env: { ...process.env, NOTIFY_SOCKET },
      timeout: TIMEOUT_MS,
    }).catch((error: Error) => onProblem(error.message));
  };
  let isAsking = false;
  const ping = async (): Promise<void> => {
    if (isAsking) return;
    isAsking = true;
    try {
      if (await isAlive()) await tell('WATCHDOG=1');
      else onProblem('it is not alive');
    } catch (error) {
      onProblem((error as Error).message);
    } finally {
      isAsking = false;
    }
  };
  const watchdogMs = Number(WATCHDOG_USEC) / 1000;
  const isWatched = watchdogMs > 0 && (WATCHDOG_PID === undefined || WATCHDOG_PID === String(process.pid));
  const timer = isWatched ? setInterval(() => void ping(), watchdogMs / PINGS).unref() : null;
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
