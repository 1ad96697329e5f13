/** Root in another user's directory: links lead nowhere, and give nothing away. */
import { chown, link, mkdir, open, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { directoryOwner, giveFile } from '../../src/native/owner.js';
import { tempDir } from '../helpers/disks/temp-dir.js';
import { testWith } from '../helpers/requirements.js';

const other = { uid: 65_534, gid: 65_534 };

testWith(['root'], 'neither a link nor another name of a file is given away', async (t) => {
  const directory = await tempDir(t);
  const at = (name: string) => join(directory, name);
  for (const name of ['own', 'target', 'linked']) await writeFile(at(name), '');
  await symlink(at('target'), at('symlink'));
  await link(at('linked'), at('second'));
  await giveFile(at('own'), other);
  await t.throwsAsync(giveFile(at('symlink'), other), { code: 'ELOOP' });
  await giveFile(at('second'), other);
  t.like(await stat(at('own')), other);
  t.like(await stat(at('target')), { uid: 0, gid: 0 });
  t.like(await stat(at('linked')), { uid: 0, gid: 0 });
});

testWith(['root'], 'the owner of a directory is not that of a link to another', async (t) => {
  const directory = await tempDir(t);
  const [real, linked, file] = ['real', 'link', 'file'].map((name) => join(directory, name)) as [
    string,
    string,
    string,
  ];
  await mkdir(real);
  await chown(real, other.uid, other.gid);
  await symlink(real, linked);
  await (await open(file, 'w')).close();
  t.like(await directoryOwner(real), other);
  t.like(await directoryOwner(linked, true), other);
  t.is(await directoryOwner(linked), null);
  t.is(await directoryOwner(file, true), null);
});
