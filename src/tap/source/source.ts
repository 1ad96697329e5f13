/** What a tap serves: a block device or an image, and how each is distinguished from others. */
import { realpath, stat } from 'node:fs/promises';
import { readDeviceIdentity } from '../../devices/facts/device-identity.js';
import { readBlockFamily, readFact } from '../../devices/system/block-sysfs.js';
import { notADevice, onDevice } from '../../devices/system/device-error.js';
import { deviceNumber } from '../../devices/system/in-use.js';
import { isGenericId } from '../../domain/device/device-facts.js';
import type { SourcePlace } from './source-state.js';

export interface TapSource {
  readonly kind: 'block' | 'image';
  /** Without symbolic links: what is opened. */
  readonly path: string;
  /** Two paths of one source have the same key, until the next restart of the machine. */
  readonly key: string;
  /** Block devices: `8:1`; images: null. */
  readonly number: string | null;
}

/** @throws StillpointError `device-not-found` */
export async function readSource(path: string): Promise<TapSource> {
  return onDevice(path, async () => {
    const resolved = await realpath(path);
    const status = await stat(resolved, { bigint: true });
    if (status.isBlockDevice()) {
      const number = deviceNumber(status.rdev);
      return { kind: 'block', path: resolved, key: `block ${number}`, number };
    }
    if (!status.isFile()) throw notADevice(path, await stat(resolved));
    return { kind: 'image', path: resolved, key: `image ${status.dev}/${status.ino}`, number: null };
  });
}

/** What another time the same path leads to, in the eyes of a tap that has opened it. */
export interface SourceAnchor {
  readonly path: string;
  readonly key: string;
  /** Another number for each time that a disk is attached; null: an image, or the kernel has none. */
  readonly diskSequence: string | null;
}

/** @param path as the tap was given it: a link may lead elsewhere later. */
export async function anchorOf(path: string, { key, number }: TapSource): Promise<SourceAnchor> {
  return { path, key, diskSequence: await diskSequenceOf(number) };
}

export async function placeOfSource(anchor: SourceAnchor): Promise<SourcePlace> {
  const source = await readSource(anchor.path).catch(() => null);
  if (source === null) return 'missing';
  const isSame = source.key === anchor.key && (await diskSequenceOf(source.number)) === anchor.diskSequence;
  return isSame ? 'same' : 'other';
}

async function diskSequenceOf(number: string | null): Promise<string | null> {
  const family = number === null ? null : await readBlockFamily(number);
  return family === null ? null : readFact((family.disk ?? family.self).directory, 'diskseq');
}

export interface SourceIdentity {
  /** What the map is bound to: a map of another one is not used. */
  readonly text: string;
  /** It tells the device from others also after a restart of the machine. */
  readonly isLasting: boolean;
}

/**
 * Facts of the hardware, as far as there are any: a file system or a path may become another
 * one while the device stays.
 */
export async function readSourceIdentity(source: TapSource): Promise<SourceIdentity> {
  if (source.kind === 'image') {
    const { ino, birthtimeNs } = await stat(source.path, { bigint: true });
    return { text: `image inode=${ino} born=${birthtimeNs}`, isLasting: true };
  }
  const { wwn, serial, partitionUuid, byId } = await readDeviceIdentity(source.path, 512);
  const strong = Object.entries({ wwn, serial, partitionUuid }).filter(([, value]) => value !== undefined);
  // udev's names may come later than the tap at a start of the machine: they count only
  // where there is nothing else.
  const facts = strong.length > 0 || byId === undefined ? strong : [['byId', byId]];
  const words = facts.map(([name, value]) => ` ${name}=${JSON.stringify(value)}`);
  // What makers give all their disks alike tells none from another.
  const isLasting = facts.some(([, value]) => !isGenericId(String(value)));
  return { text: `block${words.join('')}`, isLasting };
}
