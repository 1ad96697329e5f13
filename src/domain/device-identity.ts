/**
 * Is this the device that the last point was taken of? Pure comparison of two identities.
 *
 * Block devices: WWN, serial, by-id name and partition UUID each decide when both sides have them. A file-system UUID is
 * weaker (a disk may be formatted anew): it decides only where none of those could be compared. Where nothing can be
 * compared, the type decides. Path and size never do: disks are renamed and grow.
 * Images: the inode decides, but for the device number before it, which may be another after a restart while the path is
 * the same; the path decides where an inode is missing.
 */
import type { DeviceIdentity } from './point.js';

export type DeviceComparison =
  | { readonly same: true }
  /** What changed, as a clause: `its serial was "A", now it is "B"`. */
  | { readonly same: false; readonly reason: string };

const STRONG = [
  ['wwn', 'WWN'],
  ['serial', 'serial number'],
  ['byId', 'by-id name'],
  ['partitionUuid', 'partition UUID'],
] as const;

const SAME: DeviceComparison = { same: true };

export function compareDevices(last: DeviceIdentity, now: DeviceIdentity): DeviceComparison {
  if (last.type !== now.type) return changed([['type', last.type, now.type]]);
  return last.type === 'block' ? compareBlockDevices(last, now) : compareImages(last, now);
}

function compareBlockDevices(last: DeviceIdentity, now: DeviceIdentity): DeviceComparison {
  const differences: Difference[] = [];
  let agreements = 0;
  for (const [field, label] of STRONG) {
    const [before, after] = [last[field], now[field]];
    if (before === undefined || after === undefined) continue;
    if (before === after) agreements += 1;
    else differences.push([label, before, after]);
  }
  if (differences.length > 0) return changed(differences);
  const [before, after] = [last.filesystemUuid, now.filesystemUuid];
  if (agreements === 0 && before !== undefined && after !== undefined && before !== after) {
    return changed([['file-system UUID', before, after]]);
  }
  return SAME;
}

function compareImages(last: DeviceIdentity, now: DeviceIdentity): DeviceComparison {
  if (last.inode === undefined || now.inode === undefined) {
    return last.path === now.path ? SAME : changed([['path', last.path, now.path]]);
  }
  if (last.inode === now.inode) return SAME;
  if (last.path === now.path && inodeNumber(last.inode) === inodeNumber(now.inode)) return SAME;
  return changed([['inode', last.inode, now.inode]]);
}

function inodeNumber(inode: string): string {
  return inode.slice(inode.lastIndexOf('/') + 1);
}

type Difference = readonly [label: string, before: string, after: string];

function changed(differences: readonly Difference[]): DeviceComparison {
  const clauses = differences.map(
    ([label, before, after]) =>
      `its ${label} was ${JSON.stringify(before)} and now is ${JSON.stringify(after)}`,
  );
  return { same: false, reason: clauses.join(', ') };
}
