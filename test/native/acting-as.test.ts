/** A file of its own: the whole process acts as the other user, and no other test may run meanwhile. */
import { chown, stat, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { actingAs } from '../../src/native/owner.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { testWith } from '../helpers/requirements.js';

const other = { uid: 65_534, gid: 65_534 };

testWith(['root'], 'work as another user leaves files of that user, and ends', async (t) => {
  const directory = await tempDir(t);
  await chown(directory, other.uid, other.gid);
  await actingAs(other, () => writeFile(join(directory, 'theirs'), ''));
  await t.throwsAsync(
    actingAs(other, () => Promise.reject(new Error('broken'))),
    { message: 'broken' },
  );
  await writeFile(join(directory, 'roots'), '');
  t.like(await stat(join(directory, 'theirs')), other);
  t.like(await stat(join(directory, 'roots')), { uid: 0, gid: 0 });
});
