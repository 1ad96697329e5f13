/**
 * Real file systems, changed through their mount between two backups, come back bit for bit at both points.
 */
import { randomBytes } from 'node:crypto';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import {
  changeTree,
  checkFilesystem,
  FILESYSTEM_BYTES,
  FILESYSTEM_PROGRAMS,
  FILESYSTEMS,
  type Filesystem,
  fillTree,
  listTree,
  makeFilesystem,
} from '../helpers/disks/filesystem.js';
import { contentDigest, copyImage, difference } from '../helpers/disks/images.js';
import { attachLoop, mount } from '../helpers/disks/loop-device.js';
import { enroll, startReceiver } from '../helpers/machines/receiver.js';
import { backup, type Machine, makeMachine, points, restore } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

interface Instant {
  readonly sequence: number;
  /** A copy of the device's bytes at the backup. */
  readonly image: string;
  readonly tree: string;
}

for (const filesystem of FILESYSTEMS) {
  const programs = FILESYSTEM_PROGRAMS[filesystem].map((program) => ({ program }));
  testWith(
    ['root', 'loop', ...programs],
    `${filesystem}: two points through a directory store`,
    async (t) => {
      const machine = await makeMachine(t, filesystem);
      await backUpTwiceAndRestore(t, filesystem, machine, join(machine.directory, 'store'));
    },
  );
}

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }],
  'ext4: two points through a receiver over TLS',
  async (t) => {
    const receiver = await startReceiver(t);
    const machine = await makeMachine(t, 'tls');
    await enroll(t, receiver, machine, 'host-one');
    await backUpTwiceAndRestore(t, 'ext4', machine, null);
  },
);

async function backUpTwiceAndRestore(
  t: ExecutionContext,
  filesystem: Filesystem,
  machine: Machine,
  store: string | null,
): Promise<void> {
  const at = (name: string) => join(machine.directory, name);
  const sizeBytes = FILESYSTEM_BYTES[filesystem];
  await writeFile(at('source'), '');
  await truncate(at('source'), sizeBytes);
  const source = attachLoop(t, at('source'));
  makeFilesystem(filesystem, source);

  const instants: Instant[] = [];
  for (const [index, write] of [fillTree, changeTree].entries()) {
    const unmount = await mount(t, source, at('mounted'));
    await write(at('mounted'));
    const tree = listTree(at('mounted'));
    unmount();
    const point = await backup(t, machine, store, source, '--name', 'disk');
    t.is(point.sequence, index + 1);
    t.is(point.baseSequence, index === 0 ? null : index);
    t.is(point.kind, 'idle');
    t.deepEqual(point.warnings, []);
    copyImage(source, at(`copy-${index}`));
    instants.push({ sequence: point.sequence, image: at(`copy-${index}`), tree });
  }
  const [first, second] = await points(t, machine, store);
  t.true(
    (second?.statistics.changedBytes ?? Infinity) < (first?.statistics.changedBytes ?? 0),
    'the second point ships less than the first',
  );

  for (const instant of instants) {
    const image = at(`restored-${instant.sequence}`);
    await writeFile(image, randomBytes(1024 * 1024));
    await truncate(image, sizeBytes);
    const target = attachLoop(t, image);
    await restore(t, machine, store, `disk@${instant.sequence}`, target, '--verify');
    await restore(t, machine, store, `disk@${instant.sequence}`, at('image'), '--overwrite');
    t.is(difference(target, instant.image), null, 'device equals the source');
    t.is(contentDigest(target), contentDigest(instant.image));
    t.is(difference(at('image'), instant.image), null, 'image equals the source');
    checkFilesystem(filesystem, target);
    const unmount = await mount(t, target, at('restored-mount'), filesystem === 'xfs' ? 'ro,nouuid' : 'ro');
    t.is(listTree(at('restored-mount')), instant.tree);
    unmount();
  }
}
