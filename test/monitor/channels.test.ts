/** Notifications to a program, a webhook and sendmail: what arrives, and what is said of those that fail. */
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { chmod, readFile, writeFile } from 'node:fs/promises';
import { createServer, type IncomingHttpHeaders, type RequestListener } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { NotifySettings } from '../../src/config/schema/monitor.js';
import { notificationOf } from '../../src/domain/notice/text.js';
import { channelsOf } from '../../src/monitor/notify/channels.js';
import { tempDir } from '../helpers/disks/temp-dir.js';

const NOTHING: NotifySettings = {
  ...{ command: null, webhook: null, 'webhook-token': null, mail: [], from: null },
  ...{ sendmail: '/nowhere', events: null, 'repeat-after': 86_400_000 },
};
const NOTIFICATION = notificationOf(
  {
    ...{ event: 'device-stale', state: 'begun' },
    entries: [
      {
        event: 'device-stale',
        subject: 'web1/data',
        text: 'it is\nold: é',
        sinceMs: 0,
        toldMs: null,
        due: null,
      },
    ],
  },
  { role: 'receiver', host: 'b\r\nBcc: you@example.net', nowMs: 1_000 },
);

async function script(directory: string, name: string, lines: string): Promise<string> {
  const path = join(directory, name);
  await writeFile(path, `#!/bin/sh\n${lines}\n`);
  await chmod(path, 0o755);
  return path;
}

function send(settings: Partial<NotifySettings>, timeoutMs?: number): Promise<void> {
  const [channel] = channelsOf({ ...NOTHING, ...settings }, timeoutMs).values();
  if (channel === undefined) throw new Error('there is no channel');
  return channel(NOTIFICATION);
}

test('nothing is configured, nothing is sent', (t) => {
  t.is(channelsOf(NOTHING).size, 0);
});

test('a program is given JSON and variables, and nothing of the environment', async (t) => {
  const directory = await tempDir(t);
  process.env.STILLPOINT_TEST_SECRET = 'secret';
  const command = await script(directory, 'tell', `cat >${directory}/input; env >${directory}/variables`);
  await send({ command });
  t.deepEqual(JSON.parse(await readFile(join(directory, 'input'), 'utf8')), NOTIFICATION);
  const variables = await readFile(join(directory, 'variables'), 'utf8');
  t.regex(variables, /^STILLPOINT_EVENT=device-stale$/m);
  t.regex(variables, /^STILLPOINT_EVENT_STATE=begun$/m);
  t.notRegex(variables, /secret/);
});

test('a program that fails, is missing or hangs is a failure, and what it started ends', async (t) => {
  const directory = await tempDir(t);
  const failing = await script(directory, 'fail', 'echo no room >&2; exit 3');
  await t.throwsAsync(send({ command: failing }), { message: /ended with 3: no room$/ });
  await t.throwsAsync(send({ command: join(directory, 'none') }), { message: /can't be started \(ENOENT\)/ });
  const deaf = await script(directory, 'deaf', 'exec <&-; exit 0');
  await t.notThrowsAsync(send({ command: deaf }));
  const hanging = await script(directory, 'hang', `sleep 600 & echo $! >${directory}/child; wait`);
  await t.throwsAsync(send({ command: hanging }, 3_000), { message: /did not end within 3 s/ });
  const child = (await readFile(join(directory, 'child'), 'utf8')).trim();
  const isThere = () => existsSync(`/proc/${child}/cwd`) && existsSync(`/proc/${child}/exe`);
  for (const endMs = Date.now() + 30_000; isThere() && Date.now() < endMs; ) await sleep(20);
  t.false(isThere());
});

async function serve(t: ExecutionContext, answer: RequestListener): Promise<string> {
  const server = createServer(answer).listen(0, '127.0.0.1');
  t.teardown(() => {
    server.closeAllConnections();
    server.close();
  });
  await once(server, 'listening');
  return `http://127.0.0.1:${(server.address() as AddressInfo).port}/hidden`;
}

test('a webhook is posted JSON, with its token', async (t) => {
  const seen: { headers: IncomingHttpHeaders; body: string }[] = [];
  const webhook = await serve(t, async (request, response) => {
    let body = '';
    for await (const chunk of request) body += String(chunk);
    seen.push({ headers: request.headers, body });
    response.writeHead(204).end();
  });
  await send({ webhook, 'webhook-token': 'token1' });
  t.is(seen.length, 1);
  t.like(seen[0]?.headers, { authorization: 'Bearer token1', 'content-type': 'application/json' });
  t.deepEqual(JSON.parse(seen[0]?.body ?? ''), NOTIFICATION);
});

test('a webhook that refuses, sends elsewhere, hangs or is gone is a failure that does not name it', async (t) => {
  const refusing = await serve(t, (_, response) => response.writeHead(503).end('hidden'));
  const moving = await serve(t, (_, response) => response.writeHead(302, { location: refusing }).end());
  const hanging = await serve(t, () => undefined);
  const cases: [string, RegExp][] = [
    [refusing, /^the webhook answers 503$/],
    [moving, /^the webhook does not answer/],
    [hanging, /^the webhook does not answer \(TimeoutError\)$/],
    ['http://127.0.0.1:9/hidden', /^the webhook does not answer/],
  ];
  for (const [webhook, message] of cases) {
    const error = await t.throwsAsync(send({ webhook }, webhook === hanging ? 500 : 60_000), { message });
    t.notRegex(error?.message ?? '', /hidden/);
  }
});

test('sendmail is given a message whose headers say only what they should', async (t) => {
  const directory = await tempDir(t);
  const sendmail = await script(
    directory,
    'sendmail',
    `echo "$@" >${directory}/options; cat >${directory}/message`,
  );
  await send({ mail: ['a@example.net', 'b'], from: 'c@example.net', sendmail });
  t.is((await readFile(join(directory, 'options'), 'utf8')).trim(), '-t -oi -f c@example.net');
  const message = await readFile(join(directory, 'message'), 'utf8');
  const [head = '', body = ''] = message.split('\n\n', 2);
  t.deepEqual(
    head.split('\n').map((line) => line.split(': ', 1)[0]),
    [
      ...['From', 'To', 'Subject', 'Date', 'Auto-Submitted', 'X-Stillpoint-Event', 'MIME-Version'],
      ...['Content-Type', 'Content-Transfer-Encoding'],
    ],
  );
  t.regex(head, /^To: a@example\.net, b$/m);
  t.regex(body, /^web1\/data: it is old: é\. Known since 1970-01-01 00:00 UTC\.$/m);
});
