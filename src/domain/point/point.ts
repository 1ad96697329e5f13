/** What a restore point is, for every room. src/store/points/manifest.ts has the manifest's file form. */

import type { Geometry } from '../blocks/geometry.js';
import type { JournalPosition } from '../journal/journal.js';
import type { Tree } from '../tree/digest-tree.js';
import type { ExcludedRange } from './excluded.js';

/**
 * What the instant of a point is worth (docs/design.md section 1): hooks succeeded; file systems frozen; one
 * instant, nothing flushed by agreement; no write seen while it was read; or, only when asked for by name,
 * no single instant at all.
 */
export const CONSISTENCY_KINDS = ['application', 'filesystem', 'crash', 'idle', 'fuzzy'] as const;
export type ConsistencyKind = (typeof CONSISTENCY_KINDS)[number];

/**
 * What instants of several devices are worth as one: what is true of each. `idle` and the kinds of a frozen
 * state promise different things; what both keep is that of `crash`.
 */
export function worstKind(kinds: readonly ConsistencyKind[]): ConsistencyKind {
  const different = new Set(kinds);
  if (different.has('fuzzy')) return 'fuzzy';
  const [first = 'crash'] = different;
  if (different.size <= 1) return first;
  return different.has('crash') || different.has('idle') ? 'crash' : 'filesystem';
}

/** Facts that tell one disk from another; empty where unknown. Order of trust is in device-identity.ts. */
export interface DeviceIdentity {
  readonly type: 'block' | 'image';
  /** Path as given by the user, resolved: a label, not an identity. */
  readonly path: string;
  readonly byId?: string;
  readonly wwn?: string;
  readonly serial?: string;
  readonly partitionUuid?: string;
  /**
   * What is written on it: the file system's, or that of a LUKS header, an LVM physical volume, a RAID array.
   */
  readonly filesystemUuid?: string;
  /** Of a whole disk, or whatever else has a partition table: GPT's disk GUID, MBR's signature. */
  readonly partitionTableUuid?: string;
  /** Tells devices that share `filesystemUuid` apart: members of a RAID array or of a btrfs. */
  readonly memberUuid?: string;
  /**
   * Block devices: what blkid found (`ext4`, `gpt`, ...), `none` where it found nothing; missing
   * where nobody could look.
   */
  readonly content?: string;
  /** Image files: device number and inode of the file, `MAJOR:MINOR/INODE`. */
  readonly inode?: string;
  readonly logicalSectorSize: number;
}

/** A byte range that could not be read, and what the point holds in its place. */
export interface BadRange {
  readonly byteOffset: number;
  readonly byteLength: number;
  /** `previous`: the last good content of an earlier point. `filler`: the marker pattern, never zeros. */
  readonly content: 'previous' | 'filler';
}

export interface SessionStatistics {
  readonly scannedBytes: number;
  /** Raw bytes of blocks that differ from the base point, each counted once, however often it was sent. */
  readonly changedBytes: number;
  /** All request and answer bodies of the session, both directions, as the agent counted them. */
  readonly wireBytes: number;
  readonly durationMs: number;
}

/** How a provider came to the instant, for people and scripts: nothing is decided by it. */
export type ProviderFacts = Readonly<Record<string, string | number | boolean>>;

/** What an agent says of the state that a commit makes a point of; the manifest keeps it. */
export interface CommittedFacts {
  readonly kind: ConsistencyKind;
  /** Its name. */
  readonly provider: string;
  readonly providerFacts: ProviderFacts;
  /** The agent's clock at the instant, ISO 8601: a label. */
  readonly instant: string;
  readonly statistics: SessionStatistics;
  readonly badRanges: readonly BadRange[];
  /** What was left out on purpose; it reads as zeros. Missing: nothing. */
  readonly excluded?: readonly ExcludedRange[];
  readonly warnings: readonly string[];
  /** Where the instant is in the journal of the device's tap. Missing: it had none. */
  readonly journal?: JournalPosition;
}

/** What a point says of its group point: group.ts. */
export interface PointGroup {
  /** 32 hex digits. */
  readonly id: string;
  /** Of the group. An agent has no device of that name. */
  readonly name: string;
  /** Assigned by the receiver, from 1: the order of a group's points. */
  readonly sequence: number;
  /** How many points it has. */
  readonly memberCount: number;
  /**
   * How many of them are of this point's agent, where several agents have a part: the group is the receiver's
   * then. Missing: all.
   */
  readonly ownCount?: number;
  /** Members of the group that were left out of this instant, by name. Missing: none. */
  readonly missing?: readonly string[];
}

export interface Point extends CommittedFacts {
  readonly id: string;
  /** Id of the enrolled agent that owns the device; `local` in an embedded store. */
  readonly agent: string;
  readonly device: string;
  /** Assigned by the receiver, from 1 without reuse: the order of a device's points. */
  readonly sequence: number;
  /** Sequence of the point whose tree this one was built on; null starts a chain. */
  readonly baseSequence: number | null;
  readonly geometry: Geometry;
  readonly identity: DeviceIdentity;
  /** Hex digests of the root and of the top node of the digest tree. */
  readonly root: string;
  readonly top: string;
  /** The receiver's clock at the commit, ISO 8601. */
  readonly committedAt: string;
  /**
   * Records that the session added to what the device has in the store, in bytes. Those that the store has
   * already for another device are counted too, though they are not stored again: the number must not tell
   * an agent what others have.
   */
  readonly storedBytes: number;
  /** The group point that it is a part of. Missing: it is a point by itself. */
  readonly group?: PointGroup;
}

/** A point that was removed on purpose, by rules or by the operator. */
export interface RemovedPoint extends Pick<Point, 'id' | 'agent' | 'device' | 'sequence'> {
  /** By the receiver's clock, ISO 8601. */
  readonly removedAt: string;
  /** A clause. */
  readonly why: string;
}

export const NULL_DIGEST_HEX = '0'.repeat(64);

/**
 * How messages and logs name a point of an agent's own. Where agents may be mixed:
 * `pointName` of point-ref.ts.
 */
export function pointLabel(point: { readonly device: string; readonly sequence: number }): string {
  return `${point.device}@${point.sequence}`;
}

export function treeOf(point: Point): Tree {
  return { geometry: point.geometry, top: Buffer.from(point.top, 'hex') };
}

/** By `AGENT/DEVICE`, in the order in which devices and points come. */
export function pointsByDevice(points: readonly Point[]): Map<string, Point[]> {
  const devices = new Map<string, Point[]>();
  for (const point of points) {
    const name = `${point.agent}/${point.device}`;
    const known = devices.get(name);
    if (known === undefined) devices.set(name, [point]);
    else known.push(point);
  }
  return devices;
}
