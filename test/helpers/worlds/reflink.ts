/** An image on a file system that clones files, on a loop device. */
import { type FileHandle, open, readdir, truncate } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import type { Member, Probe } from '../../../src/capture/ports.js';
import { reflinkEntry } from '../../../src/capture/providers/reflink/entry.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { attachLoop, mount, run, temporaryDirectory } from '../disks/loop-device.js';

export type Cloning = 'xfs' | 'btrfs';

export interface CloningDisk {
  readonly directory: string;
  /** On it. */
  readonly mountPoint: string;
  readonly image: string;
  readonly stateDirectory: string;
  /** Names of the clones beside the image. */
  clones(): Promise<string[]>;
  probe(isNamed?: boolean): Promise<Probe>;
}

export const CLONING_PROGRAMS: Readonly<Record<Cloning, string>> = { xfs: 'mkfs.xfs', btrfs: 'mkfs.btrfs' };

export interface CloningOptions {
  readonly sizeBytes?: number;
  readonly mkfs?: readonly string[];
  readonly mountOptions?: string;
}

export async function makeCloningDisk(
  t: ExecutionContext,
  filesystem: string,
  { sizeBytes = 512 * MiB, mkfs = [], mountOptions }: CloningOptions = {},
): Promise<CloningDisk> {
  const directory = await temporaryDirectory(t, 'reflink');
  const mountPoint = join(directory, 'mnt');
  const backing = join(directory, 'backing');
  await (await open(backing, 'w')).close();
  await truncate(backing, sizeBytes);
  run(`mkfs.${filesystem}`, '-q', ...mkfs, backing);
  await mount(t, attachLoop(t, backing), mountPoint, mountOptions);
  const image = join(mountPoint, 'disk.img');
  const stateDirectory = join(directory, 'state');
  return {
    ...{ directory, mountPoint, image, stateDirectory },
    clones: async () => (await readdir(mountPoint)).filter((name) => name.includes('.stillpoint-')),
    probe: (isNamed = false) => reflinkEntry.probe({ path: image, stateDirectory, fuzzy: false, isNamed }),
  };
}

/** Opened for writing until the test ends: somebody uses the image. */
export async function useImage(t: ExecutionContext, { image }: CloningDisk): Promise<FileHandle> {
  const handle = await open(image, 'r+');
  t.teardown(() => handle.close().catch(() => undefined));
  return handle;
}

export type Can = Extract<Probe, { possible: true }>;

export async function can(probe: Promise<Probe>): Promise<Can> {
  const answer = await probe;
  if (!answer.possible) throw answer.refusal;
  return answer;
}

export async function cutOf(member: Member) {
  await member.close({ closedMs: 10_000 });
  return member.cut();
}
