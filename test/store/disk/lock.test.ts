/** Who may have a store, who waits, and what is said where there are no locks. */
import { truncateSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { lockStore, lockStoreInTurn, type StoreOwner } from '../../../src/store/disk/lock.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { refused } from '../../helpers/refused.js';

for (const errno of ['ENOLCK', 'EOPNOTSUPP', 'ENOSYS', 'EINVAL']) {
  test(`a file system without locks is said to be one: ${errno}`, async (t) => {
    const path = join(await tempDir(t), 'lock');
    const flock = () => {
      throw Object.assign(new Error(errno), { code: errno });
    };
    const error = await refused(t, (async () => lockStore(path, '/store', { flock }))(), 'store-io');
    t.is(error.thing, `lock ${path}`);
    t.regex(error.message, new RegExp(`does not support locks \\(flock: ${errno}\\).*Mount it with locks`));
  });
}

test('a lock says who holds it, and nobody afterwards', async (t) => {
  const path = join(await tempDir(t), 'lock');
  const lock = lockStore(path, '/store', { role: 'receiver' });
  t.is(await readFile(path, 'utf8'), `${process.pid} receiver\n`);
  lock.release();
  t.is(await readFile(path, 'utf8'), '');
});

test('who waits for a command gets its turn; a receiver that serves is not waited for', async (t) => {
  const path = join(await tempDir(t), 'lock');
  const first = lockStore(path, '/store');
  const owners: StoreOwner[] = [];
  const onWait = (owner: StoreOwner) => owners.push(owner);
  const turn = lockStoreInTurn(path, '/store', { onWait }, { role: 'receiver' });
  setTimeout(() => first.release(), 500);
  const second = await turn;
  t.deepEqual(owners, [{ processId: process.pid, role: 'command' }]);
  const error = await refused(t, lockStoreInTurn(path, '/store', { onWait }), 'store-locked');
  t.regex(error.message, /a receiver that serves, has it open\. Stop it first\. To back up to it/);
  t.is(owners.length, 1);
  second.release();
});

test('the lock of an earlier version has a process id only: it is waited for, until the signal', async (t) => {
  const path = join(await tempDir(t), 'lock');
  const first = lockStore(path, '/store');
  await writeFile(path, '4711\n');
  const aborter = new AbortController();
  const owners: StoreOwner[] = [];
  const onWait = (owner: StoreOwner) => {
    owners.push(owner);
    aborter.abort();
  };
  await refused(t, lockStoreInTurn(path, '/store', { onWait, signal: aborter.signal }), 'cancelled');
  t.deepEqual(owners, [{ processId: 4711, role: null }]);
  first.release();
});

test('an owner that has taken its line out, and holds the lock for a moment yet, is no other one', async (t) => {
  const path = join(await tempDir(t), 'lock');
  const first = lockStore(path, '/store');
  const owners: StoreOwner[] = [];
  const onWait = (owner: StoreOwner) => {
    owners.push(owner);
    truncateSync(path);
    setTimeout(() => first.release(), 500);
  };
  const second = await lockStoreInTurn(path, '/store', { onWait });
  second.release();
  t.deepEqual(owners, [{ processId: process.pid, role: 'command' }]);
});

test('a receiver does not wait for the store', async (t) => {
  const dir = await tempDir(t);
  await createStore(dir);
  const store = await openStore(dir);
  await refused(t, openStore(dir, { role: 'receiver' }), 'store-locked');
  await store.close();
});
