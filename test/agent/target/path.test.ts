/** Symbolic links as targets: they are followed, and stay. */
import { lstat, mkdir, readFile, symlink, writeFile } from 'node:fs/promises';
import test from 'ava';
import { refused } from '../../helpers/refused.js';
import { restoreWorld } from '../../helpers/worlds/restore.js';

test('links are followed to an empty file, to one that is not there yet, and through one another', async (t) => {
  const { at, bytes, restore } = await restoreWorld(t);
  await mkdir(at('big'));
  await writeFile(at('big/empty'), '');
  await symlink('big/empty', at('to-empty'));
  await symlink('big/new', at('to-new'));
  await symlink(at('big'), at('big-too'));
  await symlink('big-too/far', at('first'));
  await symlink('first', at('second'));
  const cases = { 'to-empty': 'big/empty', 'to-new': 'big/new', second: 'big/far' };
  for (const [link, file] of Object.entries(cases)) {
    await restore(at(link));
    t.true((await lstat(at(link))).isSymbolicLink(), link);
    t.true((await lstat(at(file))).isFile(), file);
    t.true(bytes.equals(await readFile(at(file))), file);
  }
  await refused(t, restore(at('second')), 'usage', /it exists and is not empty/);
});

test('links that lead nowhere are refused, and stay', async (t) => {
  const { at, restore } = await restoreWorld(t);
  await writeFile(at('file'), 'x');
  await symlink('b', at('a'));
  await symlink('a', at('b'));
  const cases: Record<string, [string, RegExp]> = {
    device: [
      '/dev/disk/by-id/gone',
      /device: it leads to \/dev\/disk\/by-id\/gone, and there is no such device/,
    ],
    mistyped: ['/dev/sdnone', /it leads to \/dev\/sdnone, and there is no such device/],
    directory: ['no/such', /target-.*\/no: .*\/directory leads there, and there is no such directory/],
    behind: ['file/x', /there is no such directory/],
    circle: ['a', /its symbolic links lead in a circle/],
  };
  for (const [name, [to, message]] of Object.entries(cases)) {
    await symlink(to, at(name));
    await refused(t, restore(at(name)), 'device-not-found', message);
    t.true((await lstat(at(name))).isSymbolicLink(), name);
  }
  await refused(t, restore('/dev/sdnone'), 'device-not-found', /images do not belong in \/dev/);
});
