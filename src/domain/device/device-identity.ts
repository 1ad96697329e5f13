/**
 * Is this the device of the last point? Pure comparison of two identities.
 *
 * Images: the inode decides, without the device number before it, which may differ after a restart while the
 * path is the same. If an inode is missing, the path decides.
 *
 * Block devices: the first row with facts to compare decides:
 *
 * | facts                                                    | differ  | agree |
 * |----------------------------------------------------------|---------|-------|
 * | firm: WWN, serial, by-id name, partition UUID            | another | same  |
 * | written on it: ids of partition table, file system, LUKS, LVM, RAID | another | same |
 * | known before, and looked for in vain now                 | another |       |
 * | of another kind of content than before, without an id    | another |       |
 * | generic: serials that many devices have                  | another | same  |
 * | none of these, a first mkfs for example                  |         | same  |
 *
 * The ids written on a disk change when it is formatted again, so they count only if nothing firm agrees.
 * Path and size never count: disks are renamed and grow. Devices whose ids are all equal, a disk and its
 * clone for example, can't be told apart.
 */

import type { DeviceIdentity } from '../point/point.js';
import { isGenericId, stableById } from './device-facts.js';

export type DeviceComparison =
  | { readonly same: true }
  /** What changed, as a clause: `its serial was "A", now it is "B"`. */
  | { readonly same: false; readonly reason: string };

/** What `DeviceIdentity.content` says where nothing was found. */
export const BLANK = 'none';

const FIRM = [
  ['wwn', 'WWN'],
  ['serial', 'serial number'],
  ['byId', 'by-id name'],
  ['partitionUuid', 'partition UUID'],
] as const;

const WRITTEN = [
  ['partitionTableUuid', 'partition-table id'],
  ['filesystemUuid', 'file-system UUID'],
  ['memberUuid', 'member UUID'],
] as const;

const SAME: DeviceComparison = { same: true };

export function compareDevices(last: DeviceIdentity, now: DeviceIdentity): DeviceComparison {
  if (last.type !== now.type) return changed([['type', last.type, now.type]]);
  return last.type === 'block' ? compareBlockDevices(last, now) : compareImages(last, now);
}

function compareBlockDevices(last: DeviceIdentity, now: DeviceIdentity): DeviceComparison {
  const firm = comparePairs(pairsOf(FIRM, last, now).filter(isFirm));
  const written = comparePairs(pairsOf(WRITTEN, last, now));
  return (
    firm ??
    written ??
    compareContent(last, now) ??
    comparePairs(pairsOf(FIRM, last, now).filter((pair) => !isFirm(pair))) ??
    SAME
  );
}

/** Both have ids written on them but not of one kind, or only one of them has. */
function compareContent(last: DeviceIdentity, now: DeviceIdentity): DeviceComparison | null {
  const [before, after] = [firstWritten(last), firstWritten(now)];
  if (before !== null && after !== null) {
    return { same: false, reason: `its ${before} is gone, and it now has the ${after}` };
  }
  if (before !== null && now.content !== undefined) {
    const found = now.content === BLANK ? 'nothing is on it' : `${now.content} without an id is on it`;
    return {
      same: false,
      reason: `its ${before} is gone, and now ${found}: it was wiped, or another device is in its place`,
    };
  }
  const isKnown = last.content !== undefined && last.content !== BLANK && now.content !== undefined;
  return isKnown && last.content !== now.content
    ? changed([['content', last.content ?? '', now.content ?? '']])
    : null;
}

function firstWritten(identity: DeviceIdentity): string | null {
  for (const [field, label] of WRITTEN) {
    const value = identity[field];
    if (value !== undefined) return `${label} ${JSON.stringify(value)}`;
  }
  return null;
}

interface Pair {
  readonly label: string;
  readonly before: string;
  readonly after: string;
}

type Labelled = (typeof FIRM | typeof WRITTEN)[number];

/** What both have. */
function pairsOf(fields: readonly Labelled[], last: DeviceIdentity, now: DeviceIdentity): Pair[] {
  return fields.flatMap(([field, label]) => {
    const [before, after] = [factOf(last, field), factOf(now, field)];
    if (before === undefined || after === undefined) return [];
    // Names of two kinds for one disk: udev chose another one.
    if (field === 'byId' && kindOf(before) !== kindOf(after)) return [];
    return [{ label, before, after }];
  });
}

function factOf(identity: DeviceIdentity, field: Labelled[0]): string | undefined {
  const value = identity[field];
  return value !== undefined && field === 'byId' ? stableById(value) : value;
}

/** `ata`, `nvme`, `dm-uuid`, ... */
const kindOf = (byId: string): string => /^(?:dm-|md-)?[^-]*/.exec(byId)?.[0] ?? '';

const isFirm = ({ before, after }: Pair): boolean => !isGenericId(before) && !isGenericId(after);

/** Null: nothing can be compared. */
function comparePairs(pairs: readonly Pair[]): DeviceComparison | null {
  if (pairs.length === 0) return null;
  const differing = pairs.filter(({ before, after }) => before !== after);
  return differing.length === 0
    ? SAME
    : changed(differing.map(({ label, before, after }) => [label, before, after]));
}

function compareImages(last: DeviceIdentity, now: DeviceIdentity): DeviceComparison {
  if (last.inode === undefined || now.inode === undefined) {
    return last.path === now.path ? SAME : changed([['path', last.path, now.path]]);
  }
  if (last.inode === now.inode) return SAME;
  if (last.path === now.path && inodeNumber(last.inode) === inodeNumber(now.inode)) return SAME;
  const difference = changed([['inode', last.inode, now.inode]]);
  if (difference.same || last.path !== now.path) return difference;
  return {
    same: false,
    reason: `another file has its path, a copy of it for example: ${difference.reason}`,
  };
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
