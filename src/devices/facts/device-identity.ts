/**
 * Reads what identifies a device: from sysfs, from udev's links if there are any, and from blkid if it is
 * installed. Facts that can't be read are omitted. src/domain/device/device-identity.ts decides what they are
 * worth.
 */
import { execFile } from 'node:child_process';
import type { BigIntStats } from 'node:fs';
import { realpath, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { isGenericId } from '../../domain/device/device-facts.js';
import { BLANK } from '../../domain/device/device-identity.js';
import type { DeviceIdentity } from '../../domain/point/point.js';
import { type BlockFamily, listDirectory, readBlockFamily, readFact } from '../system/block-sysfs.js';
import { deviceNumber } from '../system/in-use.js';

const execute = promisify(execFile);
const PROBE_TIMEOUT_MS = 5000;
/** The protocol bounds them; real ones are far shorter. */
const FACT_CHARS_MAX = 512;

/** @param path an existing block device or regular file. */
export async function readDeviceIdentity(path: string, logicalSectorSize: number): Promise<DeviceIdentity> {
  const resolved = await realpath(path);
  const status = await stat(resolved, { bigint: true });
  const probed = await probe(resolved);
  const facts = status.isBlockDevice()
    ? { ...(await blockDeviceFacts(status, probed)), ...writtenFacts(probed) }
    : { inode: `${deviceNumber(status.dev)}/${status.ino}` };
  const filesystemUuid = probed?.get('UUID') ?? (await linkTo('/dev/disk/by-uuid', status));
  return withoutUnknown({
    type: status.isBlockDevice() ? 'block' : 'image',
    path: resolved,
    ...facts,
    filesystemUuid,
    logicalSectorSize,
  });
}

type Loose<T> = { [K in keyof T]: T[K] | null | undefined };

function withoutUnknown(identity: Loose<DeviceIdentity>): DeviceIdentity {
  const known = Object.entries(identity).filter(([, value]) => value !== null && value !== undefined);
  return Object.fromEntries(
    known.map(([name, value]) =>
      typeof value === 'string' && name !== 'path' ? [name, value.slice(0, FACT_CHARS_MAX)] : [name, value],
    ),
  ) as unknown as DeviceIdentity;
}

/** The UUID of a LUKS header, an LVM physical volume or a RAID member comes as that of a file system. */
function writtenFacts(
  probed: Probed | null,
): Loose<Pick<DeviceIdentity, 'partitionTableUuid' | 'memberUuid' | 'content'>> {
  if (probed === null) return {};
  const tableId = probed.get('PTUUID');
  return {
    // An MBR without a signature has zeros there.
    partitionTableUuid: tableId === undefined || isGenericId(tableId) ? null : tableId,
    // Members of one array or btrfs share the other UUID.
    memberUuid: probed.get('UUID_SUB'),
    content: probed.get('TYPE') ?? probed.get('PTTYPE') ?? BLANK,
  };
}

async function blockDeviceFacts(
  status: BigIntStats,
  probed: Probed | null,
): Promise<Loose<Pick<DeviceIdentity, 'byId' | 'wwn' | 'serial' | 'partitionUuid'>>> {
  const family = await readBlockFamily(deviceNumber(status.rdev));
  const isPartition = family?.disk !== null && family !== null;
  return {
    byId: await byIdName(status, family),
    wwn: family === null ? null : await worldWideName(family),
    serial: family === null ? null : await serialNumber(family),
    partitionUuid: isPartition
      ? (probed?.get('PART_ENTRY_UUID') ?? (await linkTo('/dev/disk/by-partuuid', status)))
      : null,
  };
}

/** Stacked devices carry their UUID in the kernel; for others udev's links are the only source. */
async function byIdName(status: BigIntStats, family: BlockFamily | null): Promise<string | null> {
  if (family !== null) {
    const mapperUuid = await readFact(family.self.directory, 'dm', 'uuid');
    if (mapperUuid !== null) return `dm-uuid-${mapperUuid}`;
  }
  return linkTo('/dev/disk/by-id', status);
}

async function worldWideName(family: BlockFamily): Promise<string | null> {
  const { directory } = family.disk ?? family.self;
  return (await readFact(directory, 'wwid')) ?? (await readFact(directory, 'device', 'wwid'));
}

async function serialNumber(family: BlockFamily): Promise<string | null> {
  const { directory } = family.disk ?? family.self;
  return (
    (await readFact(directory, 'serial')) ??
    (await readFact(directory, 'device', 'serial')) ??
    (await unitSerial(directory))
  );
}

/** SCSI's unit serial number page: a 4-byte header, then text. */
async function unitSerial(directory: string): Promise<string | null> {
  const page = await readFact(directory, 'device', 'vpd_pg80');
  const text = page
    ?.slice(4)
    .replace(/[^\x20-\x7e]/g, '')
    .trim();
  return text === undefined || text === '' ? null : text;
}

/**
 * By-id names of what is written on a disk, or that people give: pvcreate is not to make another disk of it.
 */
const NOT_OF_THE_DEVICE = /^(lvm-pv-uuid|md-name)-/;

/** First name, in alphabetical order, of a link in udev's directory that leads to the device. */
async function linkTo(directory: string, status: BigIntStats): Promise<string | null> {
  if (!status.isBlockDevice()) return null;
  for (const name of (await listDirectory(directory)).sort()) {
    if (NOT_OF_THE_DEVICE.test(name)) continue;
    const target = await stat(join(directory, name), { bigint: true }).catch(() => null);
    if (target?.isBlockDevice() === true && target.rdev === status.rdev) return name;
  }
  return null;
}

type Probed = ReadonlyMap<string, string>;

/** blkid's exit code where nothing is on a device that it knows. */
const NOTHING_FOUND = 2;
/** Where users who are not root don't look. */
const SYSTEM_PATH = `${process.env.PATH ?? ''}:/usr/sbin:/sbin`;

/**
 * What blkid reads from the device itself, past its cache. Null where it is missing,
 * can't read or is undecided.
 */
async function probe(path: string): Promise<Probed | null> {
  try {
    const { stdout } = await execute('blkid', ['-p', '-o', 'export', path], {
      timeout: PROBE_TIMEOUT_MS,
      env: { ...process.env, PATH: SYSTEM_PATH },
    });
    return new Map(
      stdout.split('\n').flatMap((line) => {
        const equals = line.indexOf('=');
        return equals < 0 ? [] : [[line.slice(0, equals), line.slice(equals + 1)] as const];
      }),
    );
  } catch (error) {
    return (error as { code?: unknown }).code === NOTHING_FOUND ? new Map() : null;
  }
}
