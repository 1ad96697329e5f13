/**
 * Images that exist, or can't be made: they stay the files that they are, and what does not fit is
 * found before they change.
 */
import { execFile } from 'node:child_process';
import { chmod, chown, link, mkdir, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import test from 'ava';
import { checkRoom } from '../../../src/agent/target/room.js';
import { decodeMark, encodeMark } from '../../../src/devices/facts/half-restored.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { leafOf, makeTree } from '../../helpers/bytes/trees.js';
import { attachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { backup, COMMAND, makeMachine, run as stillpoint } from '../../helpers/machines/stillpoint.js';
import { refused } from '../../helpers/refused.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { restoreWorld } from '../../helpers/worlds/restore.js';

const lost = new StillpointError('store-damaged', { thing: 'pack', reason: 'lost' });

testWith(['root'], 'an empty, a tiny and a filled image keep inode, owner, mode and links', async (t) => {
  const { at, bytes, restore } = await restoreWorld(t);
  for (const sizeBytes of [0, 1, 511, 512, MiB, 8 * MiB]) {
    const name = at(`image-${sizeBytes}`);
    await writeFile(name, Buffer.alloc(sizeBytes, 'x'));
    await chmod(name, 0o640);
    await chown(name, 65_534, 65_533);
    await link(name, `${name}-too`);
    const before = await stat(name);
    await restore(name, { overwrite: sizeBytes > 0, verify: true });
    const { ino, mode, uid, gid, nlink } = before;
    t.like(await stat(name), { ino, mode, uid, gid, nlink }, `${sizeBytes}`);
    t.true(bytes.equals(await readFile(`${name}-too`)), `${sizeBytes}`);
  }
});

testWith(
  ['root', 'loop', ...programs('mkfs.btrfs', 'chattr')],
  'an image keeps its No_COW flag',
  async (t) => {
    const { at, bytes, restore } = await restoreWorld(t);
    await writeFile(at('fs'), '');
    await truncate(at('fs'), 128 * MiB);
    run('mkfs.btrfs', '--quiet', at('fs'));
    await mount(t, attachLoop(t, at('fs')), at('mount'));
    const image = at('mount/vm.img');
    await writeFile(image, '');
    run('chattr', '+C', image);
    await restore(image);
    t.regex(run('lsattr', image), /^-*C-* /);
    t.true(bytes.equals(await readFile(image)));
  },
);

test('before the mark is written, a failure leaves an image as it was; behind it, an empty one empty', async (t) => {
  let failAt = 1;
  const { at, bytes, point, requests, restore, told } = await restoreWorld(t, {
    answerBlocksMax: 2,
    onBlocks: (number) => {
      if (number === failAt) throw lost;
    },
  });
  for (const content of ['', 'x', 'x'.repeat(511), 'x'.repeat(512), 'x'.repeat(MiB)]) {
    await writeFile(at('image'), content);
    failAt = requests.length + 1;
    await refused(t, restore(at('image'), { overwrite: true }), 'store-damaged');
    t.is(await readFile(at('image'), 'latin1'), content);
    t.deepEqual(told.warnings, []);

    // The first is that of the head.
    failAt = requests.length + 2;
    await refused(t, restore(at('image'), { overwrite: true }), 'store-damaged');
    if (content === '') {
      t.is((await stat(at('image'))).size, 0);
      t.deepEqual(told.warnings, []);
    } else {
      t.is(decodeMark(await readFile(at('image')))?.point?.id, point.id);
      t.is(told.warnings.splice(0).length, 1);
      // What is half restored needs no leave to be written over.
      failAt = 0;
      await restore(at('image'));
      t.true(bytes.equals(await readFile(at('image'))));
    }
  }
});

test('cancelled, an image that was empty is empty again', async (t) => {
  const abort = new AbortController();
  const { at, restore, told } = await restoreWorld(t, {
    onBlocks: (number) => number === 2 && abort.abort(),
    answerBlocksMax: 2,
  });
  await writeFile(at('image'), '');
  await refused(t, restore(at('image'), { signal: abort.signal }), 'cancelled');
  t.is((await stat(at('image'))).size, 0);
  t.deepEqual(told.warnings, []);
});

test('what a killed restore has left of an empty image needs no leave', async (t) => {
  const { at, bytes, point, restore } = await restoreWorld(t);
  const mark = encodeMark(point, new Date());
  for (const left of [Buffer.alloc(512), mark, Buffer.concat([mark, Buffer.alloc(MiB)])]) {
    await writeFile(at('image'), left);
    await restore(at('image'));
    t.true(bytes.equals(await readFile(at('image'))));
  }
  await writeFile(at('image'), Buffer.alloc(512, 1));
  await refused(t, restore(at('image')), 'usage', /it exists and is not empty/);
});

testWith(
  ['root', 'loop', ...programs('mkfs.ext4')],
  'no room: nothing of the old image changes, and no new one is begun',
  async (t) => {
    const content = Array.from({ length: 40 }, (_, index) => index);
    const { at, bytes, restore, requests, told } = await restoreWorld(t, { blockIndexes: content });
    await writeFile(at('fs'), '');
    await truncate(at('fs'), 4 * MiB);
    run('mkfs.ext4', '-q', '-O', '^has_journal', '-m', '25', at('fs'));
    await mount(t, attachLoop(t, at('fs')), at('mount'));
    const old = Buffer.alloc(MiB / 2, 'x');
    await writeFile(at('mount/old.img'), old);
    await writeFile(at('mount/filler'), Buffer.alloc(MiB + MiB / 2));
    for (const name of ['old.img', 'new.img']) {
      const message =
        /its file system has too little room for the point: \d+ bytes are missing, and \d+ are free/;
      await refused(t, restore(at(`mount/${name}`), { overwrite: true }), 'device-io', message);
    }
    t.deepEqual([told.warnings, requests], [[], []]);
    t.true(old.equals(await readFile(at('mount/old.img'))));
    await t.throwsAsync(stat(at('mount/new.img.stillpoint-partial')), { code: 'ENOENT' });
    // What root alone may use is room for root; what the image has already need not be free.
    await rm(at('mount/filler'));
    await restore(at('mount/old.img'), { overwrite: true });
    t.true(bytes.equals(await readFile(at('mount/old.img'))));
    await restore(at('mount/old.img'), { overwrite: true, rewrite: true });
  },
);

testWith(
  ['root', 'loop', ...programs('mkfs.btrfs')],
  'where the file system compresses, too little room is told only',
  async (t) => {
    const { at } = await restoreWorld(t);
    await writeFile(at('fs'), '');
    await truncate(at('fs'), 128 * MiB);
    run('mkfs.btrfs', '--quiet', at('fs'));
    const loop = attachLoop(t, at('fs'));
    const leaves = Array.from({ length: 4096 }, (_, index) => [index, leafOf('x')] as const);
    const geometry = { sizeBytes: 4096 * 65_536, blockSize: 65_536 };
    const tree = await makeTree(at('tree'), geometry, new Map(leaves), 'de'.repeat(16));
    t.teardown(() => tree.close());
    for (const [options, isRefused] of [
      ['compress=zstd', false],
      ['noatime', true],
    ] as const) {
      const unmount = await mount(t, loop, at('mount'), options);
      await writeFile(at('mount/image'), '');
      const notices: string[] = [];
      const checked = checkRoom(at('mount/image'), tree, (text) => notices.push(text));
      if (isRefused) await refused(t, checked, 'device-io', /too little room/);
      else await checked;
      t.is(notices.length, isRefused ? 0 : 1);
      unmount();
    }
  },
);

testWith(
  ['root', 'loop', ...programs('mkfs.ext4')],
  'read-only targets are refused first, and the reason is told',
  async (t) => {
    const { at, requests, restore, told } = await restoreWorld(t);
    const old = Buffer.alloc(MiB, 'x');
    await writeFile(at('fs'), '');
    await truncate(at('fs'), 16 * MiB);
    run('mkfs.ext4', '-q', at('fs'));
    const loop = attachLoop(t, at('fs'));
    const unmount = await mount(t, loop, at('mount'));
    for (const name of ['ro', 'immutable', 'append']) await writeFile(at(`mount/${name}`), old);
    await mkdir(at('mount/directory'));
    run('chattr', '+i', at('mount/immutable'), at('mount/directory'));
    run('chattr', '+a', at('mount/append'));
    const refusedFor = (name: string, message: RegExp) =>
      refused(t, restore(at(name), { overwrite: true, allowInUse: true }), 'device-io', message);
    await refusedFor('mount/immutable', /immutable: it is marked immutable\. .*chattr -i /);
    await refusedFor('mount/append', /append: it is marked append-only\. .*chattr -a /);
    await refusedFor('mount/directory/new', /directory.* immutable.*chattr -i /);
    for (const name of ['immutable', 'append', 'ro']) t.true(old.equals(await readFile(at(`mount/${name}`))));
    run('chattr', '-i', '-a', at('mount/immutable'), at('mount/append'), at('mount/directory'));
    unmount();

    const unmountAgain = await mount(t, loop, at('mount'), 'ro');
    for (const name of ['mount/ro', 'mount/new']) {
      await refusedFor(name, /its file system is read-only, mounted at .*mount -o remount,rw .*\/mount/);
    }
    unmountAgain();

    await writeFile(at('disk'), Buffer.alloc(8 * MiB, 'x'));
    const readOnly = attachLoop(t, at('disk'), { readOnly: true });
    await refused(t, restore(readOnly), 'device-io', /it is read-only\. Attach its file again/);
    t.true((await readFile(at('disk'))).every((byte) => byte === 0x78));
    t.deepEqual([told.warnings, requests], [[], []]);
  },
);

test('more than a limit on the size of files: found before the image changes, and no signal ends the process', async (t) => {
  const machine = await makeMachine(t, 'limit');
  const at = (name: string) => `${machine.directory}/${name}`;
  await writeFile(at('source'), Buffer.alloc(8 * MiB, 'x'));
  await backup(t, machine, at('store'), at('source'), '--name', 'disk');
  const old = Buffer.alloc(MiB, 'y');
  await writeFile(at('old'), old);
  await writeFile(at('empty'), '');
  await writeFile(at('long'), Buffer.alloc(9 * MiB, 'z'));
  for (const name of ['old', 'empty', 'new', 'long']) {
    const args = ['restore', 'disk@1', at(name), '--overwrite', '--store', at('store')];
    // In blocks of 1024 bytes; the store's own files are small.
    const command = 'ulimit -f 4096; exec "$0" "$@"';
    const { code, stderr } = await new Promise<{ code: unknown; stderr: string }>((resolve) => {
      execFile(
        'bash',
        ['-c', command, process.execPath, COMMAND, ...args],
        { env: machine.env },
        (error, _, text) => resolve({ code: error?.code ?? error?.signal ?? 0, stderr: text }),
      );
    });
    t.is(code, 1, stderr);
    t.regex(
      stderr,
      /a file of 8388608 bytes is more than its file system or the limit of this process allows/,
      name,
    );
    t.notRegex(stderr, /half restored/);
  }
  t.true(old.equals(await readFile(at('old'))));
  t.true((await readFile(at('long'))).equals(Buffer.alloc(9 * MiB, 'z')));
  t.is((await stat(at('empty'))).size, 0);
  await t.throwsAsync(stat(at('new')), { code: 'ENOENT' });
  t.is(
    (await stillpoint(machine, 'restore', 'disk@1', at('old'), '--overwrite', '--store', at('store'))).code,
    0,
  );
});

testWith(
  ['root', 'loop', ...programs('mkfs.btrfs', 'fallocate')],
  'what the target shares with a clone takes new room when it is written, and is told',
  async (t) => {
    const { at } = await restoreWorld(t);
    await writeFile(at('fs'), '');
    await truncate(at('fs'), 128 * MiB);
    run('mkfs.btrfs', '--quiet', at('fs'));
    await mount(t, attachLoop(t, at('fs')), at('mount'));
    await writeFile(at('mount/image'), Buffer.alloc(16 * MiB, 'x'));
    const geometry = { sizeBytes: 16 * MiB, blockSize: 65_536 };
    const tree = await makeTree(at('tree'), geometry, new Map([[1, leafOf('x')]]), 'de'.repeat(16));
    t.teardown(() => tree.close());
    const told = async () => {
      const notices: string[] = [];
      await checkRoom(at('mount/image'), tree, (text) => notices.push(text));
      return notices.join();
    };
    run('cp', '--reflink=always', at('mount/image'), at('mount/clone'));
    run('sync', '--file-system', at('mount'));
    t.is(await told(), '');
    const free = Number(run('stat', '--file-system', '--format', '%a', at('mount')).trim()) * 4096;
    run('fallocate', '--length', String(free - 12 * MiB), at('mount/filler'));
    run('sync', '--file-system', at('mount'));
    t.regex(
      await told(),
      /may be too little room .*: it shares 16777216 bytes with other files, such as the clone/,
    );
    await rm(at('mount/clone'));
    run('sync', '--file-system', at('mount'));
    t.is(await told(), '');
  },
);
