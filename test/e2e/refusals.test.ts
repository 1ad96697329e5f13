/**
 * What is refused until it is asked for by name: another device, a target in use, too
 * small or of other sectors.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { makeStampedImage } from '../helpers/bytes/stamped-blocks.js';
import { makeFilesystem } from '../helpers/disks/filesystem.js';
import { contentDigest, difference } from '../helpers/disks/images.js';
import { attachLoop, mount } from '../helpers/disks/loop-device.js';
import { backup, type Machine, makeMachine, points, restore, run } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;

async function refused(
  t: ExecutionContext,
  machine: Machine,
  pattern: RegExp,
  ...args: string[]
): Promise<void> {
  const result = await run(machine, ...args);
  t.true(result.code !== 0 && result.code !== 3 && result.code !== null, `exit code ${result.code}`);
  t.regex(result.stderr, pattern);
  t.notRegex(result.stderr, /\n\s+at .*:\d+:\d+/, 'no stack trace');
}

async function smallPoint(t: ExecutionContext, machine: Machine): Promise<string> {
  const path = join(machine.directory, 'source');
  await makeStampedImage(path, { sizeBytes: 8 * MiB, blockSize: BLOCK, seed: 1, blockIndexes: [0, 50, 100] });
  await backup(t, machine, join(machine.directory, 'store'), path, '--name', 'disk');
  return path;
}

testWith([], 'another device under the same name is refused, and taken with the flag', async (t) => {
  const machine = await makeMachine(t, 'identity');
  const at = (name: string) => join(machine.directory, name);
  await smallPoint(t, machine);
  await makeStampedImage(at('other'), {
    sizeBytes: 8 * MiB,
    blockSize: BLOCK,
    seed: 1,
    blockIndexes: [0, 50, 99],
  });
  await refused(
    t,
    machine,
    /disk.*identity|identity.*disk|not the device/is,
    'backup',
    at('other'),
    '--store',
    at('store'),
    '--name',
    'disk',
  );
  t.is((await points(t, machine, at('store'))).length, 1);
  const point = await backup(t, machine, at('store'), at('other'), '--name', 'disk', '--accept-identity');
  t.is(point.statistics.changedBytes, 2 * BLOCK);
  await backup(t, machine, at('store'), at('other'), '--name', 'disk');
  await restore(t, machine, at('store'), 'disk@latest', at('restored'));
  t.is(difference(at('restored'), at('other')), null);
});

testWith(
  ['root', 'loop', { program: 'mkfs.ext4' }],
  'a mounted target, and a mounted source, are refused',
  async (t) => {
    const machine = await makeMachine(t, 'mounted');
    const at = (name: string) => join(machine.directory, name);
    const source = await smallPoint(t, machine);
    await makeStampedImage(at('target'), { sizeBytes: 8 * MiB, blockSize: BLOCK, seed: 2, blockIndexes: [] });
    const device = attachLoop(t, at('target'));
    makeFilesystem('ext4', device);
    const unmount = await mount(t, device, at('mounted'));
    await writeFile(join(at('mounted'), 'file'), 'precious');
    await refused(t, machine, /mounted|in use/, 'restore', 'disk@1', device, '--store', at('store'));
    // Without a provider it would be copied live.
    const as = ['--name', 'other', '--provider', 'offline'];
    await refused(t, machine, /mounted|in use/, 'backup', device, '--store', at('store'), ...as);
    t.is((await points(t, machine, at('store'))).length, 1);
    unmount();
    await restore(t, machine, at('store'), 'disk@1', device);
    t.is(difference(device, source), null);
  },
);

testWith(['root', 'loop'], 'a target that another process holds exclusively is refused', async (t) => {
  const machine = await makeMachine(t, 'held');
  const at = (name: string) => join(machine.directory, name);
  await smallPoint(t, machine);
  await makeStampedImage(at('target'), { sizeBytes: 8 * MiB, blockSize: BLOCK, seed: 2, blockIndexes: [5] });
  const device = attachLoop(t, at('target'));
  // A loop device over a loop device holds the lower one open.
  attachLoop(t, device);
  const digest = contentDigest(at('target'));
  await refused(t, machine, /attached/, 'restore', 'disk@1', device, '--store', at('store'));
  t.is(contentDigest(at('target')), digest);
});

testWith(['root', 'loop'], 'an image that a loop device has open is refused as target', async (t) => {
  const machine = await makeMachine(t, 'open-image');
  const at = (name: string) => join(machine.directory, name);
  await smallPoint(t, machine);
  await makeStampedImage(at('target'), { sizeBytes: 8 * MiB, blockSize: BLOCK, seed: 2, blockIndexes: [5] });
  attachLoop(t, at('target'));
  const digest = contentDigest(at('target'));
  await refused(
    t,
    machine,
    /attached/,
    'restore',
    'disk@1',
    at('target'),
    '--overwrite',
    '--store',
    at('store'),
  );
  t.is(contentDigest(at('target')), digest);
});

testWith(['root', 'loop'], 'a target too small is refused untouched', async (t) => {
  const machine = await makeMachine(t, 'small');
  const at = (name: string) => join(machine.directory, name);
  await smallPoint(t, machine);
  await makeStampedImage(at('target'), { sizeBytes: 4 * MiB, blockSize: BLOCK, seed: 2, blockIndexes: [5] });
  const device = attachLoop(t, at('target'));
  const digest = contentDigest(device);
  await refused(
    t,
    machine,
    /4194304 bytes, the point 8388608/,
    'restore',
    'disk@1',
    device,
    '--store',
    at('store'),
  );
  t.is(contentDigest(device), digest);
});

testWith([], 'what does not exist, or is no device, is named', async (t) => {
  const machine = await makeMachine(t, 'missing');
  const at = (name: string) => join(machine.directory, name);
  await smallPoint(t, machine);
  await refused(t, machine, /no-such-device/, 'backup', at('no-such-device'), '--store', at('store'));
  await refused(t, machine, /null/, 'backup', '/dev/null', '--store', at('store'));
  await refused(t, machine, /directory|regular/, 'backup', machine.directory, '--store', at('store'));
  await refused(t, machine, /disk@9/, 'restore', 'disk@9', at('restored'), '--store', at('store'));
  await refused(t, machine, /nothing/, 'restore', 'nothing@latest', at('restored'), '--store', at('store'));
  await refused(
    t,
    machine,
    /block size/i,
    'backup',
    at('source'),
    '--store',
    at('store'),
    '--block-size',
    '5000',
  );
  await refused(t, machine, /\.\.\/x/, 'backup', at('source'), '--store', at('store'), '--name', '../x');
  await refused(t, machine, /store|receiver|enroll/i, 'backup', at('source'));
  await rm(at('store'), { recursive: true });
  await refused(t, machine, /store/, 'points', '--store', at('store'));
  await refused(t, machine, /store/, 'restore', 'disk@1', at('restored'), '--store', at('store'));
});
