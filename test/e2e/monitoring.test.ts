/** Metrics and notifications of a real receiver and a real agent, as Prometheus and an operator see them. */
import { spawnSync } from 'node:child_process';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { pino } from 'pino';
import { receiverConditions } from '../../src/domain/notice/receiver.js';
import { METRICS, type MetricName, metricsOf } from '../../src/monitor/metrics/table.js';
import { startMonitor } from '../../src/monitor/monitor.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { MemoryStore } from '../helpers/fakes/memory-store.js';
import { endAgent, logged, startAgent } from '../helpers/machines/agent.js';
import { PROMTOOL } from '../helpers/machines/promtool.js';
import { enroll, freePort, killReceiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import { EXIT_OK, makeMachine, runExpecting } from '../helpers/machines/stillpoint.js';
import { makeTlsReceiver } from '../helpers/worlds/tls-receiver.js';

interface Line {
  readonly name: string;
  readonly labels: string;
  readonly value: number;
}

async function scrape(url: string): Promise<{ text: string; lines: Line[] }> {
  const response = await fetch(url);
  const text = await response.text();
  if (!response.ok) throw new Error(text);
  const lines = [...text.matchAll(/^([a-z_]+)(?:\{(.*)\})? (\S+)$/gm)].map(
    ([, name = '', labels = '', value]) => ({ name, labels, value: Number(value) }),
  );
  return { text, lines };
}

/** Until it is so: the machine may be busy. */
async function until<T>(what: string, look: () => Promise<T | null>): Promise<T> {
  for (const endMs = Date.now() + 60_000; Date.now() < endMs; await sleep(200)) {
    const seen = await look();
    if (seen !== null) return seen;
  }
  throw new Error(`never: ${what}`);
}

const sampleOf = (lines: readonly Line[], name: MetricName, labels = ''): number | undefined =>
  lines.find((line) => line.name === name && line.labels === labels)?.value;

function checkWithPromtool(text: string): string {
  if (PROMTOOL === null) return '';
  const { stdout, stderr, status } = spawnSync(PROMTOOL, ['check', 'metrics'], { input: text });
  return status === 0 ? '' : `${stdout}${stderr}`;
}

test('a receiver and an agent serve metrics of what they did, by the names of the table', async (t) => {
  const receiver = await startReceiver(t);
  await killReceiver(receiver);
  const ports = [await freePort(), await freePort()];
  const configure = async (directory: string, file: string, text: string) => {
    await mkdir(join(directory, 'config'), { recursive: true });
    await writeFile(join(directory, 'config', file), text);
  };
  await configure(
    receiver.machine.stateDirectory,
    'receiver.toml',
    `store = "${receiver.store}"\n[metrics]\nlisten = "127.0.0.1:${ports[0]}"\n`,
  );
  await serve(receiver);
  const machine = await makeMachine(t, 'monitored');
  await enroll(t, receiver, machine, 'web1');
  const image = join(machine.directory, 'image');
  await writeFile(image, Buffer.alloc(300_000, 'content'));
  await configure(
    machine.stateDirectory,
    'agent.toml',
    `[metrics]\nlisten = "127.0.0.1:${ports[1]}"\n[[device]]\nname = "data"\npath = "${image}"\n`,
  );
  const agent = startAgent(t, machine, ['run']);
  await logged(agent, 'metrics are served');
  await runExpecting(t, machine, EXIT_OK, 'backup', '--now', 'data');

  const [atReceiver = '', atAgent = ''] = ports.map((port) => `http://127.0.0.1:${port}/metrics`);
  const scraped = (url: string, name: MetricName, labels: string) =>
    until(name, async () => {
      const seen = await scrape(url);
      return sampleOf(seen.lines, name, labels) === 1 ? seen : null;
    });
  const ofAgent = await scraped(atAgent, 'stillpoint_agent_receiver_up', `receiver="${receiver.url}"`);
  const ofReceiver = await scraped(atReceiver, 'stillpoint_connected', 'agent="web1"');
  const { lines: own } = ofAgent;
  const { lines } = ofReceiver;
  t.is(sampleOf(own, 'stillpoint_agent_runs_total', 'device="data",result="done"'), 1);
  t.is(sampleOf(own, 'stillpoint_agent_read_bytes_total', 'device="data"'), 300_000);
  t.is(sampleOf(own, 'stillpoint_agent_present', 'device="data"'), 1);
  const device = 'agent="web1",device="data"';
  t.is(sampleOf(lines, 'stillpoint_device_points', device), 1);
  t.is(sampleOf(lines, 'stillpoint_sessions_total', `${device},result="committed"`), 1);
  t.is(sampleOf(lines, 'stillpoint_changed_bytes_total', device), 300_000);
  t.true((sampleOf(lines, 'stillpoint_device_last_point_timestamp_seconds', device) ?? 0) > 1.7e9);
  t.true((sampleOf(lines, 'stillpoint_store_free_bytes') ?? 0) > 0);
  t.is(sampleOf(lines, 'stillpoint_store_days_left'), undefined, 'what is not known is not 0');
  t.is(sampleOf(lines, 'stillpoint_problem', 'event="agent-silent"'), 0);

  for (const [role, seen] of [
    ['receiver', ofReceiver],
    ['agent', ofAgent],
  ] as const) {
    const { text } = seen;
    t.is(checkWithPromtool(text), '');
    for (const name of metricsOf(role)) t.true(text.includes(`# HELP ${name} ${METRICS[name].help}\n`), name);
    const foreign = [...text.matchAll(/^# HELP (stillpoint_\w+)/gm)].filter(
      ([, name]) => !metricsOf(role).includes(name as MetricName),
    );
    t.deepEqual(foreign, []);
  }
  const { status } = await fetch(new URL('/', atReceiver));
  t.is(status, 404);
  t.is(await endAgent(agent, 'SIGTERM'), EXIT_OK, agent.log);
});

test('a receiver tells of an agent that is dead, and when it is back', async (t) => {
  let nowMs = Date.now();
  const receiver = await makeTlsReceiver(t, {
    openStore: async () => new MemoryStore(),
    now: () => new Date(nowMs),
  });
  const orders = receiver.client(await receiver.enroll('web1'));
  await orders.info();
  const directory = await tempDir(t);
  const sent = join(directory, 'sent');
  const channels = new Map([
    [
      'command',
      async ({
        state,
        event,
        notices,
      }: {
        state: string;
        event: string;
        notices: readonly { subject: string }[];
      }) => writeFile(sent, `${state} ${event} ${notices[0]?.subject}\n`, { flag: 'a' }),
    ],
  ]);
  const monitor = await startMonitor({
    ...{ role: 'receiver', metrics: null, listen: null, bookPath: join(directory, 'notices.json') },
    ...{ log: pino({ level: 'silent' }), everyMs: 20, firstMs: 20 },
    look: async () => {
      const facts = await receiver.server.facts();
      return {
        samples: [],
        conditions: receiverConditions(facts, {
          ...{ staleAfterMs: 0, staleOf: [], silentAfterMs: 3_600_000, spaceBelowBytes: null, daysLeft: 0 },
        }),
      };
    },
    notify: () => ({ channels, events: null, repeatAfterMs: 86_400_000 }),
  });
  t.teardown(() => monitor.close());
  const told = () =>
    readFile(sent, 'utf8').then(
      (text) => text.trimEnd().split('\n'),
      () => [],
    );
  nowMs += 3_500_000;
  await sleep(200);
  t.deepEqual(await told(), []);
  nowMs += 200_000;
  await until('it is told', async () => ((await told()).length === 1 ? true : null));
  // Any message will do: an agent without a daemon asks for no orders.
  await orders.info();
  await until('it is told that it is over', async () => ((await told()).length === 2 ? true : null));
  t.deepEqual(await told(), ['begun agent-silent web1', 'over agent-silent web1']);
});
