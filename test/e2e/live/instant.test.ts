/**
 * One instant of a file system that a program writes to: it makes each block durable before it writes the
 * next one, so what is restored must be a beginning of what it wrote. State, store and log lie on the same
 * file system: what the backup itself writes is seen, too, and nothing waits for the freeze.
 */
import { once } from 'node:events';
import { open, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import {
  checkFilesystem,
  FILESYSTEM_BYTES,
  FILESYSTEM_PROGRAMS,
  FILESYSTEMS,
  type Filesystem,
  makeFilesystem,
} from '../../helpers/disks/filesystem.js';
import { attachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { generationsIn, isOneInstant } from '../../helpers/live/generations.js';
import {
  LIVE_REQUIREMENTS,
  type LiveResult,
  LiveWorld,
  NAME,
  startWriting,
} from '../../helpers/live/world.js';
import {
  EXIT_OK,
  lastResult,
  makeMachine,
  outcome,
  restore,
  start,
} from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';

const BLOCKS = 40;
const BACKUPS = LONG ? 12 : 2;

async function checkRestored(t: ExecutionContext, filesystem: Filesystem, image: string, mountPoint: string) {
  // The kernel takes a second btrfs with the same UUID for the first.
  if (filesystem === 'btrfs') run('btrfstune', '-f', '-m', image);
  const device = attachLoop(t, image);
  // The log of XFS is replayed by a mount alone.
  if (filesystem !== 'xfs') checkFilesystem(filesystem, device);
  const unmount = await mount(t, device, mountPoint, filesystem === 'xfs' ? 'nouuid' : 'defaults');
  const generations = await generationsIn(join(mountPoint, 'generations'), BLOCKS);
  unmount();
  if (filesystem === 'xfs') checkFilesystem(filesystem, device);
  t.true(isOneInstant(generations), `${filesystem}: ${generations.join(' ')}`);
  t.true((generations[0] ?? 0) > 1, 'it was written to');
}

for (const filesystem of FILESYSTEMS) {
  testWith(
    [...LIVE_REQUIREMENTS, ...programs('python3', ...FILESYSTEM_PROGRAMS[filesystem])],
    `${filesystem}, written to, with state, store and log on itself: each point is one instant`,
    async (t) => {
      t.timeout(20 * 60_000);
      // btrfs takes new room for all that is written.
      const times = LONG ? 8 : filesystem === 'btrfs' ? 3 : 1;
      const world = await LiveWorld.make(t, { sizeBytes: FILESYSTEM_BYTES[filesystem] * times });
      const { device } = world.disk;
      makeFilesystem(filesystem, device);
      await mount(t, device, world.at('mnt'));
      const within = await makeMachine(t, 'within', world.at('mnt'));
      const store = join(within.directory, 'store');
      const log = await open(join(within.directory, 'log'), 'a');
      t.teardown(() => log.close().catch(() => undefined));
      const file = world.at('mnt/generations');
      const writer = startWriting(t, { seed: 1, threads: 1, file, blocks: BLOCKS });
      await once(writer.process.stdout ?? writer.process, 'data');

      const results: LiveResult[] = [];
      for (let count = 0; count < BACKUPS; count += 1) {
        const args = ['backup', device, '--name', NAME, '--store', store, '--json'];
        const { code, stderr } = await outcome(start(within, args, log.fd));
        const printed = await readFile(join(within.directory, 'log'), 'utf8');
        if (code !== EXIT_OK) return t.fail(`${code}: ${stderr}${printed}`);
        results.push(lastResult<LiveResult>(printed));
      }
      await writer.kill();
      await log.close();
      for (const { point, tracking } of results) {
        const { sequence, kind, providerFacts } = point;
        t.is(kind, 'filesystem');
        t.is(tracking.used, sequence > 1, tracking.reason);
        t.true(Number(providerFacts?.frozenMs) > 0, JSON.stringify(providerFacts));
        const image = world.at(`restored-${sequence}`);
        await restore(t, within, store, `${NAME}@${sequence}`, image);
        await checkRestored(t, filesystem, image, world.at(`mnt-${sequence}`));
      }
    },
  );
}
