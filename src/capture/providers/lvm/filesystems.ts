/**
 * What a snapshot of LVM is worth, by what lies on the volume. When LVM takes one it has device mapper
 * suspend the volume, which freezes the file system that is mounted from the volume itself, for that moment.
 * It does so from the inside of the kernel and with its own memory locked, so it works for the root file
 * system too.
 *
 * Nothing is frozen from above. Tried in virtual machines: LVM waits for its own files on a frozen root.
 * Linux 6.1 refuses to freeze twice (EBUSY), and there is no snapshot. Linux 6.12 does freeze twice, but does
 * not count it down: from then on device mapper freezes the file system no more, and once unmounted it can't
 * be mounted, until the volume is made active anew. If another program did that, an ext4 shows it: its
 * journal is not empty.
 */
import { stat } from 'node:fs/promises';
import { deviceNumber, findUses } from '../../../devices/system/in-use.js';
import type { ConsistencyKind } from '../../../domain/point/point.js';
import { type Device, native } from '../../../native/index.js';
import { findFilesystems } from '../../quiesce/mounts.js';

/** Tested: they have on disk what was written before. */
const FROZEN: ReadonlySet<string> = new Set(['ext2', 'ext3', 'ext4', 'xfs']);

export interface Worth {
  readonly kind: ConsistencyKind;
  /** Sentences: what was not frozen. */
  readonly warnings: readonly string[];
  /** Of writable file systems on it. */
  readonly mountPoints: readonly string[];
  /** What it was judged by: the same afterwards, or it does not count. */
  readonly facts: string;
}

export async function worthOf(path: string): Promise<Worth> {
  const [{ filesystems, notes }, status] = await Promise.all([
    findFilesystems([path]),
    stat(path, { bigint: true }),
  ]);
  const number = deviceNumber(status.rdev);
  const writable = filesystems.filter(({ readOnly }) => !readOnly);
  const isFrozen = ({ number: own, type }: (typeof writable)[number]): boolean =>
    own === number && FROZEN.has(type);
  const facts = JSON.stringify([...filesystems, notes]);
  const warnings = writable
    .filter((filesystem) => !isFrozen(filesystem))
    .map(({ path: at, type }) =>
      FROZEN.has(type)
        ? `${at} was not frozen: LVM freezes only what is mounted from the volume itself`
        : `${at} was not frozen: LVM freezes no ${type}`,
    );
  const mountPoints = writable.flatMap(({ mount }) => mount?.path ?? []);
  const found = { warnings, mountPoints, facts };
  if (writable.length > 0) return { ...found, kind: writable.every(isFrozen) ? 'filesystem' : 'crash' };
  return { ...found, kind: (await nobodyWrites(path)) ? 'idle' : 'crash' };
}

/** After a snapshot: what it was judged by before and after must be the same. */
export function worthOfBoth(before: Worth, after: Worth): Worth {
  if (before.facts === after.facts && before.kind === after.kind) return after;
  const warnings = [...after.warnings, 'what is mounted from it changed while the snapshot was taken'];
  return { ...after, kind: 'crash', warnings };
}

/** Also not from another mount namespace, which only the kernel knows. */
async function nobodyWrites(path: string): Promise<boolean> {
  if ((await findUses(path, 'writers')).some(({ writable }) => writable)) return false;
  try {
    const device = await native.openDevice(path, { exclusive: true });
    await device.close();
    return true;
  } catch {
    return false;
  }
}

/**
 * btrfs takes a snapshot of its device for a second device of the same file system, and device mapper does
 * not freeze it.
 */
export async function hasBtrfs(path: string): Promise<boolean> {
  return (await findFilesystems([path])).filesystems.some(({ type }) => type === 'btrfs');
}

const SUPERBLOCK_BYTES = 1024;
const EXT_MAGIC = 0xef53;
const HAS_JOURNAL = 0x4;
const NEEDS_RECOVERY = 0x4;

/** A snapshot of an ext3 or ext4 whose journal is to be replayed: it was not frozen. */
export async function hasUnfrozenJournal(snapshot: Device): Promise<boolean> {
  if (snapshot.sizeBytes < 2 * SUPERBLOCK_BYTES) return false;
  const bytes = (await snapshot.read(0, 2 * SUPERBLOCK_BYTES)).subarray(SUPERBLOCK_BYTES);
  if (bytes.readUInt16LE(0x38) !== EXT_MAGIC || (bytes.readUInt32LE(0x5c) & HAS_JOURNAL) === 0) return false;
  return (bytes.readUInt32LE(0x60) & NEEDS_RECOVERY) !== 0;
}
