/** Agent and freezer were killed together, and the agent's own state is on what they have left frozen. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { KiB } from '../../src/domain/base/limits.js';
import { freezable, isFrozen, unfreeze } from '../helpers/disks/freezable.js';
import { killWithFreezer, startHolder } from '../helpers/disks/holder.js';
import { temporaryDirectory } from '../helpers/disks/loop-device.js';
import { EXIT_OK, makeMachine, outcome, start } from '../helpers/machines/stillpoint.js';
import { programs, testWith } from '../helpers/requirements.js';

/** Without a thaw it would wait for ever. */
const DONE_MS = 60_000;

testWith(['root', 'loop', ...programs('mkfs.ext4')], 'the next backup thaws it, and goes on', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const machine = await makeMachine(t, 'left-frozen', mountPoint);
  const image = join(await temporaryDirectory(t, 'image'), 'image');
  await writeFile(image, Buffer.alloc(64 * KiB, 1));
  await killWithFreezer(await startHolder(t, 60_000, [target]));
  const child = start(machine, ['backup', image, '--name', 'a', '--store', join(mountPoint, 'store')]);
  const ended = outcome(child);
  const result = await Promise.race([ended, sleep(DONE_MS, null, { ref: false })]);
  // Else the test could not end either.
  if (result === null) unfreeze(mountPoint);
  t.is(result?.code, EXIT_OK, result?.stderr);
  t.false(isFrozen(mountPoint));
});
