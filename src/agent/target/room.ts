/** Looks for room for an image before any of its old content changes. */
import { constants } from 'node:fs';
import { open, readFile, realpath, stat, statfs } from 'node:fs/promises';
import { readFact } from '../../devices/system/block-sysfs.js';
import { mountShownAt, parseMountinfo, superOptions } from '../../devices/system/mount-table.js';
import { StillpointError } from '../../domain/base/errors.js';
import { missingRoom } from '../../domain/device/target-room.js';
import { native, type TreeFile } from '../../native/index.js';
import { zeroRuns } from './block-requests.js';

const SECTOR_BYTES = 512;
/** statfs(2): the file systems that keep part of their room for root. */
const EXT4 = 0xef53;
const DENSE: ReadonlySet<number> = new Set([0x4d44, 0x2011bab0]); // FAT, exFAT
const COMPRESSING: ReadonlySet<string> = new Set(['zfs', 'bcachefs']);

/**
 * @param tree of the point
 * @throws StillpointError `device-io`
 */
export async function checkRoom(
  path: string,
  tree: TreeFile,
  onNotice: (text: string) => void,
): Promise<void> {
  const { type, bsize, bfree, bavail, blocks } = await statfs(path);
  const { blocks: sectors } = await stat(path);
  // A file system without an end, or that does not tell it, has no blocks.
  const isKnown = blocks > 0;
  const free = type === EXT4 && (await mayUseAll()) ? bfree : bavail;
  const freeBytes = isKnown ? free * bsize : null;
  const missingBytes = missingRoom({
    ...{ contentBytes: contentBytes(tree), sizeBytes: tree.sizeBytes, freeBytes },
    ...{ allocatedBytes: sectors * SECTOR_BYTES, isDense: DENSE.has(type) },
  });
  if (missingBytes === 0) {
    await noteShared(path, freeBytes, onNotice);
    return;
  }
  if (await isCompressed(path)) {
    onNotice(
      `there may be too little room for ${path}: without compression ${missingBytes} bytes would be missing on its file system`,
    );
    return;
  }
  throw new StillpointError('device-io', {
    thing: path,
    reason: `its file system has too little room for the point: ${missingBytes} bytes are missing, and ${freeBytes} are free`,
    remedy: 'Make room, or choose a target elsewhere. Nothing was written.',
  });
}

/** How much of what a clone shares will be written is not known: it takes new room for each block. */
async function noteShared(
  path: string,
  freeBytes: number | null,
  onNotice: (text: string) => void,
): Promise<void> {
  const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
  try {
    const sharedBytes = await native.sharedBytes(file.fd).catch(() => 0);
    if (freeBytes === null || sharedBytes <= freeBytes) return;
    onNotice(
      `there may be too little room for ${path}: it shares ${sharedBytes} bytes with other files, such as the clone of its last backup, and ${freeBytes} are free`,
    );
  } finally {
    await file.close();
  }
}

function contentBytes(tree: TreeFile): number {
  let zeroBytes = 0;
  for (const { byteLength } of zeroRuns(tree)) zeroBytes += byteLength;
  return tree.sizeBytes - zeroBytes;
}

/** Root of the machine, not of a container alone, may use what is kept for it. */
async function mayUseAll(): Promise<boolean> {
  if (process.geteuid?.() !== 0) return false;
  return /^0\s+0\s+4294967295$/.test((await readFact('/proc/self/uid_map')) ?? '');
}

async function isCompressed(path: string): Promise<boolean> {
  const table = await readFile('/proc/self/mountinfo', 'utf8');
  const mount = mountShownAt(await realpath(path), parseMountinfo(table));
  if (mount === null) return false;
  const isMountedSo = superOptions(table, mount.id).some((option) => option.startsWith('compress'));
  return COMPRESSING.has(mount.type) || (mount.type === 'btrfs' && isMountedSo);
}
