/** Which file systems on the devices of an instant are to be frozen, in which order, and which can't be. */
import { StillpointError } from '../../domain/base/errors.js';
import { type Filesystem, filesystemNumberOf, filesystemsAt, findFilesystems } from './mounts.js';

/** Mount points: these, by the user's word that they lie on the devices. */
export type FreezeWish = 'auto' | 'none' | readonly string[];

/** What a plan is made for. */
export interface PlanDevice {
  /** As its user names it. */
  readonly path: string;
  /** Where it and its content are found; empty: nothing is frozen. */
  readonly shownAt: readonly string[];
  /** Its instant writes there. */
  readonly writesBeside?: string | undefined;
}

export interface FreezePlan {
  readonly targets: readonly Filesystem[];
  /** Of writable file systems that will not be frozen. */
  readonly warnings: readonly string[];
  /** Of each device: the numbers of the file systems that lie on it. */
  readonly onDevices: readonly ReadonlySet<string>[];
}

export const NOTHING_TO_FREEZE: FreezePlan = { targets: [], warnings: [], onDevices: [] };

/** @throws StillpointError `usage` */
export async function planOf(wish: FreezeWish, devices: readonly PlanDevice[]): Promise<FreezePlan> {
  const plan = await findPlan(wish, devices);
  for (const { path, writesBeside } of devices) {
    if (writesBeside === undefined || plan.targets.length === 0) continue;
    const below = await filesystemNumberOf(writesBeside);
    const frozen = plan.targets.find(({ number }) => number === below);
    if (frozen === undefined) continue;
    throw new StillpointError('usage', {
      thing: frozen.path,
      reason: `it can't be frozen: what takes the instant of ${path} writes to it`,
      remedy: `Freeze only what lies in ${path}, or use another provider for ${path}.`,
    });
  }
  return plan;
}

async function findPlan(wish: FreezeWish, devices: readonly PlanDevice[]): Promise<FreezePlan> {
  const shownAt = devices.flatMap((device) => device.shownAt);
  if (wish === 'none' || shownAt.length === 0) return NOTHING_TO_FREEZE;
  const { filesystems } = await findFilesystems(shownAt);
  const writable = filesystems.filter((filesystem) => !filesystem.readOnly);
  const found = await Promise.all(devices.map(async (device) => numbersOn(device.shownAt)));
  if (wish === 'auto') return { ...split(writable, 'other mounts hide it'), onDevices: found };
  const named = await filesystemsAt(wish);
  const missing = wish.filter((_, index) => named[index] === null);
  if (missing.length > 0) {
    throw new StillpointError('usage', {
      thing: missing.join(', '),
      reason: 'no file system is mounted there',
      remedy: 'Use mount points; "findmnt" lists them.',
    });
  }
  const wanted = new Map(
    named.flatMap((one) => (one === null || one.readOnly ? [] : [[one.number, one] as const])),
  );
  // In the order of stacking, as far as that is known.
  const known = new Set(writable.map(({ number }) => number));
  const unknown = [...wanted.values()].filter(({ number }) => !known.has(number));
  const chosen = writable.map((one) => wanted.get(one.number) ?? { ...one, mount: null });
  // On which device the others lie is the user's word, too.
  const byWord = unknown.map(({ number }) => number);
  const onDevices = found.map((numbers) => new Set([...numbers, ...byWord]));
  return { ...split([...unknown, ...chosen], 'it was not named'), onDevices };
}

async function numbersOn(shownAt: readonly string[]): Promise<ReadonlySet<string>> {
  const { filesystems } = shownAt.length === 0 ? { filesystems: [] } : await findFilesystems(shownAt);
  return new Set(filesystems.map(({ number }) => number));
}

function split(filesystems: readonly Filesystem[], why: string): Omit<FreezePlan, 'onDevices'> {
  return {
    targets: filesystems.filter(({ mount }) => mount !== null),
    warnings: filesystems
      .filter(({ mount }) => mount === null)
      .map(({ path }) => `${path} was not frozen: ${why}`),
  };
}
