/** Journals go with a prune, by itself or by hand; over a store in memory. */
import test, { type ExecutionContext } from 'ava';
import type { StoredJournal } from '../../../src/domain/journal/journal.js';
import { native } from '../../../src/native/index.js';
import type { RetentionEvent } from '../../../src/receiver/retention/events.js';
import type { RemovalSummary, RetentionWish } from '../../../src/receiver/retention/messages.js';
import { RetentionService } from '../../../src/receiver/retention/service.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { beginRequest } from '../../helpers/bytes/requests.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { JournaledDevice } from '../../helpers/journals/journaled-device.js';

const HOUR = 3_600_000;
const START = Date.UTC(2026, 0, 1);
const ALL = { agent: null, device: null };
const NEVER = new AbortController().signal;
const NOTHING = { deviceCount: 0, withoutPolicy: 0, staying: 0, going: 0, clockDoubt: null };

async function make(t: ExecutionContext) {
  const clock = { nowMs: START };
  const store = new MemoryStore({ now: () => new Date(clock.nowMs) });
  const receiver = await ReceiverService.open(store);
  t.teardown(() => receiver.close());
  const port = agentReceiver(receiver, 'web');
  const events: RetentionEvent[] = [];
  const heard = new Set<string>();
  let searches = 0;
  const service = new RetentionService({
    ...{ store, endSessions: async () => undefined, timeZone: 'UTC' },
    onEvent: (event) => events.push(event),
    journals: {
      isHeard: ({ journalId }) => heard.has(journalId),
      firstStamp: async (records) => {
        searches += 1;
        return (await native.scanJournal(records, { afterOrdinal: null })).first?.stamp ?? null;
      },
    },
  });
  const device = new JournaledDevice(port, { startMs: START });
  await device.begin();
  /** An hour with a record. */
  const hours = async (count: number, of = device) => {
    for (let n = 0; n < count; n += 1) {
      clock.nowMs += HOUR;
      of.pass(HOUR);
      of.write(n * 512, Buffer.alloc(512, n));
    }
    await of.ship();
  };
  const ask = (wish: RetentionWish) =>
    service.perform(wish, NEVER, () => undefined) as Promise<RemovalSummary>;
  const journal = async (): Promise<StoredJournal | undefined> => (await port.journals())[0];
  return {
    clock,
    store,
    port,
    events,
    heard,
    service,
    device,
    hours,
    ask,
    journal,
    searches: () => searches,
  };
}

test('a prune frees the records before the newest base of the time, and says how much', async (t) => {
  const { device, hours, ask, journal, store } = await make(t);
  await device.backUp(device.hold());
  await hours(10);
  const second = device.hold();
  await device.backUp(second);
  await hours(23);
  const size = (await journal())?.sizeBytes ?? 0;
  t.is((await ask({ to: 'prune', ...ALL })).journals?.bytes ?? 0, 64 + 16, 'the instant of the first base');
  await hours(2);
  const planned = await ask({ to: 'plan', ...ALL });
  t.is((await journal())?.first?.ordinal, 2, 'a plan removes nothing');
  const pruned = await ask({ to: 'prune', ...ALL });
  t.is(pruned.journals?.bytes, 10 * 576 + 80);
  t.is(pruned.journals?.journalCount, 1);
  t.true(Math.abs((planned.journals?.bytes ?? 0) - 10 * 576 - 80) < 600, JSON.stringify(planned));
  t.is((await journal())?.first?.ordinal, second.ordinal + 1);
  t.true(((await journal())?.sizeBytes ?? size) < size);
  t.is((await ask({ to: 'prune', ...ALL })).journals, undefined);
  t.is((await ask({ to: 'prune', agent: 'other', device: null })).journals, undefined);
  t.is(store.captures().length, 0);
});

test('nothing goes while the clock is not believed, and nothing of a device with an open session but for a base', async (t) => {
  const { hours, ask, store, journal, port } = await make(t);
  await hours(60);
  const { retention } = store;
  const doubted = { isBelieved: false, nowMs: retention.clock().nowMs, reason: 'it jumped' } as const;
  store.retention = Object.assign(Object.create(retention), {
    ...{ settings: retention.settings, clock: () => doubted, noteClock: async () => doubted },
  });
  t.deepEqual(await ask({ to: 'prune', ...ALL }), { ...NOTHING, clockDoubt: 'it jumped' });
  store.retention = retention;
  await port.begin(beginRequest());
  t.is((await ask({ to: 'prune', ...ALL })).journals, undefined);
  await port.abort(beginRequest().sessionId);
  t.true(((await ask({ to: 'prune', ...ALL })).journals?.bytes ?? 0) > 0);
  t.is((await journal())?.last?.ordinal, 60);
});

test('without a base the time is looked for in the records, not far before it', async (t) => {
  const { hours, ask, journal, searches, store } = await make(t);
  await hours(60);
  const { list } = store.journals;
  // As if each record had 64 MiB: then whole files are as narrow as a record.
  store.journals.list = async (key) => {
    const listed = await list.call(store.journals, key);
    return listed.map((each) => ({ ...each, sizeBytes: 60 * 64 * 1024 * 1024 }));
  };
  await ask({ to: 'prune', ...ALL });
  t.is((await journal())?.first?.ordinal, 37, 'records of the last 24 hours stay');
  t.true(searches() > 3 && searches() < 10, String(searches()));
});

test('a journal that nobody goes on with is removed when a newer point takes its place', async (t) => {
  const { device, hours, ask, heard, events, port, clock, journal } = await make(t);
  await device.backUp(device.hold());
  await hours(5);
  const next = new JournaledDevice(port, { startMs: clock.nowMs });
  next.content.set(device.content);
  await next.backUp(null, { instant: new Date(clock.nowMs + 1000).toISOString() });
  clock.nowMs += 30 * HOUR;
  heard.add(device.journalId);
  await ask({ to: 'prune', ...ALL });
  t.is((await journal())?.journalId, device.journalId);
  t.deepEqual(events, []);
  heard.clear();
  const { journals } = await ask({ to: 'prune', ...ALL });
  t.is(journals?.journalCount, 1);
  t.is(await journal(), undefined);
  t.deepEqual(events, [
    {
      ...{ type: 'journal-removed', agent: 'web', device: 'disk', journalId: device.journalId },
      bytes: journals?.bytes ?? 0,
    },
  ]);
});

test('one journal that can not be freed keeps no other from it', async (t) => {
  const { hours, ask, port, clock, store, device } = await make(t);
  await device.backUp(device.hold());
  const other = new JournaledDevice(port, { device: 'other', startMs: clock.nowMs });
  await other.begin();
  await other.backUp(other.hold());
  await hours(1, other);
  await hours(30);
  const { trim } = store.journals;
  store.journals.trim = async (agent, journalId, ordinal) => {
    if (journalId === device.journalId) throw new Error('the disk failed');
    return trim.call(store.journals, agent, journalId, ordinal);
  };
  await t.throwsAsync(ask({ to: 'prune', ...ALL }), { message: 'the disk failed' });
  t.deepEqual(
    (await port.journals()).map(({ first }) => first?.ordinal),
    [1, 2],
  );
});

test('the time is set for a scope, shown, and cleared', async (t) => {
  const { ask, device, hours, store, journal } = await make(t);
  const set = (scope: { agent: string | null; device: string | null }, journalKeepMs: number | null) =>
    ask({ to: 'set', scope, journalKeepMs });
  await device.backUp(device.hold());
  await hours(3);
  await set({ agent: 'web', device: null }, 48 * HOUR);
  await set(ALL, 12 * HOUR);
  const view = await set({ agent: 'web', device: 'disk' }, 2 * HOUR);
  t.like(view, {
    journalKeepDefaultMs: 24 * HOUR,
    journalKeep: [
      { ...ALL, keepMs: 12 * HOUR },
      { agent: 'web', device: null, keepMs: 48 * HOUR },
      { agent: 'web', device: 'disk', keepMs: 2 * HOUR },
    ],
  });
  await ask({ to: 'prune', ...ALL });
  t.is((await journal())?.first?.ordinal, 2);
  await set({ agent: 'web', device: 'disk' }, null);
  t.is(store.retention.settings.journalKeep?.length, 2);
  for (const wrong of [0, -1, Number.NaN, 11 * 365 * 24 * HOUR])
    await t.throwsAsync(set(ALL, wrong), { code: 'config' }, String(wrong));
});
