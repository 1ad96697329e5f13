import { mkdir, symlink, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import test from 'ava';
import fc from 'fast-check';
import { filesystemsAt, findFilesystems, planFreeze } from '../../../src/capture/quiesce/mounts.js';
import { type BlockStack, readBlockStack } from '../../../src/devices/system/block-stack.js';
import { freezable } from '../../helpers/disks/freezable.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { testWith } from '../../helpers/requirements.js';

interface World {
  /** Path of a device to its number. */
  readonly devices: Readonly<Record<string, string>>;
  readonly above?: Readonly<Record<string, readonly string[]>>;
  readonly loops?: Readonly<Record<string, string>>;
  readonly btrfs?: readonly (readonly string[])[];
}

function stackOf({ devices, above = {}, loops = {}, btrfs = [] }: World): BlockStack {
  return {
    nameOf: async (number) =>
      Object.entries(devices)
        .find(([, one]) => one === number)?.[0]
        ?.slice(5) ?? number,
    above: async (number) => above[number] ?? [],
    loops: async () => Object.entries(loops).map(([number, backingFile]) => ({ number, backingFile })),
    btrfsMembers: async () => btrfs,
    numberOf: async (path) => devices[path] ?? null,
  };
}

const SWAPS_HEADER = 'Filename\tType\tSize\tUsed\tPriority';
const ROOT = '1 0 254:0 / / rw - ext4 /dev/vda rw';

async function plan(
  world: World,
  paths: readonly string[],
  mounts: readonly string[],
  swaps: readonly string[] = [],
) {
  const texts = { mountinfo: [ROOT, ...mounts].join('\n'), swaps: [SWAPS_HEADER, ...swaps].join('\n') };
  const { filesystems, notes } = await planFreeze(paths, texts, stackOf(world));
  return {
    frozen: filesystems.map(({ path, mount }) => `${mount?.id ?? 'hidden'}:${path}`),
    notes,
    filesystems,
  };
}

const DISK = {
  devices: { '/dev/sda': '8:0', '/dev/sda1': '8:1', '/dev/sda2': '8:2', '/dev/sdb': '8:16' },
  above: { '8:0': ['8:1', '8:2'] },
};

test('the partitions of a disk; a partition alone', async (t) => {
  const mounts = [
    '2 1 8:1 / /one rw - ext4 /dev/sda1 rw',
    '3 1 8:2 / /two rw - xfs /dev/sda2 rw',
    '4 1 8:16 / /b rw - xfs /dev/sdb rw',
  ];
  t.deepEqual((await plan(DISK, ['/dev/sda'], mounts)).frozen, ['2:/one', '3:/two']);
  t.deepEqual((await plan(DISK, ['/dev/sda2'], mounts)).frozen, ['3:/two']);
  t.deepEqual((await plan(DISK, ['/dev/sda2', '/dev/sdb'], mounts)).frozen, ['3:/two', '4:/b']);
  t.deepEqual((await plan(DISK, ['/dev/gone'], mounts)).frozen, []);
});

test('one freeze for each file system, through the mount of its root, if that can be reached', async (t) => {
  const bind = '2 1 8:1 /etc/hosts /etc/hosts rw - ext4 /dev/sda1 rw';
  const whole = '3 1 8:1 / /one ro - ext4 /dev/sda1 rw';
  const over = '4 3 8:16 / /one rw - xfs /dev/sdb rw';
  t.deepEqual((await plan(DISK, ['/dev/sda'], [bind, whole])).frozen, ['3:/one']);
  t.deepEqual((await plan(DISK, ['/dev/sda'], [bind, whole, over])).frozen, ['2:/etc/hosts']);
  t.deepEqual((await plan(DISK, ['/dev/sda'], [whole, over])).frozen, ['hidden:/one']);
});

test('read-only is what the file system is, not a mount of it', async (t) => {
  const mounts = ['2 1 8:1 / /ro ro - ext4 /dev/sda1 ro', '3 1 8:2 / /half ro - ext4 /dev/sda2 rw'];
  const { filesystems } = await plan(DISK, ['/dev/sda'], mounts);
  t.deepEqual(
    filesystems.map(({ path, readOnly }) => [path, readOnly]),
    [
      ['/ro', true],
      ['/half', false],
    ],
  );
});

test('a stack of device mapper and md, shared by two partitions, once', async (t) => {
  const world = {
    devices: { ...DISK.devices, '/dev/md0': '9:0', '/dev/dm-0': '253:0', '/dev/dm-1': '253:1' },
    above: { ...DISK.above, '8:1': ['9:0'], '8:2': ['9:0'], '9:0': ['253:0', '253:1'] },
  };
  const mounts = [
    '2 1 253:0 / /lv0 rw - ext4 /dev/mapper/lv0 rw',
    '3 1 253:1 / /lv1 rw - xfs /dev/mapper/lv1 rw',
  ];
  t.deepEqual((await plan(world, ['/dev/sda'], mounts)).frozen, ['2:/lv0', '3:/lv1']);
  t.deepEqual((await plan(world, ['/dev/sda1'], mounts)).frozen, ['2:/lv0', '3:/lv1']);
  t.deepEqual((await plan(world, ['/dev/dm-1'], mounts)).frozen, ['3:/lv1']);
});

test('what lies in a file on it comes first, however deep', async (t) => {
  const world = {
    devices: { ...DISK.devices, '/dev/loop0': '7:0', '/dev/loop1': '7:1', '/dev/loop2': '7:2' },
    above: DISK.above,
    loops: { '7:0': '/one/a.img', '7:1': '/inner/b.img (deleted)', '7:2': '/dev/sda2' },
  };
  const mounts = [
    '2 1 8:1 / /one rw - ext4 /dev/sda1 rw',
    '3 1 7:0 / /inner rw - ext4 /dev/loop0 rw',
    '4 1 7:1 / /innermost rw - ext4 /dev/loop1 rw',
    '5 1 7:2 / /two rw - ext4 /dev/loop2 rw',
  ];
  t.deepEqual((await plan(world, ['/dev/sda'], mounts)).frozen, [
    '4:/innermost',
    '3:/inner',
    '2:/one',
    '5:/two',
  ]);
  t.deepEqual((await plan(world, ['/one/a.img'], mounts)).frozen, ['4:/innermost', '3:/inner']);
  t.deepEqual((await plan(world, ['/one/other.img'], mounts)).frozen, []);
});

test('btrfs: found by its source, and by each of its devices', async (t) => {
  const mounts = [
    '2 1 0:50 /@ /sub rw - btrfs /dev/sda1 rw',
    '3 1 0:50 /@home /sub/home rw - btrfs /dev/sda1 rw',
  ];
  const group = { ...DISK, btrfs: [['8:1', '8:16']] };
  t.deepEqual((await plan(DISK, ['/dev/sda'], mounts)).frozen, ['2:/sub']);
  t.deepEqual((await plan(DISK, ['/dev/sdb'], mounts)).frozen, []);
  t.deepEqual((await plan(group, ['/dev/sdb'], mounts)).frozen, ['2:/sub']);
});

test('swap is noted: as a partition, as a file', async (t) => {
  const mounts = ['2 1 8:1 / /one rw - ext4 /dev/sda1 rw'];
  const swaps = ['/dev/sda2 partition 1 0 -2', '/one/swap\\040file file 1 0 -3', '/elsewhere file 1 0 -4'];
  t.deepEqual((await plan(DISK, ['/dev/sda'], mounts, swaps)).notes, [
    'swap in the file /one/swap file goes on',
    'swap on /dev/sda2 goes on',
  ]);
});

test('whatever is stacked on whatever: each once, and none before what stands on it', async (t) => {
  // Device i may stand on devices below i; each has a file system, and may be a loop
  // over a file of a lower one.
  const below = (i: number) => fc.array(fc.nat({ max: Math.max(i - 1, 0) }), { maxLength: 3 });
  const stacks = fc
    .integer({ min: 1, max: 9 })
    .chain((count) => fc.tuple(...Array.from({ length: count }, (_, i) => fc.tuple(below(i), fc.boolean()))));
  await fc.assert(
    fc.asyncProperty(stacks, async (layers) => {
      const above: Record<string, string[]> = {};
      const loops: Record<string, string> = {};
      const devices: Record<string, string> = {};
      layers.forEach(([bases, isLoop], i) => {
        devices[`/dev/d${i}`] = `9:${i}`;
        const [first] = bases;
        if (i > 0 && isLoop && first !== undefined) loops[`9:${i}`] = `/m${first}/file`;
        else if (i > 0)
          for (const base of bases) above[`9:${base}`] = [...(above[`9:${base}`] ?? []), `9:${i}`];
      });
      const mounts = layers.map((_, i) => `${i + 2} 1 9:${i} / /m${i} rw - ext4 /dev/d${i} rw`);
      const { frozen } = await plan({ devices, above, loops }, ['/dev/d0'], mounts);
      const order = frozen.map((text) => Number(text.split('/m')[1]));
      t.is(new Set(order).size, order.length);
      t.true(order.includes(0));
      layers.forEach(([bases], i) => {
        const isOn = (base: number) =>
          (above[`9:${base}`] ?? []).includes(`9:${i}`) || loops[`9:${i}`] === `/m${base}/file`;
        for (const base of bases.filter(isOn)) {
          if (order.includes(base)) t.true(order.includes(i) && order.indexOf(i) < order.indexOf(base));
        }
      });
    }),
  );
});

test('sysfs as the kernel lays it out: partitions, holders, loops, btrfs members', async (t) => {
  const root = await temporaryDirectory(t, 'sysfs');
  const put = async (path: string, text: string): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await writeFile(join(root, path), `${text}\n`);
  };
  const link = async (path: string, target: string): Promise<void> => {
    await mkdir(dirname(join(root, path)), { recursive: true });
    await symlink(join(root, target), join(root, path));
  };
  await put('devices/pci0/block/sda/dev', '8:0');
  await put('devices/pci0/block/sda/sda1/dev', '8:1');
  await put('devices/pci0/block/sda/sda1/partition', '1');
  await put('devices/pci0/block/sda/queue/dev', 'no device');
  await put('devices/virtual/block/dm-0/dev', '253:0');
  await put('devices/virtual/block/loop3/dev', '7:3');
  await put('devices/virtual/block/loop3/loop/backing_file', '/srv/a b.img');
  await put('devices/virtual/block/loop4/dev', '7:4');
  await link('devices/pci0/block/sda/sda1/holders/dm-0', 'devices/virtual/block/dm-0');
  await link('dev/block/8:0', 'devices/pci0/block/sda');
  await link('dev/block/8:1', 'devices/pci0/block/sda/sda1');
  for (const name of ['loop3', 'loop4', 'dm-0']) await link(`block/${name}`, `devices/virtual/block/${name}`);
  await link('fs/btrfs/aaaa-bbbb/devices/sda1', 'devices/pci0/block/sda/sda1');
  await link('fs/btrfs/aaaa-bbbb/devices/dm-0', 'devices/virtual/block/dm-0');
  await mkdir(join(root, 'fs/btrfs/features'));
  const stack = readBlockStack(root);
  t.deepEqual(await stack.above('8:0'), ['8:1']);
  t.deepEqual(await stack.above('8:1'), ['253:0']);
  t.deepEqual(await stack.above('99:0'), []);
  t.deepEqual(await stack.loops(), [{ number: '7:3', backingFile: '/srv/a b.img' }]);
  t.deepEqual(
    (await stack.btrfsMembers()).map((group) => [...group].sort()),
    [['253:0', '8:1']],
  );
  t.is(await stack.nameOf('8:1'), 'sda1');
});

testWith(
  ['root', 'loop'],
  'real ones: a file system within a file of another, found from device and image',
  async (t) => {
    const outer = await freezable(t, 'ext4');
    const inner = await freezable(t, 'ext4', { within: outer.mountPoint, sizeBytes: 8 * 1024 * 1024 });
    const order = [inner.mountPoint, outer.mountPoint];
    for (const path of [outer.device, outer.image]) {
      const { filesystems } = await findFilesystems([path]);
      t.deepEqual(
        filesystems.map((one) => one.path),
        order,
        path,
      );
      t.deepEqual(
        filesystems.map((one) => one.mount),
        [inner.target, outer.target],
      );
    }
    t.deepEqual(
      (await findFilesystems([inner.device])).filesystems.map((one) => one.path),
      [inner.mountPoint],
    );
    const [known, unknown] = await filesystemsAt([inner.mountPoint, '/nonexistent']);
    t.deepEqual(known?.mount, inner.target);
    t.is(unknown, null);
  },
);

testWith(
  ['root', 'loop', { program: 'mkfs.btrfs' }],
  'real btrfs on two devices, found from the one that no mount names',
  async (t) => {
    const directory = await temporaryDirectory(t, 'btrfs');
    const devices = await Promise.all(
      ['a', 'b'].map(async (name) => {
        run('truncate', '--size', '128M', join(directory, name));
        return attachLoop(t, join(directory, name));
      }),
    );
    run('mkfs.btrfs', '--quiet', ...devices);
    for (const device of devices) run('btrfs', 'device', 'scan', device);
    const mountPoint = join(directory, 'mnt');
    await mount(t, devices[0] ?? '', mountPoint);
    for (const device of devices) {
      t.deepEqual(
        (await findFilesystems([device])).filesystems.map((one) => one.path),
        [mountPoint],
      );
    }
  },
);
