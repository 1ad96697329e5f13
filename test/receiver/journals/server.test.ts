/** Journals at a receiver that serves: audited in the background, removed by itself, and watched. */
import test, { type ExecutionContext } from 'ava';
import { receiverConditions } from '../../../src/domain/notice/receiver.js';
import { METRICS } from '../../../src/monitor/metrics/table.js';
import { initReceiver } from '../../../src/receiver/access/identity.js';
import { receiverSamples } from '../../../src/receiver/watch/gauges.js';
import { createStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { JournaledDevice } from '../../helpers/journals/journaled-device.js';
import { TlsReceiver } from '../../helpers/worlds/tls-receiver.js';

const LIMITS = { staleAfterMs: 0, staleOf: [], silentAfterMs: 0, spaceBelowBytes: null, daysLeft: 0 };

async function until(isSo: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await isSo())) await new Promise((resolve) => setTimeout(resolve, 5));
}

async function serve(t: ExecutionContext) {
  const dir = await tempDir(t);
  await createStore(dir);
  await initReceiver(dir, { listen: '127.0.0.1:0' });
  const store = new MemoryStore();
  const counted: string[] = [];
  const receiver = new TlsReceiver(dir, {
    openStore: async () => store,
    counters: {
      add: (name, labels, value) => {
        t.true(
          Object.keys(labels).every((label) => (METRICS[name].labels as readonly string[]).includes(label)),
        );
        if (name.includes('journal')) counted.push(`${name} ${Object.values(labels).join(' ')} ${value}`);
      },
    },
    audits: {
      intervalMs: 5,
    },
    pruneIntervalMs: 20,
  });
  t.teardown(() => receiver.closeAll());
  await receiver.start();
  const port = receiver.client(await receiver.enroll('web'));
  const seen = async () => {
    const facts = await receiver.server.facts();
    const conditions = receiverConditions(facts, LIMITS);
    const samples = receiverSamples(facts, conditions).filter(({ name }) => name.includes('journal'));
    return {
      conditions: conditions.map(({ event, subject, text }) => `${event} ${subject}: ${text}`),
      values: Object.fromEntries(
        samples.map(({ name, value }) => [name.replace('stillpoint_device_', ''), value] as const),
      ),
    };
  };
  return { receiver, store, port, counted, seen };
}

test('a fault ends the journal, is logged, counted and told of', async (t) => {
  const { receiver, store, port, counted, seen } = await serve(t);
  t.deepEqual((await seen()).values, {});
  const startMs = Date.now();
  const device = new JournaledDevice(port, { startMs });
  await device.begin();
  device.write(0, Buffer.alloc(100, 1));
  await device.backUp(device.hold());
  device.write(5, Buffer.alloc(100, 2));
  await device.backUp(device.hold());
  await device.ship();
  await until(() => counted.length > 0);
  t.deepEqual(counted, ['stillpoint_journal_audits_total web disk right 1']);
  const { sizeBytes } = (await port.journals())[0] ?? {};
  t.deepEqual(await seen(), {
    conditions: [],
    values: {
      ...{ journal_last_timestamp_seconds: startMs / 1000, journal_bytes: sizeBytes },
      ...{ ended_journals: 0, wrong_journals: 0 },
    },
  });
  device.content[70_000] = 1;
  await device.backUp(device.hold());
  await device.ship();
  await until(() => counted.length > 1);
  t.is(counted[1], 'stillpoint_journal_audits_total web disk wrong 1');
  const fault = 'block 1 of point disk@3 differs from that of disk@2, and no record touches it';
  t.deepEqual((await seen()).conditions, [`journal-fault web/disk: ${fault}`]);
  t.like((await seen()).values, { ended_journals: 1, wrong_journals: 1 });
  t.true(receiver.log.some(({ level, reason }) => level === 50 && reason === fault));
  device.write(1, Buffer.alloc(1));
  await t.throwsAsync(device.ship(), { code: 'journal-closed' });
  t.is((await store.journals.list({})).length, 1);
});

test('what is not needed of journals goes by itself, also without a policy', async (t) => {
  const { store, port } = await serve(t);
  const device = new JournaledDevice(port, { startMs: Date.now() - 100 * 3_600_000 });
  await device.begin();
  for (let n = 0; n < 50; n += 1) {
    device.pass(3_600_000);
    device.write(n, Buffer.alloc(1, n));
  }
  await device.ship();
  await until(async () => (await store.journals.list({}))[0]?.first?.ordinal === 50);
  t.is((await port.journals()).length, 1, 'its agent spoke of it a moment ago');
});
