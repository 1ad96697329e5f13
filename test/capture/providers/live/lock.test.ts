/** A freezer that outlives its agent may still take marks, which nobody else may take meanwhile. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { prepareLive } from '../../../../src/capture/providers/live/live.js';
import { isStillpointError } from '../../../../src/domain/base/errors.js';
import { MiB } from '../../../../src/domain/base/limits.js';
import { attachLoop, temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { LIVE_REQUIREMENTS, trackNow, untrackAtEnd } from '../../../helpers/live/world.js';
import { refused } from '../../../helpers/refused.js';
import { testWith } from '../../../helpers/requirements.js';
import { HOLD } from '../../../helpers/worlds/quiesce.js';

/** Without its agent the freezer ends at once; on a busy machine that takes a while. */
const FREE_MS = 20_000;

testWith(LIVE_REQUIREMENTS, 'no other session begins while the freezer of a dead agent lives', async (t) => {
  const image = join(await temporaryDirectory(t, 'lock'), 'disk');
  await writeFile(image, '');
  await truncate(image, MiB);
  const device = attachLoop(t, image);
  await trackNow(await untrackAtEnd(t, device), false);
  const program = fileURLToPath(new URL('children/cutter.js', import.meta.url));
  const child = spawn(process.execPath, [program, device], { stdio: ['ignore', 'pipe', 'inherit'] });
  t.teardown(() => child.kill('SIGKILL'));
  const [line] = (await once(child.stdout, 'data')) as [Buffer];
  const freezer = Number(line.toString());
  t.true(freezer > 1);
  process.kill(freezer, 'SIGSTOP');
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
  await refused(t, prepareLive(device, HOLD), 'session-busy', /another command is working/);
  process.kill(freezer, 'SIGCONT');
  const next = async () => {
    for (const endMs = Date.now() + FREE_MS; ; await sleep(10)) {
      try {
        return await prepareLive(device, HOLD);
      } catch (error) {
        if (!isStillpointError(error, 'session-busy') || Date.now() > endMs) throw error;
      }
    }
  };
  await (await next()).release();
});
