/**
 * store.json damaged or gone: the store is the same one, from its copy or its index, and
 * its points stay readable.
 */
import { readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../../src/domain/base/limits.js';
import { createStore, openStore, openStoreForReading } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { refused } from '../../helpers/refused.js';
import { backUp, change, emptyState, holds } from '../../helpers/worlds/store-device.js';

const state = change(emptyState({ sizeBytes: 1000 * KiB, blockSize: 64 * KiB }), [[3, 7]]);

async function makeWorld(t: ExecutionContext) {
  const dir = await tempDir(t);
  await createStore(dir);
  const store = await openStore(dir);
  const point = await backUp(store, 'disk', null, state);
  await store.close();
  return { dir, point, storeId: store.storeId };
}

const remove = (name: string) => (dir: string) => rm(join(dir, name), { recursive: true });
const damage = (name: string) => async (dir: string) => {
  const bytes = await readFile(join(dir, name));
  bytes[bytes.length - 20] = (bytes.at(-20) ?? 0) ^ 1;
  await writeFile(join(dir, name), bytes);
};
const empty = (name: string) => (dir: string) => writeFile(join(dir, name), '');
const flipVersion = async (dir: string) => {
  const path = join(dir, 'store.json');
  await writeFile(path, (await readFile(path, 'utf8')).replace('stillpoint-store 4', 'stillpoint-store 5'));
};

const HARMS = [
  ['store.json gone', [remove('store.json')], 'same'],
  ['store.json damaged', [damage('store.json')], 'same'],
  ['store.json empty', [empty('store.json')], 'same'],
  ['a bit of its version flipped', [flipVersion], 'same'],
  ['the copy gone', [remove('store-copy.json')], 'same'],
  ['the copy damaged', [damage('store-copy.json')], 'same'],
  ['both gone', [remove('store.json'), remove('store-copy.json')], 'same'],
  ['both damaged', [damage('store.json'), damage('store-copy.json')], 'same'],
  ['both and the index gone', [remove('store.json'), remove('store-copy.json'), remove('index')], 'new'],
  [
    'all but packs and points gone',
    ['store.json', 'store-copy.json', 'index', 'lock', 'capture'].map(remove),
    'new',
  ],
] as const;

for (const [name, harms, id] of HARMS) {
  test(`${name}: read in memory, then repaired by who writes`, async (t) => {
    const { dir, point, storeId } = await makeWorld(t);
    for (const harm of harms) await harm(dir);
    const messages: string[] = [];
    const log = (message: string) => messages.push(message);
    const reader = await openStoreForReading(dir, { log });
    t.is(reader.storeId === storeId, id === 'same');
    t.true(await holds(reader, point, state));
    await reader.close();
    const concernsStoreFile = !name.startsWith('the copy');
    t.is(
      messages.some((message) => message.includes('store.json')),
      concernsStoreFile,
      messages.join(),
    );
    const owner = await openStore(dir, { log });
    t.true(await holds(owner, point, state));
    if (id === 'same') t.is(owner.storeId, storeId);
    await owner.close();
    for (const file of ['store.json', 'store-copy.json'])
      t.true((await readFile(join(dir, file), 'utf8')).includes(owner.storeId), file);
    const again: string[] = [];
    const next = await openStoreForReading(dir, { log: (message) => again.push(message) });
    t.is(next.storeId, owner.storeId);
    t.true(await holds(next, point, state));
    for await (const event of next.verify({})) t.not(event.type, 'finding');
    await next.close();
    t.deepEqual(again, []);
  });
}

test('a directory that never was a store is none, whatever else is in it', async (t) => {
  const dir = await tempDir(t);
  await writeFile(join(dir, 'letter.txt'), 'x');
  await refused(t, openStoreForReading(dir), 'store-missing');
  await refused(t, openStore(dir), 'store-missing');
});
