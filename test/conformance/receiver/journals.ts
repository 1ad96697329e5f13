/** Journals, as every ReceiverPort takes and gives them. */
import { stampMs } from '../../../src/domain/journal/journal.js';
import { journalRecords } from '../../helpers/bytes/journal-records.js';
import type { Tests } from '../../helpers/in-turns.js';
import { CLOCK_ID, JournaledDevice } from '../../helpers/journals/journaled-device.js';
import { type MakeWorld, newSessionId } from '../receiver.js';

const BASE = 1_800_000_000_000_000_000n;
const stampOf = (ordinal: number) => String(BASE + BigInt(ordinal) * 1000n);
const markOf = (ordinal: number) => ({ ordinal, stamp: stampOf(ordinal) });
const NEVER = String(2n ** 64n - 1n);
const END = { reason: 'the spool is full', stamp: stampOf(9), lastOrdinal: 9 };

export function journalsConformance(test: Tests, make: MakeWorld): void {
  test('journal: what is appended is given back, also after a restart', async (t) => {
    const world = await make(t);
    const [id, other] = [newSessionId(), newSessionId()];
    let port = await world.portFor('host');
    const begun = await port.beginJournal('disk', id, CLOCK_ID);
    t.like(begun, {
      agent: 'host',
      device: 'disk',
      journalId: id,
      clockId: CLOCK_ID,
      first: null,
      last: null,
    });
    t.deepEqual(await port.appendJournal(id, journalRecords(1, 5)), { last: markOf(5) });
    t.deepEqual(await port.appendJournal(id, journalRecords(3, 9)), { last: markOf(9) });
    t.deepEqual(await port.appendJournal(id, journalRecords(1, 2)), { last: markOf(9) });
    await port.beginJournal('logs', other, CLOCK_ID);
    await world.restart();
    port = await world.portFor('host');
    t.like(await port.beginJournal('disk', id, CLOCK_ID), { first: markOf(1), last: markOf(9), end: null });
    t.deepEqual(
      (await port.journals()).map(({ device, journalId }) => [device, journalId]),
      [
        ['disk', id],
        ['logs', other],
      ],
    );
    t.deepEqual(
      (await port.journals('logs')).map(({ journalId }) => journalId),
      [other],
    );
    t.deepEqual(Buffer.from(await port.journalRecords(id, 0, NEVER)), journalRecords(1, 9));
    t.deepEqual(Buffer.from(await port.journalRecords(id, 3, stampOf(6))), journalRecords(4, 6));
    t.is((await port.journalRecords(id, 9, NEVER)).length, 0);
    t.is((await port.journalRecords(id, 5, stampOf(5))).length, 0);
    t.is((await port.journalRecords(other, 0, NEVER)).length, 0);
    const [journal] = await port.journals('disk');
    t.true((journal?.sizeBytes ?? 0) >= journalRecords(1, 9).length);
    t.is(stampMs(stampOf(1)), Number(BASE / 1_000_000n));
  });

  test('journal: gaps, what is no record, and what comes after the end are refused', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const id = newSessionId();
    await port.beginJournal('disk', id, CLOCK_ID);
    await t.throwsAsync(port.appendJournal(id, journalRecords(2, 3)), { code: 'journal-gap' });
    await port.appendJournal(id, journalRecords(1, 9));
    await t.throwsAsync(port.appendJournal(id, journalRecords(11, 12)), { code: 'journal-gap' });
    const damaged = journalRecords(10, 11);
    damaged[100] = 1;
    await t.throwsAsync(port.appendJournal(id, damaged), { code: 'bad-message' });
    const cut = journalRecords(10, 11);
    await t.throwsAsync(port.appendJournal(id, cut.subarray(0, cut.length - 1)), { code: 'bad-message' });
    await t.throwsAsync(port.beginJournal('logs', id, CLOCK_ID), { code: 'bad-message' });
    await t.throwsAsync(port.beginJournal('disk', id, newSessionId()), { code: 'bad-message' });
    await port.endJournal(id, END);
    await port.endJournal(id, { ...END, reason: 'another' });
    await t.throwsAsync(port.appendJournal(id, journalRecords(10, 11)), { code: 'journal-closed' });
    t.deepEqual(await port.appendJournal(id, journalRecords(9, 9)), { last: markOf(9) });
    t.like((await port.journals('disk'))[0], { first: markOf(1), last: markOf(9), end: END });
    t.deepEqual(Buffer.from(await port.journalRecords(id, 8, NEVER)), journalRecords(9, 9));
  });

  test("journal: another agent's is as unknown as none", async (t) => {
    const world = await make(t);
    const [port, stranger] = [await world.portFor('host'), await world.portFor('stranger')];
    const [id, none] = [newSessionId(), newSessionId()];
    await port.beginJournal('disk', id, CLOCK_ID);
    await port.appendJournal(id, journalRecords(1, 9));
    const tellOf = (journalId: string) => [
      () => stranger.appendJournal(journalId, journalRecords(10, 10)),
      () => stranger.endJournal(journalId, END),
      () => stranger.journalRecords(journalId, 0, NEVER),
    ];
    const errors = async (journalId: string) => {
      const told: string[] = [];
      for (const tell of tellOf(journalId)) {
        const error = await t.throwsAsync(tell(), { code: 'journal-unknown' });
        told.push((error?.message ?? '').replaceAll(journalId, 'ID'));
      }
      return told;
    };
    t.deepEqual(await errors(id), await errors(none));
    t.deepEqual(await stranger.journals(), []);
    t.like(
      await stranger.beginJournal('disk', id, CLOCK_ID),
      { agent: 'stranger', last: null },
      'ids are apart',
    );
    t.like((await port.journals())[0], { agent: 'host', last: markOf(9), end: null });
  });

  test('journal: a point says where its instant is', async (t) => {
    const world = await make(t);
    const port = await world.portFor('host');
    const device = new JournaledDevice(port);
    await device.begin();
    device.write(10, Buffer.from('content'));
    const position = device.hold();
    const point = await device.backUp(position);
    await device.ship();
    t.deepEqual(point.journal, position);
    t.deepEqual((await port.points('disk'))[0]?.journal, position);
    t.deepEqual((await port.journals('disk'))[0]?.last, { ordinal: 2, stamp: position.stamp });
  });
}
