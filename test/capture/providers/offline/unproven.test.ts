/**
 * Sources whose times or counters prove nothing, real ones: what a hold says of them, and what
 * the second reading finds.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { link, mkdir, open, rename, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { inspectDevice } from '../../../../src/capture/choice/inspect.js';
import type { Snapshot } from '../../../../src/capture/ports.js';
import { offlineProvider } from '../../../../src/capture/providers/offline/offline.js';
import { doubtfulFileSystem } from '../../../../src/devices/facts/honest-times.js';
import {
  attachLoop,
  detachLoop,
  mount,
  run,
  temporaryDirectory,
} from '../../../helpers/disks/loop-device.js';
import { NBD_FUSE_REQUIREMENTS, nbdFile } from '../../../helpers/disks/nbd-fuse.js';
import { attachPartitioned } from '../../../helpers/disks/partition-table.js';
import { refused } from '../../../helpers/refused.js';
import { testWith } from '../../../helpers/requirements.js';

const KIB = 1024;
const MIB = 1024 * KIB;
const OPTIONS = {
  ...{ sessionId: '0'.repeat(32), basePointId: null, full: false, doubt: null, blockSize: 64 * KIB },
};

async function hold(t: ExecutionContext, path: string, fuzzy = false): Promise<Snapshot> {
  const snapshot = await offlineProvider.hold(path, { ...OPTIONS, fuzzy });
  t.teardown(() => snapshot.release());
  return snapshot;
}

async function image(t: ExecutionContext, sizeBytes = 4 * MIB): Promise<string> {
  const path = join(await temporaryDirectory(t, 'unproven'), 'disk.img');
  await writeFile(path, Buffer.alloc(sizeBytes, 7));
  return path;
}

async function overwrite(path: string, byteOffset = 0): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(Buffer.alloc(4 * KIB, 0x41), 0, 4 * KIB, byteOffset);
  await file.close();
}

/** An image as FUSE shows it: its times stand still whatever is written. */
async function fuseImage(t: ExecutionContext): Promise<{ shown: string; original: string }> {
  const original = await image(t);
  const server = ['--command', 'nbdkit', '-s', '--exit-with-parent', 'file', original];
  return { shown: (await nbdFile(t, `${original}.nbd`, server)).path, original };
}

const FUSE = [...NBD_FUSE_REQUIREMENTS, { program: 'nbdkit' }] as const;

testWith(FUSE, 'an image on FUSE is unproven; it is read past the page cache', async (t) => {
  const { shown, original } = await fuseImage(t);
  const snapshot = await hold(t, shown);
  t.is(snapshot.continuity, undefined);
  t.deepEqual((await snapshot.device.read(0, 4 * KIB))[0], 7);
  t.deepEqual((await snapshot.device.read(4 * MIB - 100, 100))[0], 7);
  await overwrite(original, 0);
  await overwrite(original, 4 * MIB - 4 * KIB);
  // Before anything opens it, by which FUSE forgets its pages.
  t.is((await snapshot.device.read(0, 4 * KIB))[0], 0x41);
  t.is((await snapshot.device.read(4 * MIB - 100, 100))[0], 0x41);
  t.like(await snapshot.conclude(), {
    kind: 'idle',
    unproven: "its times can't be trusted: it lies on FUSE",
  });
  const { providers, unproven } = await inspectDevice(shown, null);
  t.is(unproven, "its times can't be trusted: it lies on FUSE");
  const offline = providers.find(({ provider }) => provider === 'offline');
  t.regex(offline?.reason ?? '', /can't be trusted: it lies on FUSE, so it is read twice/);
});

testWith(
  FUSE,
  'a loop device on a file on FUSE is unproven, and reads past the cached pages of its file',
  async (t) => {
    const { shown, original } = await fuseImage(t);
    const snapshot = await hold(t, attachLoop(t, shown, { readOnly: true }));
    t.is(snapshot.continuity, undefined);
    t.is((await snapshot.device.read(0, 4 * KIB))[0], 7);
    await overwrite(original);
    t.regex((await snapshot.conclude()).unproven ?? '', /the times of the file of .*: it lies on FUSE/);
    await snapshot.freshen?.();
    t.is((await snapshot.device.read(0, 4 * KIB))[0], 0x41);
  },
);

testWith(['root'], 'overlay proves nothing; tmpfs does, also for writes through a mapping', async (t) => {
  const directory = await temporaryDirectory(t, 'unproven');
  await mount(t, 'tmpfs', join(directory, 'tmp'), 'size=16m', 'tmpfs');
  const [lower, upper, work] = ['lower', 'upper', 'work'].map((name) => join(directory, 'tmp', name));
  for (const path of [lower, upper, work]) await mkdir(path ?? '');
  await writeFile(join(lower ?? '', 'disk.img'), Buffer.alloc(MIB, 7));
  const layers = `lowerdir=${lower},upperdir=${upper},workdir=${work}`;
  await mount(t, 'overlay', join(directory, 'merged'), layers, 'overlay');
  const merged = await hold(t, join(directory, 'merged', 'disk.img'));
  t.regex((await merged.conclude()).unproven ?? '', /it lies on overlay/);
  t.is(merged.continuity, undefined);

  const plain = join(directory, 'tmp', 'plain.img');
  await writeFile(plain, Buffer.alloc(MIB, 7));
  t.deepEqual(await (await hold(t, plain)).conclude(), { kind: 'idle', warnings: [] });
  const mapped = await hold(t, plain);
  const program =
    'import mmap,sys; f=open(sys.argv[1],"r+b"); m=mmap.mmap(f.fileno(),4096); f.close(); m[0]=65; m.close()';
  run('python3', '-c', program, plain);
  await refused(t, mapped.conclude(), 'device-changed', /was written to/);
});

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }],
  'times with a grain of a second: a write within it shows',
  async (t) => {
    const path = await image(t, 16 * MIB);
    run('mkfs.ext4', '-q', '-F', '-I', '128', path);
    await mount(t, attachLoop(t, path), `${path}.mount`);
    const coarse = join(`${path}.mount`, 'disk.img');
    // All of it would be in one second, if the hold did not wait.
    await sleep(1050 - (Date.now() % 1000));
    await writeFile(coarse, Buffer.alloc(MIB, 7));
    const snapshot = await hold(t, coarse);
    await overwrite(coarse);
    await refused(t, snapshot.conclude(), 'device-changed', /was written to/);
  },
);

for (const type of ['ext4', 'xfs', 'btrfs'] as const) {
  testWith(
    ['root', 'loop', { program: `mkfs.${type}` }],
    `times of ${type} are believed, and move when a mapped file is written to`,
    async (t) => {
      const path = await image(t, MIB);
      await truncate(path, 320 * MIB);
      run(`mkfs.${type}`, '-q', type === 'ext4' ? '-F' : '-f', path);
      await mount(t, attachLoop(t, path), `${path}.mount`);
      const file = join(`${path}.mount`, 'disk.img');
      await writeFile(file, Buffer.alloc(MIB, 7));
      t.is(await doubtfulFileSystem(file), null);
      t.deepEqual(await (await hold(t, file)).conclude(), { kind: 'idle', warnings: [] });
      const snapshot = await hold(t, file);
      const program = 'import mmap,sys; f=open(sys.argv[1],"r+b"); mmap.mmap(f.fileno(),4096)[0]=65';
      run('python3', '-c', program, file);
      await refused(t, snapshot.conclude(), 'device-changed', /was written to/);
    },
  );
}

testWith(
  ['root', 'loop'],
  'the file of a loop device and of its partition, written to directly, is noticed',
  async (t) => {
    const path = await image(t, 64 * MIB);
    const loop = await attachPartitioned(t, path, 0x1234, [{ start: 2048, length: 65_536 }]);
    const partition = await hold(t, `${loop}p1`);
    t.not(partition.continuity, undefined);
    t.deepEqual(await partition.conclude(), { kind: 'idle', warnings: [] });
    await overwrite(path, 8 * MIB);
    t.regex((await partition.conclude()).unproven ?? '', new RegExp(`past it to ${path}, which it lies on`));
    await partition.release();

    const whole = await hold(t, loop);
    t.deepEqual(await whole.conclude(), { kind: 'idle', warnings: [] });
    await overwrite(path, 8 * MIB);
    t.regex((await whole.conclude()).unproven ?? '', /past it to .*disk.img/);
  },
);

testWith(
  ['root', 'loop'],
  'a loop device on a loop device: a write to the lower one, or to its file, is noticed',
  async (t) => {
    const path = await image(t);
    const lower = attachLoop(t, path);
    const upper = attachLoop(t, lower);
    const snapshot = await hold(t, upper);
    t.deepEqual(await snapshot.conclude(), { kind: 'idle', warnings: [] });
    run('dd', 'if=/dev/urandom', `of=${lower}`, 'bs=64k', 'count=1', 'conv=fsync', 'status=none');
    t.regex((await snapshot.conclude()).unproven ?? '', new RegExp(`past it to (${lower}|${path}), which`));
  },
);

testWith(
  ['root', 'loop'],
  'a loop device whose file was deleted, or renamed, or has another in its place',
  async (t) => {
    const path = await image(t);
    const loop = attachLoop(t, path);
    t.teardown(() => detachLoop(loop));
    const renamed = await hold(t, loop);
    await rename(path, `${path}.new`);
    // The rename moves its ctime: it may have been a write, for all that can be told.
    t.not((await renamed.conclude()).unproven, undefined);
    await renamed.release();
    t.deepEqual(await (await hold(t, loop)).conclude(), { kind: 'idle', warnings: [] });
    t.is(run('losetup', '--noheadings', '--output', 'BACK-FILE', loop).trim(), `${path}.new`);

    const other = attachLoop(t, await image(t));
    t.teardown(() => detachLoop(other));
    await rm(run('losetup', '--noheadings', '--output', 'BACK-FILE', other).trim());
    const snapshot = await hold(t, other);
    t.is(snapshot.continuity, undefined);
    t.regex((await snapshot.conclude()).unproven ?? '', /can't be seen: it was deleted/);
  },
);

testWith(
  ['root', 'loop'],
  'a writable loop device that comes during the read, and one that has gone again',
  async (t) => {
    const path = await image(t);
    const snapshot = await hold(t, path);
    const loop = attachLoop(t, path);
    await refused(t, snapshot.conclude(), 'device-changed', /was opened for writing|was written to/);
    run('losetup', '--detach', loop);

    const second = await hold(t, path);
    const again = run('losetup', '--find', '--show', path).trim();
    await overwrite(again);
    run('sync', again);
    run('losetup', '--detach', again);
    await refused(t, second.conclude(), 'device-changed', /was written to|was opened for writing/);
  },
);

testWith(['root'], 'a writer in another mount namespace is seen', async (t) => {
  const path = await image(t);
  const writer = spawn('unshare', ['--mount', 'sh', '-c', `exec 3<>'${path}'; echo ready; read line`], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(async () => {
    writer.stdin.end();
    if (writer.exitCode === null) await once(writer, 'exit');
  });
  await once(writer.stdout, 'data');
  await refused(
    t,
    offlineProvider.hold(path, { ...OPTIONS, fuzzy: false }),
    'device-in-use',
    /open for writing/,
  );
});

test('what is gone is lost, with the true reason, also for a fuzzy backup', async (t) => {
  const cut = await image(t);
  const shrinking = await hold(t, cut, true);
  t.is(await shrinking.lost?.(), null);
  await truncate(cut, MIB);
  t.is(
    (await shrinking.lost?.())?.reason.split(';')[0],
    'it shrank from 4194304 to 1048576 bytes while it was read',
  );
  await refused(t, shrinking.conclude(), 'device-changed', /it shrank from 4194304 to 1048576 bytes/);
  await t.throwsAsync(shrinking.device.read(2 * MIB, KIB), { code: 'ETRUNCATED' });

  const removed = await image(t);
  const removing = await hold(t, removed, true);
  await rm(removed);
  await refused(t, removing.conclude(), 'device-changed', /it was removed while it was read/);

  const replaced = await image(t);
  const replacing = await hold(t, replaced, true);
  await rename(await image(t), replaced);
  t.regex((await replacing.lost?.())?.reason ?? '', /another file now has its name/);
});

testWith(['root', 'loop'], 'a loop device that shrinks while it is read, and one that is gone', async (t) => {
  const path = await image(t);
  const loop = attachLoop(t, path);
  const snapshot = await hold(t, loop);
  await truncate(path, MIB);
  run('losetup', '--set-capacity', loop);
  t.regex((await snapshot.lost?.())?.reason ?? '', /it shrank from 4194304 to 1048576 bytes/);
  await t.throwsAsync(snapshot.device.read(2 * MIB, 64 * KIB));
  await refused(t, snapshot.conclude(), 'device-changed', /it shrank from/);
});

test('who reads holds a shared lock; what somebody has locked to write to is refused', async (t) => {
  const path = await image(t);
  const first = await hold(t, path);
  const second = await hold(t, path);
  await link(path, `${path}.link`);
  const tryExclusive = () => {
    try {
      run('flock', '--exclusive', '--nonblock', '--conflict-exit-code', '9', `${path}.link`, 'true');
      return 'free';
    } catch {
      return 'held';
    }
  };
  t.is(tryExclusive(), 'held');
  await first.release();
  t.is(tryExclusive(), 'held');
  await second.release();
  t.is(tryExclusive(), 'free');

  const restore = spawn('flock', ['--exclusive', path, 'sh', '-c', 'echo ready; read line'], {
    stdio: ['pipe', 'pipe', 'inherit'],
  });
  t.teardown(async () => {
    restore.stdin.end();
    if (restore.exitCode === null) await once(restore, 'exit');
  });
  await once(restore.stdout, 'data');
  for (const fuzzy of [false, true]) {
    await refused(
      t,
      offlineProvider.hold(path, { ...OPTIONS, fuzzy }),
      'device-in-use',
      /something has locked it for writing: a restore/,
    );
  }
});
