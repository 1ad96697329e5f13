/** Notes of what is frozen, read by another agent: one that sees other mounts, one that can't thaw. */
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import {
  type FreezeTarget,
  noteFreeze,
  reachable,
  thawLeft,
} from '../../../src/capture/quiesce/left-frozen.js';
import { thawLeftFrozen } from '../../../src/capture/quiesce/thaw.js';
import { mountShownAt, parseMountinfo } from '../../../src/devices/system/mount-table.js';
import { freezable, isFrozen } from '../../helpers/disks/freezable.js';
import { killWithFreezer, startHolder } from '../../helpers/disks/holder.js';
import { mount } from '../../helpers/disks/loop-device.js';
import { tempDir } from '../../helpers/disks/temp-dir.js';
import { programs, testWith } from '../../helpers/requirements.js';

const MOUNTS = parseMountinfo(
  [
    '20 1 8:1 / / rw - ext4 /dev/sda1 rw',
    '31 20 8:2 /a /bound rw - ext4 /dev/sda2 rw',
    '30 20 8:2 / /srv rw - ext4 /dev/sda2 rw',
    '40 20 8:3 / /hidden rw - ext4 /dev/sda3 rw',
    '41 40 8:4 / /hidden rw - ext4 /dev/sda4 rw',
  ].join('\n'),
);

test('a noted file system is thawed only where it was mounted', (t) => {
  const at = (number: string, path: string) => {
    const { targets, hidden } = reachable([{ number, path }], MOUNTS);
    return [targets.map(({ id }) => id), hidden.length];
  };
  t.deepEqual(at('8:2', '/srv'), [[30], 0]);
  t.deepEqual(at('8:2', '/moved'), [[], 1]);
  t.deepEqual(at('8:3', '/hidden'), [[], 1], 'its mount shows another one');
  t.deepEqual(at('8:9', '/srv'), [[], 0], 'it is mounted nowhere');
});

test('a note stays while one of its file systems is stuck, or is hidden', async (t) => {
  const directory = await tempDir(t);
  const mounts = parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8'));
  const root = mountShownAt('/', mounts);
  const hidden = mounts.find(({ number }) => number !== root?.number);
  const note = (...numbers: unknown[]) =>
    writeFile(
      join(directory, 'note'),
      JSON.stringify({ version: 1, filesystems: numbers.map((number) => ({ number, path: '/' })) }),
    );
  const thawed: FreezeTarget[] = [];
  const thawLeftHere = (stuck: readonly string[]) =>
    thawLeft(async (targets) => {
      thawed.push(...targets);
      return stuck;
    }, directory);

  await note(root?.number);
  await thawLeftHere(['/']);
  t.deepEqual(await readdir(directory), ['note']);
  await thawLeftHere([]);
  t.deepEqual(await readdir(directory), []);
  await note(root?.number, hidden?.number);
  await thawLeftHere([]);
  t.deepEqual(await readdir(directory), ['note']);
  await note(root?.number, '4095:1');
  await thawLeftHere([]);
  t.deepEqual(await readdir(directory), []);
  t.deepEqual(thawed, Array(4).fill({ id: root?.id, path: '/' }));
});

testWith(['root', { program: 'mount' }], 'where there is no room for a note, there is none', async (t) => {
  const directory = await tempDir(t);
  await mount(t, 'tmpfs', directory, 'size=4k', 'tmpfs');
  const root = mountShownAt('/', parseMountinfo(await readFile('/proc/self/mountinfo', 'utf8')));
  const target: FreezeTarget = { id: root?.id ?? 0, path: '/' };
  const forget = await noteFreeze([target], directory);
  t.is((await readdir(directory)).length, 1);
  await forget();
  await writeFile(join(directory, 'full'), Buffer.alloc(4096));
  const forgetNone = await noteFreeze([target], directory);
  t.deepEqual(await readdir(directory), ['full']);
  await forgetNone();
});

testWith(
  ['root', 'loop', ...programs('mkfs.ext4', 'unshare')],
  'what a service left frozen among mounts of its own is thawed here',
  async (t) => {
    const { mountPoint, target } = await freezable(t, 'ext4');
    await killWithFreezer(await startHolder(t, 60_000, [target], { hasOwnMounts: true }));
    // Frozen still, unless a freeze of another test has come first.
    await thawLeftFrozen();
    t.false(isFrozen(mountPoint));
  },
);
