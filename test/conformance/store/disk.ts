/** What every disk must do for a store, whatever it forgets or fails besides. */
import { join } from 'node:path';
import anyTest, { type ExecutionContext, type TestFn } from 'ava';
import type { Disk } from '../../../src/store/disk/disk.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';

const test = anyTest as TestFn;

export function testDisk(name: string, make: (t: ExecutionContext) => Promise<Disk>): void {
  const withDisk = (title: string, body: (t: ExecutionContext, disk: Disk, dir: string) => Promise<void>) =>
    test(`${name}: ${title}`, async (t) => {
      await body(t, await make(t), await tempDir(t));
    });
  const write = async (disk: Disk, path: string, text: string): Promise<void> => {
    const file = await disk.create(path);
    await file.append([Buffer.from(text)]);
    await file.sync();
    await file.close();
  };
  const text = async (disk: Disk, path: string): Promise<string> => {
    const file = await disk.open(path, 'read');
    const bytes = await file.read(0, await file.size());
    await file.close();
    return bytes.toString();
  };

  withDisk('a file is appended to, read in ranges, and cut', async (t, disk, dir) => {
    const path = join(dir, 'file');
    const file = await disk.create(path);
    await file.append([]);
    await file.append([Buffer.from('0123'), Buffer.alloc(0), Buffer.from('456')]);
    t.is(await file.size(), 7);
    t.is((await file.read(2, 3)).toString(), '234');
    await t.throwsAsync(file.read(5, 3), { code: 'ETRUNCATED' });
    await file.truncate(4);
    await file.append([Buffer.from('x')]);
    await file.sync();
    await file.close();
    t.is(await text(disk, path), '0123x');
    t.is(await disk.size(path), 5);
    const again = await disk.open(path, 'append');
    await again.append([Buffer.from('y')]);
    await again.close();
    t.is(await text(disk, path), '0123xy');
  });

  withDisk('a file is made once, and opened where it is', async (t, disk, dir) => {
    await write(disk, join(dir, 'file'), 'a');
    await t.throwsAsync(disk.create(join(dir, 'file')), { code: 'EEXIST' });
    for (const mode of ['read', 'append'] as const)
      await t.throwsAsync(disk.open(join(dir, 'absent'), mode), { code: 'ENOENT' });
    t.is(await disk.size(join(dir, 'absent')), null);
  });

  withDisk('a name moves, over another one too, and goes', async (t, disk, dir) => {
    const [a, b] = [join(dir, 'a'), join(dir, 'b')];
    await write(disk, a, 'new');
    await write(disk, b, 'old');
    await disk.rename(a, b);
    await disk.syncDir(dir);
    t.is(await text(disk, b), 'new');
    t.is(await disk.size(a), null);
    await t.throwsAsync(disk.rename(a, b), { code: 'ENOENT' });
    await disk.remove(b);
    await disk.remove(b);
    t.deepEqual(await disk.list(dir), []);
  });

  withDisk('directories are made, listed and removed with all that they hold', async (t, disk, dir) => {
    const inner = join(dir, 'd');
    t.true(await disk.makeDir(inner));
    t.false(await disk.makeDir(inner));
    await write(disk, join(inner, 'file'), 'x');
    await write(disk, join(dir, 'f'), 'x');
    const entries = [...(await disk.list(dir))].sort((a, b) => (a.name < b.name ? -1 : 1));
    t.deepEqual(entries, [
      { name: 'd', isDirectory: true },
      { name: 'f', isDirectory: false },
    ]);
    t.deepEqual(await disk.list(join(dir, 'absent')), []);
    await disk.removeDir(inner);
    await disk.removeDir(inner);
    t.deepEqual(await disk.list(inner), []);
  });

  withDisk('there is room, and not more than there is in all', async (t, disk, dir) => {
    const { totalBytes, freeBytes } = await disk.room(dir);
    t.true(totalBytes > 0 && freeBytes > 0 && freeBytes <= totalBytes);
  });
}
