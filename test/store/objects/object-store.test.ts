import { mkdir } from 'node:fs/promises';
import test from 'ava';
import { nodeDisk } from '../../../src/store/disk/disk.js';
import { LocalObjectStore } from '../../../src/store/objects/local-object-store.js';
import { testObjectStore } from '../../conformance/store/object-store.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { MemoryObjectStore } from '../../helpers/fakes/memory-object-store.js';
import { FaultyDisk, listFiles } from '../../helpers/faults/disk.js';
import { FaultyObjectStore } from '../../helpers/faults/object-store.js';

testObjectStore('local', async (_t, dir) => {
  await mkdir(dir);
  return new LocalObjectStore(nodeDisk, dir);
});
testObjectStore('local on a counting disk', async (_t, dir) => {
  await mkdir(dir);
  return new LocalObjectStore(new FaultyDisk(nodeDisk, () => null), dir);
});
testObjectStore('memory', async () => new MemoryObjectStore());
testObjectStore('without faults', async () => new FaultyObjectStore(new MemoryObjectStore(), () => null));

test('local: a put that fails at any step leaves the whole object or none, and can be repeated', async (t) => {
  const bytes = Buffer.from('the object');
  for (const fault of ['EIO', 'ENOSPC', 'crash', { short: 'ENOSPC' }] as const) {
    for (let failing = 1; ; failing += 1) {
      const dir = await tempDir(t);
      const disk = new FaultyDisk(nodeDisk, ({ number }) => (number === failing ? fault : null));
      const failed = await new LocalObjectStore(disk, dir).put('a/b', bytes).then(
        () => false,
        () => true,
      );
      const store = new LocalObjectStore(nodeDisk, dir);
      const size = await store.size('a/b');
      t.true(size === null || size === bytes.length);
      if (!failed) {
        t.is(size, bytes.length);
        break;
      }
      await store.put('a/b', bytes);
      t.deepEqual(await store.read('a/b', 0, bytes.length), bytes);
      await store.removeDebris('a');
      t.deepEqual(await listFiles(dir), ['a/b']);
      await store.close();
      t.true(failing < 50);
    }
  }
});

test('local: no more files stay open than the bound', async (t) => {
  const dir = await tempDir(t);
  let open = 0;
  let most = 0;
  const counting = {
    ...nodeDisk,
    async open(path: string, mode: 'append' | 'read') {
      const file = await nodeDisk.open(path, mode);
      open += 1;
      most = Math.max(most, open);
      return {
        append: (parts: readonly Uint8Array[]) => file.append(parts),
        read: (byteOffset: number, byteLength: number) => file.read(byteOffset, byteLength),
        sync: () => file.sync(),
        truncate: (byteLength: number) => file.truncate(byteLength),
        size: () => file.size(),
        close: () => {
          open -= 1;
          return file.close();
        },
      };
    },
  };
  const store = new LocalObjectStore(counting, dir);
  for (let i = 0; i < 150; i += 1) {
    await store.put(`k/${i}`, Buffer.from('x'));
    await store.read(`k/${i}`, 0, 1);
  }
  t.true(most <= 66, `${most} files were open`);
  await store.close();
  t.is(open, 0);
});
