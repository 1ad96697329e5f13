/** Bytes of a journal that flipped, and files of it that are gone: named, and never given out. */
import { appendFile, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { native } from '../../../src/native/index.js';
import { journalRecords } from '../../helpers/bytes/journal-records.js';
import {
  ALL,
  allRecords,
  CLOCK,
  idOf,
  JOURNAL,
  journalsDir,
  openJournals,
  readJournals,
  WEB,
} from '../../helpers/journals/store-journals.js';

const RECORD_BYTES = 64 + 512;
const FOLDER = join('journals', WEB.agent, WEB.device, JOURNAL);
const file = (first: number) => join(FOLDER, `${String(first).padStart(20, '0')}.records`);

/** Files with records 1 to 3, 4 to 6 and 7 to 9. */
async function made(t: ExecutionContext, isEnded: boolean): Promise<string> {
  const dir = await journalsDir(t);
  const journals = await openJournals(dir, undefined, [], 1200);
  await journals.begin(WEB, JOURNAL, CLOCK);
  for (const first of [1, 4, 7]) await journals.append(WEB.agent, JOURNAL, journalRecords(first, first + 2));
  await journals.noteAudit(WEB.agent, JOURNAL, { pointId: idOf('a'), ordinal: 3, fault: null });
  if (isEnded) await journals.end(WEB.agent, JOURNAL, { reason: 'it broke', stamp: '9', lastOrdinal: 9 });
  await journals.close();
  return dir;
}

async function flip(path: string, at: number): Promise<void> {
  const bytes = await readFile(path);
  bytes[at] = (bytes[at] ?? 0) ^ 0x10;
  await writeFile(path, bytes);
}

/** All that is given out before it is refused. */
async function readable(view: ReturnType<typeof readJournals>): Promise<{ last: number; thing: string }> {
  let last = 0;
  for (;;) {
    try {
      const part = await view.records(WEB.agent, JOURNAL, { ...ALL, afterOrdinal: last, bytesMax: 900 });
      if (part.length === 0) return { last, thing: '' };
      last = (await native.scanJournal(part, { afterOrdinal: last })).last?.ordinal ?? 0;
    } catch (error) {
      if (!isStillpointError(error, 'store-damaged')) throw error;
      return { last, thing: error.thing };
    }
  }
}

const CLASSES = [0, 3, 4, 5, 6, 7, 8, 10, 12, 16, 20, 24, 30, 32, 40, 47, 48, 63, 64, 300, 575];

for (const isEnded of [false, true]) {
  const name = isEnded ? 'ended' : 'open';
  test(`${name}: a flipped bit of a record is found, named, and not given out`, async (t) => {
    const dir = await made(t, isEnded);
    for (const [first, places] of [
      [4, [0, RECORD_BYTES, 2 * RECORD_BYTES]],
      [7, isEnded ? [0, RECORD_BYTES, 2 * RECORD_BYTES] : [0, RECORD_BYTES]],
    ] as const) {
      for (const place of places) {
        for (const at of CLASSES) {
          const what = `${file(first)} at byte ${place}, its byte ${at}`;
          await flip(join(dir, file(first)), place + at);
          const owned = await openJournals(dir);
          for (const view of [owned, readJournals(dir)]) {
            const findings = await view.check();
            t.is(findings.length, 1, what);
            t.is(findings[0]?.what, `${file(first)} at byte ${place}`, what);
            const { last, thing } = await readable(view as ReturnType<typeof readJournals>);
            t.is(last, first - 1 + place / RECORD_BYTES, what);
            // Of an open journal, what comes behind is not known of any more.
            if (isEnded || first === 4) t.is(thing, `${join(dir, file(first))} at byte ${place}`, what);
          }
          if (first === 7) {
            const more = owned.append(WEB.agent, JOURNAL, journalRecords(10, 10));
            const error = await t.throwsAsync(more, undefined, what);
            t.true(isStillpointError(error, 'journal-closed'), `${what}: ${String(error)}`);
          }
          await flip(join(dir, file(first)), place + at);
        }
      }
    }
    t.deepEqual(await (await openJournals(dir)).check(), []);
  });
}

test('while its owner runs, also the last record counts', async (t) => {
  const dir = await made(t, false);
  const owned = await openJournals(dir, undefined, [], 1 << 20);
  await owned.find(WEB.agent, JOURNAL);
  await flip(join(dir, file(7)), 2 * RECORD_BYTES + 100);
  t.is((await owned.check())[0]?.what, `${file(7)} at byte ${2 * RECORD_BYTES}`);
  t.is((await readable(owned as never)).last, 8);
  await truncate(join(dir, file(7)), RECORD_BYTES);
  t.regex((await owned.check())[0]?.reason ?? '', /had 1728/);
  await t.throwsAsync(owned.append(WEB.agent, JOURNAL, journalRecords(10, 10)), { message: /had 1728/ });
});

test('a flipped bit of a sealed text is found, and the journal is not given out', async (t) => {
  const dir = await made(t, true);
  const lengths = { journal: 0, end: 0, audits: 0 };
  for (const name of Object.keys(lengths)) {
    const path = join(dir, FOLDER, name);
    const { length } = await readFile(path);
    for (let at = 0; at < length; at += at < 100 ? 1 : 17) {
      await flip(path, at);
      const owned = await openJournals(dir);
      for (const view of [owned, readJournals(dir)]) {
        const what = `${name}, byte ${at}`;
        const outcome = await view.check().then(
          (findings) => findings.map((finding) => finding.what).join(),
          (error) => (isStillpointError(error, 'version') ? error.thing : String(error)),
        );
        t.true(outcome.endsWith(join(FOLDER, name)), `${what}: ${outcome}`);
        await t.throwsAsync(view.records(WEB.agent, JOURNAL, ALL), undefined, what);
      }
      await flip(path, at);
    }
    t.true(length > 100);
  }
});

test('files that are gone are named', async (t) => {
  for (const [name, remove] of [
    [file(4), (dir: string) => rm(join(dir, file(4)))],
    [join(FOLDER, 'journal'), (dir: string) => rm(join(dir, FOLDER, 'journal'))],
    [file(7), (dir: string) => truncate(join(dir, file(7)), 100)],
    [file(7), (dir: string) => rm(join(dir, file(7)))],
  ] as const) {
    const dir = await made(t, true);
    await remove(dir);
    for (const view of [await openJournals(dir), readJournals(dir)]) {
      const [finding] = await view.check();
      const isNamed = finding?.what === name || (finding?.what === file(7) && name === file(4));
      t.true(isNamed, `${name}: ${JSON.stringify(finding)}`);
    }
  }
});

test('one that is damaged hides no other, can be removed, and to its tap it is closed', async (t) => {
  const dir = await made(t, false);
  await flip(join(dir, FOLDER, 'audits'), 120);
  const owned = await openJournals(dir);
  await owned.begin(WEB, idOf('2'), CLOCK);
  t.deepEqual(
    (await owned.list({})).map(({ journalId }) => journalId),
    [idOf('2')],
  );
  for (const step of [
    owned.begin(WEB, JOURNAL, CLOCK),
    owned.append(WEB.agent, JOURNAL, journalRecords(10, 10)),
  ])
    t.true(isStillpointError(await t.throwsAsync(step), 'journal-closed'));
  t.true((await owned.remove(WEB.agent, JOURNAL)) > 9 * 512);
  t.deepEqual(await owned.check(), []);
});

test('a torn tail is cut off, whatever it is, and told', async (t) => {
  for (const tail of [
    journalRecords(10, 10).subarray(0, 1),
    journalRecords(10, 10).subarray(0, 63),
    journalRecords(10, 10).subarray(0, -1),
    Buffer.alloc(700),
    Buffer.concat([Buffer.alloc(RECORD_BYTES), journalRecords(2, 3)]),
  ]) {
    const dir = await made(t, false);
    await appendFile(join(dir, file(7)), tail);
    t.deepEqual(await readJournals(dir).check(), []);
    const log: string[] = [];
    const owned = await openJournals(dir, undefined, log, 1 << 20);
    t.is((await owned.find(WEB.agent, JOURNAL))?.last?.ordinal, 9);
    t.regex(log.join(), new RegExp(`records: ${tail.length} bytes of a record`));
    await owned.append(WEB.agent, JOURNAL, journalRecords(10, 12));
    t.deepEqual(await allRecords(owned, 5000), journalRecords(1, 12));
    t.deepEqual(await owned.check(), []);
  }
});
