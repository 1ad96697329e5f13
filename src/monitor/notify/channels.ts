/** How a notification leaves the machine: a program, a webhook, sendmail. Each has a bounded time. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import type { NotifySettings } from '../../config/schema/monitor.js';
import { mailOf, type Notification } from '../../domain/notice/text.js';

/** @throws Error whose message says why it was not taken; it has no secret in it */
export type Send = (notification: Notification) => Promise<void>;

const TIMEOUT_MS = 30_000;
const LAST_WORDS_MS = 1_000;
const STDERR_CHARS_MAX = 500;

/** By name, those that are configured. */
export function channelsOf(
  settings: NotifySettings,
  timeoutMs: number = TIMEOUT_MS,
): ReadonlyMap<string, Send> {
  const { command, webhook, 'webhook-token': token, mail: to, from, sendmail } = settings;
  const channels = new Map<string, Send>();
  if (command !== null)
    channels.set('command', (notification) =>
      runProgram(command, [], `${JSON.stringify(notification)}\n`, timeoutMs, environmentOf(notification)),
    );
  if (webhook !== null)
    channels.set('webhook', (notification) => post(webhook, token, notification, timeoutMs));
  if (to.length > 0)
    channels.set('mail', (notification) => {
      const sender = from === null ? [] : ['-f', from];
      return runProgram(sendmail, ['-t', '-oi', ...sender], mailOf(notification, { to, from }), timeoutMs);
    });
  return channels;
}

function environmentOf({ event, state, severity, role, host, title }: Notification) {
  return {
    STILLPOINT_EVENT: event,
    STILLPOINT_EVENT_STATE: state,
    STILLPOINT_EVENT_SEVERITY: severity,
    STILLPOINT_EVENT_ROLE: role,
    STILLPOINT_EVENT_HOST: host,
    STILLPOINT_EVENT_TITLE: title,
  };
}

/** It gets nothing of this process's environment but what every program needs. */
function runProgram(
  path: string,
  args: readonly string[],
  input: string,
  timeoutMs: number,
  variables: Readonly<Record<string, string>> = {},
): Promise<void> {
  const { PATH = '/usr/sbin:/usr/bin:/sbin:/bin', HOME = '/', LANG = 'C.UTF-8' } = process.env;
  return new Promise((resolve, reject) => {
    const child = spawn(path, args, {
      ...{ detached: true, cwd: '/', env: { PATH, HOME, LANG, ...variables } },
      stdio: ['pipe', 'ignore', 'pipe'],
    });
    let complaint = '';
    let isLate = false;
    // What it started goes with it.
    const late = setTimeout(() => {
      isLate = true;
      try {
        process.kill(-(child.pid ?? 0), 'SIGKILL');
      } catch {
        child.kill('SIGKILL');
      }
    }, timeoutMs);
    child.stderr.setEncoding('utf8').on('data', (text: string) => {
      if (complaint.length < STDERR_CHARS_MAX) complaint = (complaint + text).slice(0, STDERR_CHARS_MAX);
    });
    // One that does not want to read it is judged by its exit code.
    child.stdin.on('error', () => undefined).end(input);
    const end = (reason: string | null) => {
      clearTimeout(late);
      child.stderr.destroy();
      if (reason === null) resolve();
      else reject(new Error(reason));
    };
    child.once('error', (error: NodeJS.ErrnoException) =>
      end(`${path} can't be started (${error.code ?? error.message})`),
    );
    child.once('exit', async (code, signal) => {
      // What it said may still be on its way; what it has started may hold the pipe open for ever.
      await Promise.race([once(child.stderr, 'close'), sleep(LAST_WORDS_MS)]);
      const said = complaint.trim() === '' ? '' : `: ${complaint.trim()}`;
      if (isLate) end(`${path} did not end within ${timeoutMs / 1000} s`);
      else end(code === 0 ? null : `${path} ended with ${code ?? signal}${said}`);
    });
  });
}

/** Its address is a secret, and so are the messages of errors that name it. */
async function post(url: string, token: string | null, body: Notification, timeoutMs: number): Promise<void> {
  const authorization = token === null ? {} : { authorization: `Bearer ${token}` };
  let response: Response;
  try {
    response = await fetch(url, {
      ...{ method: 'POST', redirect: 'error', signal: AbortSignal.timeout(timeoutMs) },
      headers: { 'content-type': 'application/json', 'user-agent': 'stillpoint', ...authorization },
      body: JSON.stringify(body),
    });
  } catch (error) {
    const { name, cause } = error as Error & { cause?: NodeJS.ErrnoException };
    throw new Error(`the webhook does not answer (${cause?.code ?? name})`);
  }
  await response.body?.cancel().catch(() => undefined);
  if (!response.ok) throw new Error(`the webhook answers ${response.status}`);
}
