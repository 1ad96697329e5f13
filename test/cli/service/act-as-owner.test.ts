/** What root makes in a directory of somebody else is theirs, and no more than they may make. */
import { chmod, chown, mkdir, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { CommandContext } from '../../../src/cli/common/context.js';
import { ownerToBe } from '../../../src/cli/service/act-as-owner.js';
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
  t.is(await ownerToBe(root, theirs), null, 'it is root’s');
  t.is(await ownerToBe(root, join(directory, 'missing')), null);
  await chown(theirs, NOBODY, NOBODY);
  t.is(await ownerToBe({ userId: 1000 } as CommandContext, theirs), null);

  const owner = await ownerToBe(root, theirs);
  await owner?.make(() => writeFile(join(theirs, 'made'), ''));
  const { uid, gid } = await stat(join(theirs, 'made'));
  t.deepEqual([uid, gid], [NOBODY, NOBODY]);
  await t.throwsAsync(async () => owner?.make(() => writeFile(join(theirs, 'trap', 'file'), '')), {
    code: 'EACCES',
  });
  t.deepEqual([process.geteuid?.(), process.getegid?.()], [0, 0]);
  await writeFile(join(roots, 'file'), '');
});
