/**
 * What is written on a whole disk tells it from others: with real loop devices, which have no ids of their
 * own. Each kind of content: the same under another node, another device in its place, a blank one in its
 * place, the first time that it is written.
 */
import { randomBytes, randomInt, randomUUID } from 'node:crypto';
import { open, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { readDeviceIdentity } from '../../src/devices/facts/device-identity.js';
import { compareDevices } from '../../src/domain/device/device-identity.js';
import type { DeviceIdentity } from '../../src/domain/point/point.js';
import { attachLoop, detachLoop, run, temporaryDirectory } from '../helpers/disks/loop-device.js';
import { writeGpt, writeMbr } from '../helpers/disks/partition-table.js';
import { refused } from '../helpers/refused.js';
import { type Requirement, testWith } from '../helpers/requirements.js';
import { BackupWorld } from '../helpers/worlds/backup.js';

const MIB = 1024 * 1024;
const SIZE = 128 * MIB;
const NEEDED: readonly Requirement[] = ['root', 'loop', { program: 'blkid' }];

async function writeAt(path: string, bytes: Buffer, offset: number): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(bytes, 0, bytes.length, offset);
  await file.close();
}

/** LUKS1's first fields; the UUID is all that is looked at. */
async function writeLuksHeader(path: string): Promise<void> {
  const header = Buffer.alloc(592);
  Buffer.from('4c554b53babe0001', 'hex').copy(header);
  header.write('aes', 8);
  header.write('xts-plain64', 40);
  header.write('sha256', 72);
  header.write(randomUUID(), 168);
  await writeAt(path, header, 0);
}

const LVM_CRC_START = 0xf597a6cf;

function lvmCrc(bytes: Buffer): number {
  let crc = LVM_CRC_START;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit += 1) crc = (crc >>> 1) ^ ((crc & 1) * 0xedb88320);
  }
  return crc >>> 0;
}

/** The label of an LVM physical volume, in the second sector. */
async function writeLvmLabel(path: string): Promise<void> {
  const sector = Buffer.alloc(512);
  sector.write('LABELONE');
  sector.writeBigUInt64LE(1n, 8);
  sector.writeUInt32LE(32, 20);
  sector.write('LVM2 001', 24);
  sector.write(randomBytes(16).toString('hex'), 32);
  sector.writeUInt32LE(lvmCrc(sector.subarray(20)), 16);
  await writeAt(path, sector, 512);
}

interface Kind {
  readonly content: string;
  readonly fields: readonly (keyof DeviceIdentity)[];
  readonly program?: string;
  readonly write: (path: string) => Promise<unknown>;
}

const KINDS: Readonly<Record<string, Kind>> = {
  'GPT disk GUID': {
    content: 'gpt',
    fields: ['partitionTableUuid'],
    write: (path) => writeGpt(path, randomInt(1, 2 ** 32 - 1), [{ start: 2048, length: 4096 }]),
  },
  'MBR signature': {
    content: 'dos',
    fields: ['partitionTableUuid'],
    write: (path) => writeMbr(path, randomInt(1, 2 ** 32 - 1), [{ start: 2048, length: 4096 }]),
  },
  ext4: {
    content: 'ext4',
    fields: ['filesystemUuid'],
    program: 'mkfs.ext4',
    write: async (path) => run('mkfs.ext4', '-q', '-F', path),
  },
  'members of one btrfs': {
    content: 'btrfs',
    fields: ['filesystemUuid', 'memberUuid'],
    program: 'mkfs.btrfs',
    write: async (path) => run('mkfs.btrfs', '-q', '-f', '-U', '5c0f7f0e-2f0a-4f7e-8a52-3f5f0d2b9a11', path),
  },
  swap: {
    content: 'swap',
    fields: ['filesystemUuid'],
    program: 'mkswap',
    write: async (path) => run('mkswap', path),
  },
  LUKS: { content: 'crypto_LUKS', fields: ['filesystemUuid'], write: writeLuksHeader },
  LVM: { content: 'LVM2_member', fields: ['filesystemUuid'], write: writeLvmLabel },
};

async function blankDisk(t: ExecutionContext): Promise<string> {
  const path = join(await temporaryDirectory(t, 'written'), 'disk.img');
  await (await open(path, 'w')).close();
  await truncate(path, SIZE);
  return path;
}

async function identityOf(t: ExecutionContext, image: string): Promise<DeviceIdentity> {
  const loop = attachLoop(t, image);
  try {
    return await readDeviceIdentity(loop, 512);
  } finally {
    detachLoop(loop);
  }
}

for (const [name, { content, fields, program, write }] of Object.entries(KINDS)) {
  const needed = program === undefined ? NEEDED : [...NEEDED, { program }];
  testWith(needed, `a whole disk is known by what is on it: ${name}`, async (t) => {
    const [image, other, blank] = [await blankDisk(t), await blankDisk(t), await blankDisk(t)];
    const before = await identityOf(t, image);
    t.like(before, { content: 'none' });
    await write(image);
    await write(other);
    const known = await identityOf(t, image);
    t.is(known.content, content);
    for (const field of fields) t.is(typeof known[field], 'string', field);
    t.true(compareDevices(before, known).same, 'written for the first time');
    t.false(compareDevices(known, await identityOf(t, other)).same, 'another one in its place');
    t.false(compareDevices(known, await identityOf(t, blank)).same, 'a blank one in its place');
    await truncate(image, SIZE + 16 * MIB);
    const loop = attachLoop(t, blank);
    const renamed = await identityOf(t, image);
    detachLoop(loop);
    t.true(compareDevices(known, renamed).same, 'another node, and grown');
  });
}

testWith(NEEDED, 'an MBR without a signature tells nothing', async (t) => {
  const image = await blankDisk(t);
  await writeMbr(image, 0, [{ start: 2048, length: 4096 }]);
  const { partitionTableUuid, content } = await identityOf(t, image);
  t.deepEqual([partitionTableUuid, content], [undefined, 'dos']);
});

testWith(
  NEEDED,
  'another disk at the same node under the same name is refused, and accepted by name',
  async (t) => {
    const world = await BackupWorld.make(t);
    const disks = [await blankDisk(t), await blankDisk(t)];
    for (const [n, disk] of disks.entries()) await writeGpt(disk, 5 + n, [{ start: 2048, length: 4096 }]);
    const backUp = async (disk: string, options = {}) => {
      const path = attachLoop(t, disk);
      return world.backup({ path, ...options }).finally(() => detachLoop(path));
    };
    const [first = '', second = ''] = disks;
    await backUp(first);
    const reason = /partition-table id was .*formatted or partitioned again.*--accept-identity.*--name/;
    await refused(t, backUp(second), 'device-identity', reason);
    await backUp(first);
    t.is((await backUp(second, { acceptIdentity: true })).point.sequence, 3);
    await backUp(second);
  },
);
