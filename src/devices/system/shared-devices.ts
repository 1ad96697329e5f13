/**
 * Devices that others can write to without moving a counter of this kernel: other machines, or a program
 * behind the device.
 */
import { dirname } from 'node:path';
import { type BlockNode, listDirectory, readFact } from './block-sysfs.js';

const BY_NAME: readonly (readonly [RegExp, string])[] = [
  [/^nbd\d/, 'an NBD device'],
  [/^rnbd\d/, 'an RNBD device'],
  [/^rbd\d/, 'a Ceph RBD device'],
  [/^drbd\d/, 'a DRBD device'],
  [/^etherd!/, 'an ATA-over-Ethernet device'],
  [/^ublkb\d/, 'a ublk device'],
  [/^mtdblock\d/, 'a view of flash that has another one'],
];
/** As the kernel nests a disk under the way to it. */
const BY_DIRECTORY: readonly (readonly [RegExp, string])[] = [
  [/\/session\d+\/target/, 'an iSCSI disk'],
  [/\/rport-\d/, 'a Fibre Channel disk'],
];
const NVME_FABRICS: ReadonlySet<string> = new Set(['tcp', 'rdma', 'fc', 'loop']);
const SCSI_FABRIC_DRIVERS: ReadonlySet<string> = new Set(['ib_srp', 'iscsi_tcp', 'ib_iser']);

export interface WayToDisk {
  /** `nvme0n1` */
  readonly name: string;
  /** Its directory in sysfs. */
  readonly directory: string;
  /** Of its NVMe controllers. */
  readonly nvmeTransports: readonly string[];
  readonly scsiDriver: string | null;
}

/** @returns what it is: "an iSCSI disk"; null: it is written to through this kernel only. */
export function sharedKind({ name, directory, nvmeTransports, scsiDriver }: WayToDisk): string | null {
  const named = BY_NAME.find(([pattern]) => pattern.test(name)) ?? null;
  const placed = BY_DIRECTORY.find(([pattern]) => pattern.test(directory)) ?? null;
  if (named !== null || placed !== null) return (named ?? placed)?.[1] ?? null;
  if (nvmeTransports.some((transport) => NVME_FABRICS.has(transport))) return 'an NVMe disk over a network';
  return scsiDriver !== null && SCSI_FABRIC_DRIVERS.has(scsiDriver) ? 'a SCSI disk over a network' : null;
}

/** @param disk no partition */
export async function readSharedKind(disk: BlockNode): Promise<string | null> {
  const parent = dirname(disk.directory);
  const host = /\/host(\d+)\//.exec(disk.directory)?.[1];
  return sharedKind({
    name: disk.name,
    directory: disk.directory,
    nvmeTransports: disk.name.startsWith('nvme') ? await nvmeTransports(parent) : [],
    scsiDriver:
      host === undefined ? null : await readFact('/sys/class/scsi_host', `host${host}`, 'proc_name'),
  });
}

/**
 * The directory is that of the controller; or, with several ways to the disk, of the
 * subsystem, which lists them.
 */
async function nvmeTransports(directory: string): Promise<string[]> {
  const controllers = (await listDirectory(directory)).filter((name) => /^nvme\d+$/.test(name));
  const found = await Promise.all([
    readFact(directory, 'transport'),
    ...controllers.map((name) => readFact(directory, name, 'transport')),
  ]);
  return found.filter((transport) => transport !== null);
}
