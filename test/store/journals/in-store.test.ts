/** What the rest of a store does with its journals. */
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import type { VerifyEvent } from '../../../src/domain/session/messages.js';
import { native } from '../../../src/native/index.js';
import { createStore, openStore, openStoreForReading } from '../../../src/store/open.js';
import { journalRecords, scanJournal } from '../../helpers/bytes/journal-records.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { ALL, CLOCK, idOf, JOURNAL, WEB } from '../../helpers/journals/store-journals.js';
import { refused } from '../../helpers/refused.js';

native.scanJournal ??= scanJournal;

async function newStore(t: ExecutionContext) {
  const dir = join(await tempDir(t), 'store');
  await createStore(dir);
  const store = await openStore(dir);
  await store.journals.begin(WEB, JOURNAL, CLOCK);
  await store.journals.append(WEB.agent, JOURNAL, journalRecords(1, 5));
  return { dir, store };
}

async function damageOf(events: AsyncIterable<VerifyEvent>): Promise<string> {
  const found: string[] = [];
  for await (const event of events) if (event.type === 'finding') found.push(JSON.stringify(event));
  return found.join();
}

test('verify and scrubs, and who only reads, find a flipped bit in a journal', async (t) => {
  const { dir, store } = await newStore(t);
  t.is(await damageOf(store.verify({})), '');
  const name = join('journals', WEB.agent, WEB.device, JOURNAL, '00000000000000000001.records');
  const bytes = await readFile(join(dir, name));
  bytes[700] = (bytes[700] ?? 0) ^ 1;
  await writeFile(join(dir, name), bytes);
  const place = `${name} at byte 656`;
  t.true((await damageOf(store.verify({}))).includes(place));
  t.true((await damageOf(store.upkeep?.scrub({}) ?? store.verify({}))).includes(place));
  const reader = await openStoreForReading(dir);
  t.true((await damageOf(reader.verify({}))).includes(place));
  await reader.close();
  await store.close();
});

test('a reader sees records, and how much room they take', async (t) => {
  const { dir, store } = await newStore(t);
  const reader = await openStoreForReading(dir);
  t.deepEqual(await reader.journals.list({}), await store.journals.list({}));
  t.deepEqual(await reader.journals.records(WEB.agent, JOURNAL, ALL), journalRecords(1, 5));
  t.true((await reader.sizes()).journalBytes > 4 * 512);
  await store.journals.append(WEB.agent, JOURNAL, journalRecords(6, 6));
  t.deepEqual(await reader.journals.records(WEB.agent, JOURNAL, ALL), journalRecords(1, 6));
  await t.throwsAsync(async () => reader.journals.remove(WEB.agent, JOURNAL), { message: /reading only/ });
  await reader.close();
  await store.close();
  await refused(t, store.journals.list({}), 'cancelled');
});

test('a device and an agent take their journals along', async (t) => {
  const { dir, store } = await newStore(t);
  await store.journals.begin({ ...WEB, device: 'wal' }, idOf('2'), CLOCK);
  await store.renameAgent(WEB.agent, 'web2');
  t.deepEqual(await store.journals.list({ agent: WEB.agent }), []);
  t.is((await store.journals.list({ agent: 'web2' })).length, 2);
  await store.journals.append('web2', JOURNAL, journalRecords(6, 6));
  await store.journals.begin({ agent: 'db1', device: 'data' }, idOf('2'), CLOCK);
  await refused(t, store.checkRename('web2', 'db1'), 'bad-name');
  await refused(t, store.renameAgent('web2', 'db1'), 'bad-name');
  await store.removeDevice({ agent: 'web2', device: 'data' }, 'it is gone');
  await store.close();
  const reopened = await openStore(dir);
  const left = (await reopened.journals.list({})).map(({ agent, device }) => `${agent}/${device}`);
  t.deepEqual(left, ['db1/data', 'web2/wal']);
  t.is(await damageOf(reopened.verify({})), '');
  await reopened.close();
});
