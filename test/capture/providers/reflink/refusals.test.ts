/** Where no clone is made, and what is said. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { chooseProvider } from '../../../../src/capture/choice/choose.js';
import { inspectDevice } from '../../../../src/capture/choice/inspect.js';
import { NO_REST } from '../../../../src/capture/instant.js';
import { reflinkEntry } from '../../../../src/capture/providers/reflink/entry.js';
import { MiB } from '../../../../src/domain/base/limits.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../../helpers/disks/loop-device.js';
import { refused } from '../../../helpers/refused.js';
import { programs, testWith } from '../../../helpers/requirements.js';
import { BackupWorld } from '../../../helpers/worlds/backup.js';
import { HOLD } from '../../../helpers/worlds/quiesce.js';
import { can, makeCloningDisk, useImage } from '../../../helpers/worlds/reflink.js';

const SIZE_BYTES = 4 * MiB;

async function whyNot(path: string, isNamed = true): Promise<string> {
  const probe = await reflinkEntry.probe({ path, stateDirectory: '/nonexistent', fuzzy: false, isNamed });
  return probe.possible ? 'possible' : probe.refusal.message;
}

testWith(
  ['root', 'loop', ...programs('mkfs.xfs', 'mkfs.ext4', 'mkfs.btrfs')],
  'file systems without clones, and directories without room for one, are named',
  async (t) => {
    for (const [filesystem, mkfs] of [
      ['ext4', []],
      ['xfs', ['-m', 'reflink=0']],
    ] as const) {
      const disk = await makeCloningDisk(t, filesystem, { mkfs });
      await writeFile(disk.image, 'x');
      await useImage(t, disk);
      const reason = filesystem === 'ext4' ? /neither XFS nor btrfs/ : /XFS that was made without reflinks/;
      t.regex(await whyNot(disk.image), reason);
    }
    const disk = await makeCloningDisk(t, 'btrfs');
    await writeFile(disk.image, Buffer.alloc(SIZE_BYTES, 1));
    t.is(await whyNot(disk.image), 'possible');
    t.regex(
      await whyNot(disk.image, false),
      /nobody writes to it, so it needs no clone\. .*--provider reflink/,
    );
    const bound = join(disk.directory, 'bound');
    await writeFile(bound, '');
    run('mount', '--bind', disk.image, bound);
    t.teardown(() => void run('umount', bound));
    t.regex(await whyNot(bound), /is on another file system, so its clone can't lie there/);
    const readOnly = join(disk.directory, 'ro');
    await mount(t, disk.mountPoint, readOnly, 'bind');
    run('mount', '-o', 'remount,bind,ro', readOnly);
    t.regex(await whyNot(join(readOnly, 'disk.img')), /no clone can be made in .*: .*read-only/);
    t.regex(await whyNot(attachLoop(t, disk.image)), /only image files can be cloned/);
    t.deepEqual(await disk.clones(), []);
  },
);

test('on tmpfs there are no clones', async (t) => {
  const path = join(await temporaryDirectory(t, 'reflink', '/dev/shm'), 'disk.img');
  await writeFile(path, 'x');
  t.regex(await whyNot(path), /neither XFS nor btrfs\. Back it up in another way/);
});

const EXTENTS = 15_000;

/** Each second page: an extent each. */
const FRAGMENTS = `
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
os.ftruncate(fd, ${EXTENTS} * 8192)
for page in range(${EXTENTS}): os.pwrite(fd, b'x' * 4096, page * 8192)
os.fsync(fd)
`;

testWith(
  ['root', 'loop', ...programs('mkfs.xfs', 'python3', 'xfs_io')],
  'an image of many extents: its wait is said; one that would be too long is for those who ask for it',
  async (t) => {
    const disk = await makeCloningDisk(t, 'xfs');
    run('python3', '-c', FRAGMENTS, disk.image);
    const writer = await useImage(t, disk);
    const world = await BackupWorld.make(t);
    const { stateDirectory } = world;
    const choose = (wanted?: 'reflink') =>
      chooseProvider({ path: disk.image, stateDirectory, rest: NO_REST, wanted });
    const { providers } = await inspectDevice(disk.image, null);
    const { cost } = providers.find(({ provider }) => provider === 'reflink') ?? {};
    t.regex(cost ?? '', /writers wait some 270 ms \(15000 extents\) for the clone/);
    const { provider } = await choose();
    t.is(provider.name, 'reflink');
    const snapshot = await provider.hold(disk.image, { ...HOLD, blockSize: 65_536 });
    const { facts } = await snapshot.conclude();
    t.is(facts?.extents, EXTENTS);
    const waited = Number(facts?.cloneMs);
    t.true(waited > 1);
    t.is(facts?.closedMs, facts?.cloneMs);
    const [warning = ''] = snapshot.warnings;
    t.regex(warning, /waited \d+ ms while it was cloned, because it has 15000 extents; defragment it$/);
    await snapshot.release();
    await writer.close();

    // The same again behind itself, thrice.
    for (let bytes = EXTENTS * 8192; bytes < 8 * EXTENTS * 8192; bytes *= 2)
      run('xfs_io', '-c', `reflink ${disk.image} 0 ${bytes} ${bytes}`, disk.image);
    await useImage(t, disk);
    await refused(t, choose(), 'device-in-use', /open for writing/);
    const { providers: now } = await inspectDevice(disk.image, null);
    const choice = now.find((one) => one.provider === 'reflink');
    t.regex(
      choice?.reason ?? '',
      /^all that writes to it would wait some \d\.\d s for its clone, because it has \d+ extents$/,
    );
    t.regex(choice?.remedy ?? '', /^Defragment it .*, or accept that: --provider reflink$/);
    t.is((await choose('reflink')).provider.name, 'reflink');
  },
);

testWith(
  ['root', 'loop', ...programs('mkfs.xfs', 'fallocate', 'mkswap')],
  'where a clone can not be made, there is no point, and nothing is left',
  async (t) => {
    const disk = await makeCloningDisk(t, 'xfs');
    await writeFile(disk.image, Buffer.alloc(SIZE_BYTES, 1));
    const writer = await useImage(t, disk);
    const probe = await can(disk.probe());
    const free = run('stat', '--file-system', '--format', '%a %S', disk.mountPoint)
      .trim()
      .split(' ')
      .map(Number);
    const bytes = (free[0] ?? 0) * (free[1] ?? 0);
    // The rest by files of one page, and by names.
    const fill =
      'fallocate -l "$2" "$1/full"; i=0; while fallocate -l 4096 "$1/full-$i"; do i=$((i+1)); done; ' +
      'while :>"$1/a-name-to-fill-a-directory-with-$i"; do i=$((i+1)); done';
    run('sh', '-c', `(${fill}) 2>/dev/null; true`, 'sh', disk.mountPoint, String(bytes - 256 * 1024));
    await refused(t, probe.prepare(HOLD), 'device-io', /no space left/);
    t.deepEqual(await disk.clones(), []);

    run('sh', '-c', 'rm "$1"/*full*', 'sh', disk.mountPoint);
    await writer.close();
    run('mkswap', disk.image);
    run('swapon', disk.image);
    t.teardown(() => void run('swapoff', disk.image));
    const member = await (await can(disk.probe(true))).prepare(HOLD);
    await member.close({ closedMs: 10_000 });
    await refused(t, member.cut(), 'device-io', /it can't be cloned: /);
    await member.release();
    t.deepEqual(await disk.clones(), []);
  },
);
