/** What all journals of a store must do (src/store/port/journals.ts). */
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { JOURNALS_PER_DEVICE_MAX } from '../../../src/domain/base/limits.js';
import type { Journals } from '../../../src/store/port/journals.js';
import { journalRecord, journalRecords } from '../../helpers/bytes/journal-records.js';
import {
  ALL,
  allRecords,
  CLOCK,
  idOf,
  JOURNAL,
  type JournalsWorld,
  WEB,
} from '../../helpers/journals/store-journals.js';

const END = { reason: 'the spool is full', stamp: '1800000000000099000', lastOrdinal: 99 };
const stampOf = (ordinal: number): string => String(1_800_000_000_000_000_000n + BigInt(ordinal) * 1000n);
const markOf = (ordinal: number) => ({ ordinal, stamp: stampOf(ordinal) });
const RECORD_BYTES = 64 + 512;

async function refused(t: ExecutionContext, code: string, step: Promise<unknown>): Promise<void> {
  const error = await step.then(
    () => null,
    (thrown) => thrown,
  );
  t.true(isStillpointError(error), `refused with ${code}`);
  t.is(isStillpointError(error) ? error.code : String(error), code);
}

async function begun(journals: Journals, last: number): Promise<void> {
  await journals.begin(WEB, JOURNAL, CLOCK);
  if (last > 0) await journals.append(WEB.agent, JOURNAL, journalRecords(1, last));
}

export function testJournals(name: string, make: (t: ExecutionContext) => Promise<JournalsWorld>): void {
  test(`${name}: a journal is begun once, and what is appended is there, also after a restart`, async (t) => {
    const world = await make(t);
    const { agent } = WEB;
    t.deepEqual(await world.journals.list({}), []);
    t.is(await world.journals.find(agent, JOURNAL), null);
    const empty = await world.journals.begin(WEB, JOURNAL, CLOCK);
    t.deepEqual(empty, {
      ...{ ...WEB, journalId: JOURNAL, clockId: CLOCK, first: null, last: null },
      ...{ sizeBytes: 0, end: null, audits: [] },
    });
    t.deepEqual(await world.journals.begin(WEB, JOURNAL, CLOCK), empty);
    t.deepEqual(await world.journals.append(agent, JOURNAL, journalRecords(1, 3)), { last: markOf(3) });
    t.deepEqual(await world.journals.append(agent, JOURNAL, journalRecords(4, 4)), { last: markOf(4) });
    const stored = { ...empty, first: markOf(1), last: markOf(4), sizeBytes: 64 + 16 + 3 * RECORD_BYTES };
    for (const journals of [world.journals, world.reader]) {
      t.deepEqual(await journals.find(agent, JOURNAL), stored);
      t.deepEqual(await journals.find(null, JOURNAL), stored);
      t.is(await journals.find('web2', JOURNAL), null);
      t.deepEqual(await journals.list({}), [stored]);
      t.deepEqual(await journals.records(null, JOURNAL, ALL), journalRecords(1, 4));
      await refused(t, 'journal-unknown', journals.records('web2', JOURNAL, ALL));
    }
    await world.reopen();
    t.deepEqual(await world.journals.begin(WEB, JOURNAL, CLOCK), stored);
    t.deepEqual(await world.journals.append(agent, JOURNAL, journalRecords(5, 6)), { last: markOf(6) });
    t.deepEqual(await world.journals.records(agent, JOURNAL, ALL), journalRecords(1, 6));
  });

  test(`${name}: what is there is passed over, and a gap is refused`, async (t) => {
    const { journals } = await make(t);
    const { agent } = WEB;
    await refused(t, 'journal-unknown', journals.append(agent, JOURNAL, journalRecords(1, 1)));
    await begun(journals, 0);
    await refused(t, 'journal-gap', journals.append(agent, JOURNAL, journalRecords(2, 3)));
    await begun(journals, 4);
    t.deepEqual(await journals.append(agent, JOURNAL, journalRecords(2, 3)), { last: markOf(4) });
    t.deepEqual(await journals.append(agent, JOURNAL, journalRecords(3, 7)), { last: markOf(7) });
    await refused(t, 'journal-gap', journals.append(agent, JOURNAL, journalRecords(9, 9)));
    t.deepEqual(await journals.append(agent, JOURNAL, Buffer.alloc(0)), { last: markOf(7) });
    t.deepEqual(await journals.records(agent, JOURNAL, ALL), journalRecords(1, 7));
  });

  test(`${name}: what are no records is refused`, async (t) => {
    const { journals } = await make(t);
    const { agent } = WEB;
    await begun(journals, 2);
    const bad = (bytes: Buffer) => refused(t, 'bad-message', journals.append(agent, JOURNAL, bytes));
    await bad(Buffer.from('none'));
    await bad(journalRecords(3, 4).subarray(0, -1));
    for (const at of [0, 4, 5, 6, 8, 12, 16, 24, 32, 40, 48, 63, 64, 575]) {
      const flipped = journalRecords(3, 3);
      flipped[at] = (flipped[at] ?? 0) ^ 0x40;
      await bad(flipped);
    }
    await bad(Buffer.concat([journalRecords(3, 3), journalRecords(5, 5)]));
    await bad(journalRecords(3, 3, { stampBase: 1n }));
    await bad(journalRecords(2, 3, { stampBase: 1_900_000_000_000_000_000n }));
    await bad(Buffer.alloc(8 * 1024 * 1024 + 1));
    t.deepEqual(await journals.records(agent, JOURNAL, ALL), journalRecords(1, 2));
  });

  test(`${name}: batches that come at once are stored in their order`, async (t) => {
    const { journals } = await make(t);
    await begun(journals, 1);
    const appended = await Promise.all(
      [2, 3, 4, 5, 6].map((n) => journals.append(WEB.agent, JOURNAL, journalRecords(n, n + 1))),
    );
    for (const [i, { last }] of appended.entries()) t.true((last?.ordinal ?? 0) >= i + 3);
    const outcomes = await Promise.allSettled([
      journals.append(WEB.agent, JOURNAL, journalRecords(8, 8)),
      journals.append(WEB.agent, JOURNAL, Buffer.from('none')),
      journals.append(WEB.agent, JOURNAL, journalRecords(10, 10)),
      journals.append(WEB.agent, JOURNAL, journalRecords(9, 9)),
    ]);
    t.deepEqual(
      outcomes.map(({ status }) => status),
      ['fulfilled', 'rejected', 'rejected', 'fulfilled'],
    );
    t.deepEqual(await journals.records(WEB.agent, JOURNAL, ALL), journalRecords(1, 9));
  });

  test(`${name}: the first end counts, and nothing is appended after it`, async (t) => {
    const world = await make(t);
    const { agent } = WEB;
    await refused(t, 'journal-unknown', world.journals.end(agent, JOURNAL, END));
    await begun(world.journals, 3);
    await world.journals.end(agent, JOURNAL, END);
    await world.journals.end(agent, JOURNAL, { ...END, reason: 'another' });
    for (let i = 0; i < 2; i += 1) {
      t.deepEqual((await world.journals.find(agent, JOURNAL))?.end, END);
      t.deepEqual((await world.reader.find(agent, JOURNAL))?.end, END);
      await refused(t, 'journal-closed', world.journals.append(agent, JOURNAL, journalRecords(4, 4)));
      t.deepEqual(await world.journals.append(agent, JOURNAL, journalRecords(2, 3)), { last: markOf(3) });
      t.deepEqual(await world.reader.records(agent, JOURNAL, ALL), journalRecords(1, 3));
      await world.reopen();
    }
  });

  test(`${name}: an audit is kept, and one with a fault ends the journal`, async (t) => {
    const world = await make(t);
    const { agent } = WEB;
    const good = { pointId: idOf('a'), ordinal: 3, fault: null };
    const bad = { pointId: idOf('b'), ordinal: 5, fault: 'block 7 differs' };
    await refused(t, 'journal-unknown', world.journals.noteAudit(agent, JOURNAL, good));
    await begun(world.journals, 6);
    await world.journals.noteAudit(agent, JOURNAL, good);
    await world.journals.noteAudit(agent, JOURNAL, { ...good, fault: 'another try' });
    await world.reopen();
    t.deepEqual((await world.journals.find(agent, JOURNAL))?.audits, [good]);
    t.is((await world.journals.find(agent, JOURNAL))?.end, null);
    await world.journals.noteAudit(agent, JOURNAL, bad);
    await world.journals.noteAudit(agent, JOURNAL, { pointId: idOf('d'), ordinal: 6, fault: null });
    await world.journals.end(agent, JOURNAL, END);
    for (const journals of [world.journals, world.reader]) {
      const stored = await journals.find(agent, JOURNAL);
      t.deepEqual(stored?.audits, [good, bad]);
      t.regex(stored?.end?.reason ?? '', /block 7 differs/);
    }
    await world.reopen();
    await refused(t, 'journal-closed', world.journals.append(agent, JOURNAL, journalRecords(7, 7)));
  });

  test(`${name}: records are given out up to a stamp, and so many that they fit`, async (t) => {
    const world = await make(t);
    const { agent } = WEB;
    await begun(world.journals, 0);
    for (const journals of [world.journals, world.reader])
      t.is((await journals.records(agent, JOURNAL, ALL)).length, 0);
    await begun(world.journals, 9);
    for (const journals of [world.journals, world.reader]) {
      const read = (more: object) => journals.records(agent, JOURNAL, { ...ALL, ...more });
      t.deepEqual(await read({ afterOrdinal: 4 }), journalRecords(5, 9));
      t.deepEqual(await read({ throughStamp: stampOf(6) }), journalRecords(1, 6));
      t.deepEqual(await read({ throughStamp: String(BigInt(stampOf(6)) - 1n) }), journalRecords(1, 5));
      t.is((await read({ afterOrdinal: 6, throughStamp: stampOf(6) })).length, 0);
      t.is((await read({ afterOrdinal: 6, throughStamp: stampOf(6), bytesMax: 10 })).length, 0);
      t.is((await read({ afterOrdinal: 9 })).length, 0);
      t.is((await read({ afterOrdinal: 100 })).length, 0);
      const three = { afterOrdinal: 2, bytesMax: 3 * RECORD_BYTES + 10 };
      t.deepEqual(await read(three), journalRecords(3, 5));
      t.deepEqual(await read({ afterOrdinal: 2, bytesMax: 1 }), journalRecords(3, 3));
      t.deepEqual(await allRecords(journals, 1000), journalRecords(1, 9));
    }
  });

  test(`${name}: journals are listed by agent, device and time`, async (t) => {
    const world = await make(t);
    const { journals } = world;
    const begin = async (agent: string, device: string, digit: string, stampBase: bigint | null) => {
      await journals.begin({ agent, device }, idOf(digit), CLOCK);
      if (stampBase !== null) await journals.append(agent, idOf(digit), journalRecords(1, 1, { stampBase }));
    };
    await begin('web1', 'wal', '1', 5_000n);
    await begin('web1', 'data', '2', null);
    await begin('web1', 'data', '3', 30_000n);
    await begin('web1', 'data', '4', 4_000n);
    await begin('db1', 'data', '5', 1n);
    // An id that another agent has, too, is another journal.
    await begin('db1', 'data', '4', 2n);
    for (const view of [journals, world.reader]) {
      const ids = async (key: object) => (await view.list(key)).map(({ journalId }) => journalId[0]).join('');
      t.is(await ids({}), '544321');
      t.is(await ids({ agent: 'web1' }), '4321');
      t.is(await ids({ agent: 'web1', device: 'data' }), '432');
      t.is(await ids({ device: 'data' }), '54432');
      t.is(await ids({ agent: 'web3' }), '');
      // Of which of the two is not known: their records are never mixed.
      await refused(t, 'journal-unknown', view.records(null, idOf('4'), ALL));
      await refused(t, 'journal-unknown', view.find(null, idOf('4')));
      t.is((await view.find('db1', idOf('4')))?.agent, 'db1');
    }
    const other = { agent: 'web1', device: 'wal' };
    await refused(t, 'bad-message', journals.begin(other, idOf('3'), CLOCK));
    await refused(t, 'bad-message', journals.begin(WEB, idOf('3'), idOf('d')));
  });

  test(`${name}: a device has only so many journals`, async (t) => {
    const { journals } = await make(t);
    const id = (n: number) => n.toString(16).padStart(32, '0');
    for (let n = 0; n < JOURNALS_PER_DEVICE_MAX; n += 1) await journals.begin(WEB, id(n), CLOCK);
    await refused(t, 'busy', journals.begin(WEB, id(999), CLOCK));
    await journals.begin(WEB, id(3), CLOCK);
    await journals.begin({ ...WEB, device: 'wal' }, id(999), CLOCK);
    await journals.remove(WEB.agent, id(3));
    await journals.begin(WEB, id(1000), CLOCK);
    t.is((await journals.list(WEB)).length, JOURNALS_PER_DEVICE_MAX);
  });

  test(`${name}: a trim leaves all that is later, and the last record`, async (t) => {
    const world = await make(t);
    const { agent } = WEB;
    await begun(world.journals, 5);
    const before = (await world.journals.find(agent, JOURNAL))?.sizeBytes ?? 0;
    const freed = await world.journals.trim(agent, JOURNAL, 3);
    for (const journals of [world.journals, world.reader]) {
      const { first, sizeBytes } = (await journals.find(agent, JOURNAL)) ?? { first: null, sizeBytes: 0 };
      t.true(first !== null && first.ordinal <= 4);
      t.is(before - sizeBytes, freed);
      t.deepEqual(await journals.records(agent, JOURNAL, { ...ALL, afterOrdinal: 3 }), journalRecords(4, 5));
    }
    await world.journals.trim(agent, JOURNAL, 5);
    t.deepEqual((await world.journals.find(agent, JOURNAL))?.last, markOf(5));
    t.deepEqual(await world.journals.append(agent, JOURNAL, journalRecords(6, 6)), { last: markOf(6) });
    await refused(t, 'journal-unknown', world.journals.trim(agent, idOf('9'), 5));
  });

  test(`${name}: what is removed is gone, and may begin again`, async (t) => {
    const world = await make(t);
    const { agent } = WEB;
    await begun(world.journals, 5);
    t.is(await world.journals.remove('web2', JOURNAL), 0);
    t.true((await world.journals.remove(agent, JOURNAL)) > 0);
    t.is(await world.journals.remove(agent, JOURNAL), 0);
    for (const journals of [world.journals, world.reader]) {
      t.is(await journals.find(null, JOURNAL), null);
      await refused(t, 'journal-unknown', journals.records(agent, JOURNAL, ALL));
    }
    await refused(t, 'journal-unknown', world.journals.append(agent, JOURNAL, journalRecords(6, 6)));
    const instant = { kind: 'stamp', ordinal: 1, stamp: 7n } as const;
    await world.journals.begin(WEB, JOURNAL, CLOCK);
    await world.journals.append(agent, JOURNAL, journalRecord(instant));
    await world.reopen();
    t.deepEqual(await world.reader.records(agent, JOURNAL, ALL), journalRecord(instant));
    t.deepEqual(await world.journals.records(agent, JOURNAL, ALL), journalRecord(instant));
  });
}
