/**
 * Stores on media that others use too, or that differ: foreign files stay and harm nothing; names that differ
 * only in case never share a folder.
 */
import { existsSync, readdirSync } from 'node:fs';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import test from 'ava';
import { KiB } from '../../src/domain/base/limits.js';
import { type Disk, nodeDisk } from '../../src/store/disk/disk.js';
import { createStore, openStore, openStoreForReading } from '../../src/store/open.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { listFiles } from '../helpers/faults/disk.js';
import { refused } from '../helpers/refused.js';
import { backUp, change, describe, emptyState, holds } from '../helpers/worlds/store-device.js';

const geometry = { sizeBytes: 1000 * KiB, blockSize: 64 * KiB };
const state = change(emptyState(geometry), [[3, 7]]);
const later = change(state, [[4, 8]]);

const FOREIGN = [
  '@eaDir/x@SynoEAStream',
  '.DS_Store',
  'Thumbs.db',
  '.nfs000000001',
  'lost+found/#12',
  'desktop.ini',
  '.sync/a b',
];
const FOLDERS = [
  '',
  'packs',
  'points',
  'points/alpha',
  'points/alpha/disk',
  'partial',
  'capture',
  'index',
  'receiver',
];

test('foreign files anywhere are left alone, and all works', async (t) => {
  const dir = await tempDir(t);
  await mkdir(join(dir, '@eaDir'));
  await createStore(dir);
  const store = await openStore(dir);
  const point = await backUp(store, 'disk', null, state);
  await store.close();
  const manifest = 'points/alpha/disk/0000000001';
  const packs = (await listFiles(join(dir, 'packs'))).map((name) => `packs/${name}`);
  const foreign = [
    ...FOLDERS.flatMap((folder) => FOREIGN.map((name) => join(folder, name))),
    ...packs.flatMap((name) => [
      `${name} (conflicted copy)`,
      `${dirname(name)}/.DS_Store`,
      `${name}.sync-conflict-20260101`,
    ]),
    `${manifest} (conflicted copy)`,
    `${manifest}.orig`,
    'points/alpha (1)/disk/0000000001',
    'packs/.stfolder/x',
    `${dirname(manifest)}/._0000000001`,
    `${dirname(manifest)}/.syncthing.0000000001.tmp`,
  ];
  for (const name of foreign) {
    await mkdir(dirname(join(dir, name)), { recursive: true });
    await writeFile(join(dir, name), 'not yours');
  }
  const [packFolder = ''] = packs.map((name) => dirname(name));
  const ours = [
    'points/alpha/disk/.0000000002.tmp',
    `${packFolder}/.${packFolder.slice(-2)}${'ab'.repeat(15)}.tmp`,
    `partial/.${'c'.repeat(32)}.tmp`,
  ];
  for (const name of ours) await writeFile(join(dir, name), 'half');
  const messages: string[] = [];
  const reader = await openStoreForReading(dir, { log: (message) => messages.push(message) });
  t.deepEqual(await reader.points({}), [point]);
  for await (const event of reader.verify({})) t.not(event.type, 'finding', JSON.stringify(event));
  await reader.close();
  const owner = await openStore(dir, { log: (message) => messages.push(message) });
  const next = await backUp(owner, 'disk', state, later);
  t.is(next.sequence, 2);
  t.true(await holds(owner, next, later));
  for await (const event of owner.verify({})) t.not(event.type, 'finding', JSON.stringify(event));
  await owner.collect();
  await owner.close();
  t.deepEqual(messages, []);
  for (const name of foreign) t.is(await readFile(join(dir, name), 'utf8'), 'not yours', name);
  for (const name of ours) t.false(existsSync(join(dir, name)), `${name} is a temporary of ours`);
});

/**
 * A disk that finds names in any case and keeps that in which they were made, as SMB and vfat do. Few kernels
 * of test machines have such one.
 */
function withoutCase(disk: Disk): Disk {
  const found = (path: string): string => {
    if (path === '/' || existsSync(path)) return path;
    const parent = found(dirname(path));
    const names = existsSync(parent) ? readdirSync(parent) : [];
    const wanted = basename(path).toLowerCase();
    return join(parent, names.find((name) => name.toLowerCase() === wanted) ?? basename(path));
  };
  return new Proxy(disk, {
    get:
      (target, name: keyof Disk) =>
      (...[path, ...rest]: [string, ...unknown[]]) =>
        (target[name] as (...args: unknown[]) => unknown)(
          found(path),
          ...rest.map((arg) => (name === 'rename' ? found(String(arg)) : arg)),
        ),
  });
}

test('devices and agents whose names differ only in case never share a folder', async (t) => {
  const caseless = withoutCase(nodeDisk);
  const dir = await tempDir(t);
  await createStore(dir);
  const store = await openStore(dir, { disk: caseless });
  const point = await backUp(store, 'Disk', null, state);
  const error = await refused(t, backUp(store, 'disk', null, later), 'bad-name');
  t.is(
    error.message,
    'device disk: the store already has Disk, and its file system ignores upper and lower case. ' +
      'Choose another name with --name, or continue with Disk.',
  );
  const description = describe('Disk', state, null);
  await refused(
    t,
    store.createCapture({ ...description, agent: 'ALPHA' }),
    'bad-name',
    /agent ALPHA: .* already has alpha/,
  );
  // While neither has a folder yet.
  await store.createCapture({ ...describe('new', state, null) });
  await refused(t, store.createCapture({ ...describe('NEW', state, null) }), 'bad-name', /already has new/);
  t.true(await holds(store, point, state));
  t.is((await backUp(store, 'Disk', state, later)).sequence, 2);
  await store.close();
});

test('where upper and lower case are told apart, both names are devices', async (t) => {
  const dir = await tempDir(t);
  await createStore(dir);
  const store = await openStore(dir);
  const one = await backUp(store, 'Disk', null, state);
  const two = await backUp(store, 'disk', null, later);
  t.true((await holds(store, one, state)) && (await holds(store, two, later)));
  await store.close();
});
