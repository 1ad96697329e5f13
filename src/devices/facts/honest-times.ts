/**
 * File systems whose file times can be believed: each write through this kernel moves mtime and ctime, and
 * all writes go through this kernel. All others (FUSE, NFS, SMB, 9p, virtiofs, overlay, cluster file systems,
 * and unknown ones) prove nothing: their times come from somebody else, perhaps late.
 */
import type { BigIntStats } from 'node:fs';
import { stat, statfs } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';

/**
 * statfs(2) `f_type`. Without those whose times have a grain of 10 ms or more in any
 * version (FAT, exFAT, ReiserFS).
 */
const TMPFS = 0x01021994;
const HONEST: ReadonlySet<number> = new Set([
  0xef53, // ext2, ext3, ext4
  0x58465342, // XFS
  0x9123683e, // btrfs
  0xf2f52010, // F2FS
  TMPFS,
  0xca451a4e, // bcachefs
  0x2fc12fc1, // ZFS
  0x3153464a, // JFS
]);

/** Only to be named. */
const NAMES: ReadonlyMap<number, string> = new Map([
  [TMPFS, 'tmpfs'],
  [0x65735546, 'FUSE'],
  [0x6969, 'NFS'],
  [0xff534d42, 'SMB'],
  [0xfe534d42, 'SMB'],
  [0x517b, 'SMB'],
  [0x01021997, '9p'],
  [0x6a656a63, 'virtiofs'],
  [0x794c7630, 'overlay'],
  [0x00c36400, 'Ceph'],
  [0x4d44, 'FAT'],
  [0x2011bab0, 'exFAT'],
  [0x7366746e, 'NTFS'],
  [0x7461636f, 'OCFS2'],
  [0x01161970, 'GFS2'],
]);

/** @returns the name of the file system where its times prove nothing; null where they do. */
export async function doubtfulFileSystem(path: string): Promise<string | null> {
  const type = await typeOf(path);
  return HONEST.has(type) ? null : nameOf(type);
}

/**
 * The same for a file that a loop device has open for writing, so that nobody can tell who else has: without
 * writeback (tmpfs), what somebody writes through an old mapping moves no times.
 */
export async function doubtfulBelowLoop(path: string): Promise<string | null> {
  const type = await typeOf(path);
  return HONEST.has(type) && type !== TMPFS ? null : nameOf(type);
}

async function typeOf(path: string): Promise<number> {
  return (await statfs(path)).type >>> 0;
}

const nameOf = (type: number): string => NAMES.get(type) ?? `a file system of type 0x${type.toString(16)}`;

/**
 * Kernel time stamps move in ticks: a file changed within the last one could change again without a trace.
 */
const TICK_MS = 20;
/** ext2, ext3 and ext4 with the small inodes of old: a time stamp of theirs ends with nine zeros. */
const COARSE_TICK_MS = 1020;
const NS_PER_SECOND = 1_000_000_000n;

/** A file that is always younger is being written to, and shows it. */
const WAITS = 5;

/** From when this resolves on, a write to the file shows in its times. */
export async function waitForTick(path: string): Promise<void> {
  for (let wait = 0; wait < WAITS; wait += 1) {
    const { ctimeNs, ctimeMs } = await stat(path, { bigint: true });
    const tickMs = ctimeNs % NS_PER_SECOND === 0n ? COARSE_TICK_MS : TICK_MS;
    const ageMs = Date.now() - Number(ctimeMs);
    if (ageMs >= tickMs) return;
    await sleep(tickMs - Math.max(0, ageMs));
  }
}

export function fileKey({ dev, ino, birthtimeNs }: BigIntStats): string {
  return [dev, ino, birthtimeNs].join(':');
}

export function fileTimes({ mtimeNs, ctimeNs }: BigIntStats): string {
  return [mtimeNs, ctimeNs].join(':');
}
