/** What every object store must do, whatever keeps its objects. */
import { access, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import type { ObjectStore } from '../../../src/store/objects/object-store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const test = anyTest as TestFn;

export function testObjectStore(
  name: string,
  make: (t: ExecutionContext, dir: string) => Promise<ObjectStore>,
): void {
  const withStore = (
    title: string,
    body: (t: ExecutionContext, store: ObjectStore, dir: string) => Promise<void>,
  ) =>
    test(`${name}: ${title}`, async (t) => {
      const dir = await tempDir(t);
      const store = await make(t, join(dir, 'objects'));
      await body(t, store, dir);
      await store.close();
    });

  withStore('an object is had whole, in ranges, and by size', async (t, store) => {
    const bytes = Buffer.from('0123456789');
    t.true(await store.put('a/b/c', bytes));
    t.deepEqual(await store.read('a/b/c', 0, 10), bytes);
    t.deepEqual(await store.read('a/b/c', 3, 4), Buffer.from('3456'));
    t.deepEqual(await store.read('a/b/c', 10, 0), Buffer.alloc(0));
    t.is(await store.size('a/b/c'), 10);
    t.is(await store.withFile('a/b/c', (path) => readFile(path, 'utf8')), '0123456789');
  });

  withStore('what is beyond the end, or not there, is an error', async (t, store) => {
    await store.put('short', Buffer.from('abc'));
    await t.throwsAsync(store.read('short', 2, 2), { code: 'ETRUNCATED' });
    await t.throwsAsync(store.read('absent', 0, 1), { code: 'ENOENT' });
    t.is(await store.size('absent'), null);
    t.is(await store.size('no/such/folder'), null);
    // An object that comes later is found, although it was missed before.
    await store.put('absent', Buffer.from('x'));
    t.deepEqual(await store.read('absent', 0, 1), Buffer.from('x'));
  });

  withStore('an object is never replaced', async (t, store, dir) => {
    t.true(await store.put('key', Buffer.from('first')));
    t.false(await store.put('key', Buffer.from('second')));
    const file = join(dir, 'third');
    await writeFile(file, 'third');
    t.false(await store.putFile('key', file));
    t.deepEqual(await store.read('key', 0, 5), Buffer.from('first'));
    await t.notThrowsAsync(access(file));
  });

  withStore('of many that put the same key at once, one wins', async (t, store) => {
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => store.put('race/key', Buffer.from(String(i).padStart(2, '0')))),
    );
    t.is(results.filter(Boolean).length, 1);
    const winner = results.indexOf(true);
    t.is((await store.read('race/key', 0, 2)).toString(), String(winner).padStart(2, '0'));
  });

  withStore('a file is taken over', async (t, store, dir) => {
    const file = join(dir, 'local');
    await writeFile(file, 'content');
    t.true(await store.putFile('packs/ab/file', file));
    t.deepEqual(await store.read('packs/ab/file', 0, 7), Buffer.from('content'));
    await t.throwsAsync(access(file));
  });

  withStore('a folder is listed in order, with sizes, and nothing else', async (t, store) => {
    for (const key of ['packs/b2/2', 'packs/a1/1', 'packs/a1/10', 'packsother/x', 'points/y']) {
      await store.put(key, Buffer.from(key));
    }
    t.deepEqual(await store.list('packs'), [
      { key: 'packs/a1/1', sizeBytes: 10 },
      { key: 'packs/a1/10', sizeBytes: 11 },
      { key: 'packs/b2/2', sizeBytes: 10 },
    ]);
    t.deepEqual(await store.list('nothing'), []);
  });

  withStore('a deleted object is gone, may be deleted again, and may come again', async (t, store) => {
    await store.put('x/y', Buffer.from('old'));
    await store.read('x/y', 0, 3);
    await store.delete('x/y');
    await store.delete('x/y');
    t.is(await store.size('x/y'), null);
    await t.throwsAsync(store.read('x/y', 0, 3), { code: 'ENOENT' });
    t.true(await store.put('x/y', Buffer.from('new')));
    t.deepEqual(await store.read('x/y', 0, 3), Buffer.from('new'));
  });

  withStore('many objects are read at once', async (t, store) => {
    const keys = Array.from({ length: 200 }, (_, i) => `many/${i}`);
    await Promise.all(keys.map((key) => store.put(key, Buffer.from(key))));
    const read = await Promise.all(
      keys.flatMap((key) => [store.read(key, 0, key.length), store.read(key, 0, 4)]),
    );
    t.deepEqual(
      read.map(String),
      keys.flatMap((key) => [key, 'many']),
    );
  });

  withStore('keys that are no plain paths are refused', async (t, store) => {
    for (const key of ['', '/a', 'a/', 'a//b', '../a', 'a/../b', 'a/.b', '.', 'a b', 'a\0']) {
      await t.throwsAsync(
        async () => store.put(key, Buffer.alloc(1)),
        { message: /not a path of plain names/ },
        key,
      );
    }
  });
}
