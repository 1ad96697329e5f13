/** What a scrape shows: only what is known, and bounded. */
import { connect } from 'node:net';
import test from 'ava';
import { listenForScrapes } from '../../src/monitor/metrics/listener.js';
import { Metrics } from '../../src/monitor/metrics/metrics.js';
import { refused } from '../helpers/refused.js';

const linesOf = async (metrics: Metrics, name: string): Promise<string[]> =>
  (await metrics.text()).split('\n').filter((line) => line.startsWith(name));

test('a gauge shows what the last look found, and nothing where it found nothing', async (t) => {
  const metrics = new Metrics('receiver', '1.2.3');
  const points = 'stillpoint_device_points';
  t.deepEqual(await linesOf(metrics, 'stillpoint_store_days_left'), []);
  t.deepEqual(await linesOf(metrics, 'stillpoint_build_info'), [
    'stillpoint_build_info{version="1.2.3",role="receiver"} 1',
  ]);
  metrics.show([
    { name: 'stillpoint_store_days_left', labels: {}, value: 5 },
    { name: points, labels: { agent: 'a', device: 'x' }, value: 1 },
  ]);
  t.deepEqual(await linesOf(metrics, 'stillpoint_store_days_left'), ['stillpoint_store_days_left 5']);
  metrics.show([{ name: points, labels: { agent: 'a', device: 'y' }, value: 2 }]);
  t.deepEqual(await linesOf(metrics, 'stillpoint_store_days_left'), []);
  t.deepEqual(await linesOf(metrics, points), [`${points}{agent="a",device="y"} 2`]);
  t.is((await linesOf(metrics, 'stillpoint_build_info')).length, 1);
});

test('counters add up, and their series are bounded', async (t) => {
  const metrics = new Metrics('receiver', '1');
  for (let i = 0; i < 25_000; i += 1)
    metrics.add('stillpoint_requests_total', { agent: `a${i % 24_000}` }, 1);
  const lines = await linesOf(metrics, 'stillpoint_requests_total');
  t.is(lines.length, 20_000);
  t.true(lines.includes('stillpoint_requests_total{agent="a999"} 2'));
  metrics.add('stillpoint_agent_runs_total', { device: 'x', result: 'done' }, 1);
  t.deepEqual(await linesOf(metrics, 'stillpoint_agent_'), [], 'those of an agent are not a receiver’s');
});

test('a look that fails is an error of the scrape, and an address that is taken says so', async (t) => {
  let isWell = false;
  const listener = await listenForScrapes({ host: '127.0.0.1', port: 0 }, async () => {
    if (!isWell) throw new Error('not now');
    return { contentType: 'text/plain', text: 'all\n' };
  });
  t.teardown(() => listener.close());
  t.is((await fetch(listener.url)).status, 500);
  isWell = true;
  t.is(await (await fetch(listener.url)).text(), 'all\n');
  const port = Number(new URL(listener.url).port);
  await refused(
    t,
    listenForScrapes({ host: '127.0.0.1', port }, async () => ({ contentType: '', text: '' })),
    'config',
  );
  // One that says nothing does not keep the listener from closing.
  const silent = connect(port, '127.0.0.1').on('error', () => undefined);
  t.teardown(() => silent.destroy());
  await new Promise((resolve) => silent.once('connect', resolve));
  await listener.close();
  t.pass();
});
