/**
 * Where bytes are, so that two things are known to share them whatever their names: a loop device and its
 * image, a disk and its partition, a volume and its parts, a directory and the image that holds its file
 * system.
 */
import type { BigIntStats } from 'node:fs';
import { readFile, realpath, stat } from 'node:fs/promises';
import { readBlockStack } from './block-stack.js';
import { listDirectory, readBlockFamily, readFact } from './block-sysfs.js';
import { deviceNumber } from './in-use.js';
import { type Mount, mountShownAt, parseMountinfo, superOptions } from './mount-table.js';

/** `block 8:1` for a block device, `image 2049/77` (device and inode number) for a regular file. */
export type ContentKey = string;

export interface Footprint {
  /**
   * What has these bytes and no others: the device or image, and the file under it where it is a loop device.
   */
  readonly same: ReadonlySet<ContentKey>;
  /**
   * What has these bytes among others, always in the same place: the disk of a partition,
   * the devices of a volume.
   */
  readonly within: ReadonlySet<ContentKey>;
  /**
   * What the file systems lie on that have the images of the other two: they decide
   * where in it the bytes are.
   */
  readonly on: ReadonlySet<ContentKey>;
  /** Paths of these images: writing to the device writes to them. */
  readonly images: readonly string[];
}

/** A write to one may overwrite the other. Pure. */
export function overlaps(written: Footprint, kept: Footprint): boolean {
  const isHit = (keys: ReadonlySet<ContentKey>) => [...written.same].some((key) => keys.has(key));
  return (
    isHit(kept.same) ||
    isHit(kept.within) ||
    isHit(kept.on) ||
    [...written.within].some((key) => kept.same.has(key))
  );
}

export const imageKey = ({ dev, ino }: Pick<BigIntStats, 'dev' | 'ino'>): ContentKey => `image ${dev}/${ino}`;

/** @param path of a block device or an image that is there. */
export async function footprintOf(path: string): Promise<Footprint> {
  const walk = await Walk.begin();
  await walk.addFile(path, 'same');
  return walk;
}

/** Of the file system that a file or directory is in. */
export async function footprintUnder(path: string): Promise<Footprint> {
  const walk = await Walk.begin();
  await walk.addFilesystemOf(path, 'same');
  return walk;
}

type Relation = 'same' | 'within' | 'on';

/** Of what a thing is part of. */
const outside = (relation: Relation): Relation => (relation === 'same' ? 'within' : relation);

class Walk implements Footprint {
  readonly same = new Set<ContentKey>();
  readonly within = new Set<ContentKey>();
  readonly on = new Set<ContentKey>();
  readonly images: string[] = [];
  readonly #mountTable: string;
  readonly #mounts: readonly Mount[];

  private constructor(mountTable: string) {
    this.#mountTable = mountTable;
    this.#mounts = parseMountinfo(mountTable);
  }

  static async begin(): Promise<Walk> {
    return new Walk(await readFile('/proc/self/mountinfo', 'utf8'));
  }

  async addFile(path: string, relation: Relation): Promise<void> {
    const status = await stat(path, { bigint: true }).catch(() => null);
    if (status === null) return;
    if (status.isBlockDevice()) return this.#addDevice(deviceNumber(status.rdev), relation);
    if (!this.#isNew(imageKey(status), relation)) return;
    if (relation !== 'on') this.images.push(path);
    await this.addFilesystemOf(path, 'on');
  }

  async addFilesystemOf(path: string, relation: Relation): Promise<void> {
    const mount = mountShownAt(await realpath(path), this.#mounts);
    if (mount === null) return;
    for (const number of await filesystemDevices(mount)) await this.#addDevice(number, relation);
    if (mount.type !== 'overlay') return;
    // What is written there goes to a directory of another file system.
    const upper = superOptions(this.#mountTable, mount.id).find((option) => option.startsWith('upperdir='));
    const directory = await realpath((upper ?? '').slice('upperdir='.length)).catch(() => null);
    const below = directory === null ? null : mountShownAt(directory, this.#mounts);
    if (directory !== null && below?.id !== mount.id) await this.addFilesystemOf(directory, relation);
  }

  async #addDevice(number: string, relation: Relation): Promise<void> {
    if (!this.#isNew(`block ${number}`, relation)) return;
    const family = await readBlockFamily(number);
    if (family === null) return;
    if (family.disk !== null) await this.#addDevice(family.disk.number, outside(relation));
    const { directory } = family.self;
    for (const name of await listDirectory(directory, 'slaves')) {
      const below = await readFact('/sys/class/block', name, 'dev');
      if (below !== null) await this.#addDevice(below, outside(relation));
    }
    const backing = await readFact(directory, 'loop', 'backing_file');
    if (backing !== null) await this.addFile(backing, relation);
  }

  #isNew(key: ContentKey, relation: Relation): boolean {
    if (this[relation].has(key)) return false;
    this[relation].add(key);
    return true;
  }
}

/** Usually one; btrfs and bcachefs may have more, and name one, or all with colons between. */
async function filesystemDevices({ number, source, type }: Mount): Promise<string[]> {
  const stack = readBlockStack();
  const found = new Set(number.startsWith('0:') ? [] : [number]);
  for (const path of source.startsWith('/dev/') ? source.split(':') : []) {
    const named = await stack.numberOf(path);
    if (named !== null) found.add(named);
  }
  if (type === 'btrfs') {
    for (const members of await stack.btrfsMembers()) {
      if (members.some((member) => found.has(member))) for (const member of members) found.add(member);
    }
  }
  return [...found];
}
