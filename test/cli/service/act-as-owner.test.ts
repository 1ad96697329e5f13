/** What root makes in a directory of somebody else is theirs, and no more than they may make. */
import { chmod, chown, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommandContext } from '../../../src/cli/common/context.js';
import { asOwner } from '../../../src/cli/service/act-as-owner.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { testWith } from '../../helpers/requirements.js';

const NOBODY = 65_534;
const root = { userId: 0 } as CommandContext;

testWith(['root'], 'the owner makes it, where the owner may; then root goes on', async (t) => {
  const directory = await tempDir(t);
  await chmod(directory, 0o755);
  const [theirs, roots] = [join(directory, 'theirs'), join(directory, 'roots')];
  await mkdir(roots, { mode: 0o700 });
  await mkdir(theirs);
  await symlink(roots, join(theirs, 'trap'));
  const madeBy = async (context: CommandContext, name: string): Promise<number> => {
    await asOwner(context, theirs, () => writeFile(join(theirs, name), ''));
    return (await stat(join(theirs, name))).uid;
  };
  t.is(await madeBy(root, 'by-root'), 0, 'the directory is root’s');
  await chown(theirs, NOBODY, NOBODY);
  t.is(await madeBy({ userId: 1000 } as CommandContext, 'by-others'), 0, 'not asked by root');
  t.is(await madeBy(root, 'by-owner'), NOBODY);
  t.is((await stat(join(theirs, 'by-owner'))).gid, NOBODY);
  await t.throwsAsync(
    asOwner(root, theirs, () => writeFile(join(theirs, 'trap', 'file'), '')),
    { code: 'EACCES' },
  );
  t.deepEqual([process.geteuid?.(), process.getegid?.()], [0, 0]);
  await writeFile(join(roots, 'file'), '');
});
