/** The journals of a receiver's agents: quotas, renames, the audit log; over a store in memory. */
import test from 'ava';
import { QUOTA_DEFAULT, type Quota } from '../../../src/receiver/access/quota.js';
import type { Quotas } from '../../../src/receiver/access/quotas.js';
import type { AuditEvent } from '../../../src/receiver/audit/entry.js';
import type { AuditLog } from '../../../src/receiver/audit/log.js';
import { Trail } from '../../../src/receiver/audit/trail.js';
import { agentReceiver } from '../../../src/receiver/sessions/agent-receiver.js';
import { ReceiverService } from '../../../src/receiver/sessions/service.js';
import { journalsConformance } from '../../conformance/receiver/journals.js';
import { type MakeWorld, newSessionId } from '../../conformance/receiver.js';
import { journalRecords } from '../../helpers/bytes/journal-records.js';
import { beginRequest, commitRequest, sessionId } from '../../helpers/bytes/requests.js';
import { MemoryStore } from '../../helpers/fakes/memory-store.js';
import { inTurns, RECEIVERS_AT_ONCE } from '../../helpers/in-turns.js';
import { CLOCK_ID } from '../../helpers/journals/journaled-device.js';

const memoryWorld: MakeWorld = async () => {
  let store = new MemoryStore();
  let service = await ReceiverService.open(store);
  return {
    dir: '',
    portFor: async (agent) => agentReceiver(service, agent),
    orders: () => service.orders,
    runs: () => service.runs,
    restart: async () => {
      await service.close();
      store = await store.reopen();
      service = await ReceiverService.open(store);
    },
  };
};

journalsConformance(inTurns(test, RECEIVERS_AT_ONCE), memoryWorld);

async function limited(quota: Partial<Quota>) {
  const store = new MemoryStore();
  const quotas = { of: () => ({ ...QUOTA_DEFAULT, ...quota }) } as unknown as Quotas;
  const service = await ReceiverService.open(store, { quotas });
  return { store, service, port: agentReceiver(service, 'host') };
}

test('bytes of journals count for the agent, once each, and for no other', async (t) => {
  const records = journalRecords(1, 10);
  const { store, service, port } = await limited({ storedBytes: records.length + 500 });
  const id = newSessionId();
  await port.beginJournal('disk', id, CLOCK_ID);
  await port.appendJournal(id, records);
  t.is((await service.use('host')).storedBytes, records.length);
  // Sent again: it is counted anew before it is refused.
  for (let again = 0; again < 2; again += 1)
    await t.throwsAsync(port.appendJournal(id, records), { code: 'quota' });
  const more = journalRecords(11, 11, { payloadBytes: 400 });
  await port.appendJournal(id, more);
  await t.throwsAsync(port.appendJournal(id, journalRecords(12, 12)), {
    code: 'quota',
    message: /bytes in the store/,
  });
  const other = agentReceiver(service, 'other');
  await other.beginJournal('disk', id, CLOCK_ID);
  await other.appendJournal(id, records);
  await store.journals.trim('host', id, 10);
  await port.appendJournal(id, journalRecords(12, 12));
  t.is((await service.use('host')).storedBytes, more.length + journalRecords(12, 12).length);
});

test('the name of a device counts, and is not that of a group', async (t) => {
  const { service, port } = await limited({ devices: 1 });
  const id = newSessionId();
  await port.beginJournal('disk', id, CLOCK_ID);
  await port.beginJournal('disk', newSessionId(), CLOCK_ID);
  t.is((await service.use('host')).devices, 1);
  await t.throwsAsync(port.beginJournal('logs', newSessionId(), CLOCK_ID), {
    code: 'quota',
    message: /names of devices/,
  });
  await t.throwsAsync(port.begin(beginRequest({ device: 'logs' })), { code: 'quota' });
  await t.notThrowsAsync(port.beginJournal('disk', id, CLOCK_ID));
  await port.begin(beginRequest({ device: 'disk' }));
  const group = { id: '1'.repeat(32), name: 'databases', sessionIds: [sessionId(1)] };
  await port.commit(sessionId(1), commitRequest({ group }));
  await t.throwsAsync(port.beginJournal('databases', newSessionId(), CLOCK_ID), { code: 'bad-name' });
});

test('an agent that is being renamed or removed is refused, and what it had begun is waited for', async (t) => {
  const { store, service, port } = await limited({});
  const id = newSessionId();
  await port.beginJournal('disk', id, CLOCK_ID);
  const { append } = store.journals;
  const order: string[] = [];
  let open = (): void => undefined;
  const opened = new Promise<void>((resolve) => {
    open = resolve;
  });
  const begun = new Promise<void>((reached) => {
    store.journals.append = async (...args) => {
      reached();
      await opened;
      order.push('appended');
      return append.apply(store.journals, args);
    };
  });
  const appending = port.appendJournal(id, journalRecords(1, 3));
  await begun;
  const renaming = service.withoutSessions(['host'], async () => {
    order.push('renamed');
    await t.throwsAsync(port.beginJournal('disk', newSessionId(), CLOCK_ID), { code: 'busy' });
    await t.throwsAsync(port.appendJournal(id, journalRecords(4, 4)), { code: 'busy' });
    await t.throwsAsync(port.endJournal(id, { reason: 'full', stamp: '1', lastOrdinal: 1 }), {
      code: 'busy',
    });
    await t.throwsAsync(service.journals.noteAudit('host', id, { pointId: id, ordinal: 1, fault: null }), {
      code: 'busy',
    });
    t.is((await agentReceiver(service, 'other').beginJournal('disk', id, CLOCK_ID)).agent, 'other');
  });
  await new Promise(setImmediate);
  t.deepEqual(order, []);
  open();
  await Promise.all([appending, renaming]);
  t.deepEqual(order, ['appended', 'renamed']);
  await t.notThrowsAsync(port.appendJournal(id, journalRecords(4, 4)));
});

test('begin, end and reading are in the audit log, once each', async (t) => {
  const noted: AuditEvent[] = [];
  const log = { note: (event: AuditEvent) => noted.push(event), close: async () => undefined };
  const trail = new Trail(log as unknown as AuditLog);
  const service = await ReceiverService.open(new MemoryStore(), { trail });
  const port = agentReceiver(service, 'host');
  const id = newSessionId();
  await port.beginJournal('disk', id, CLOCK_ID);
  await port.beginJournal('disk', id, CLOCK_ID);
  await port.appendJournal(id, journalRecords(1, 9));
  for (const after of [0, 5, 9]) await port.journalRecords(id, after, String(2n ** 64n - 1n));
  for (const reason of ['the spool is full', 'another'])
    await port.endJournal(id, { reason, stamp: '1', lastOrdinal: 9 });
  await trail.close();
  const of = { who: 'agent', agent: 'host', device: 'disk', result: 'done' };
  t.like(noted, [
    { ...of, what: 'journal-begin', detail: `journal ${id}` },
    { ...of, what: 'restore-begin', point: `journal ${id}` },
    { ...of, what: 'journal-end', detail: `journal ${id}: the spool is full` },
    { ...of, what: 'restore-end', bytes: journalRecords(1, 9).length + journalRecords(6, 9).length },
  ]);
  t.is(noted.length, 4);
});
