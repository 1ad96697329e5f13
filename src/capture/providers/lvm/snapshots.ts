/** Taking, keeping and removing snapshots of ours. */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../../domain/base/errors.js';
import { poolTrouble, type ThickRoom, thickRoom } from '../../../domain/volume/room.js';
import { keptTags, sessionTags, snapshotName } from '../../../domain/volume/snapshot-tags.js';
import { releaseMetadata } from './changes.js';
import { CommandError, type LvmHost, type RunOptions } from './host.js';
import { poolStatus, thickStatus } from './status.js';
import { type Obstacle, type OurSnapshot, obstacleOf, type VolumeState } from './volumes.js';

/** Null: a thin one, which takes what it needs of its pool. */
export type Room = ThickRoom | null;

/** @returns what stands against a snapshot of this volume, by all that can be known without taking one. */
export async function roomFor(host: LvmHost, state: VolumeState): Promise<Room | Obstacle> {
  const obstacle = obstacleOf(state);
  if (obstacle !== null) return obstacle;
  const { volume, group, pool, policy } = state;
  if (pool !== null) {
    const status = await poolStatus(host, pool.devicePath, pool.sizeBytes);
    const reason =
      typeof status === 'string' ? `its pool does not work: ${status}` : poolTrouble(status, 'taken');
    return reason === null ? null : { reason, remedy: 'Extend the pool, or remove volumes from it.' };
  }
  const room = thickRoom(volume.sizeBytes, group, policy);
  if (typeof room !== 'string') return room;
  return {
    reason: room,
    remedy: `Add a disk to the group ${group.name}, or let a snapshot start with less ("lvchange --addtag stillpoint-start=1 ${volume.path}").`,
  };
}

export const isObstacle = (room: Room | Obstacle): room is Obstacle => room !== null && 'reason' in room;

function createArgs(state: VolumeState, room: Room, name: string, tags: readonly string[]): string[] {
  const how =
    room === null
      ? // Thin ones are not made active at boot; this one is, now.
        ['-ky', '-K', '-ay']
      : // It grows by our policy, not by that of dmeventd.
        ['-L', `${room.startBytes}b`, '--ignoremonitoring'];
  const tagged = tags.flatMap((tag) => ['--addtag', tag]);
  return ['-y', '-s', '-pr', ...how, '-n', name, ...tagged, state.volume.path];
}

/** LVM's own word: of cached, mirrored and other volumes it knows best. */
export async function tryWithout(host: LvmHost, state: VolumeState, room: Room): Promise<void> {
  await host.run('lvcreate', ['--test', ...createArgs(state, room, snapshotName('0'.repeat(32)), [])]);
}

/**
 * The instant. Its name is free for removal, whatever becomes of it.
 * @throws CommandError
 */
export async function takeSnapshot(
  host: LvmHost,
  state: VolumeState,
  room: Room,
  { sessionId, isMapping }: { readonly sessionId: string; readonly isMapping: boolean },
  options: RunOptions = {},
): Promise<void> {
  const tags = sessionTags(sessionId, state.volume.sizeBytes, isMapping);
  await host.run('lvcreate', createArgs(state, room, snapshotName(sessionId), tags), options);
}

const TRIES = 3;
const PAUSE_MS = 500;

/** @param path GROUP/NAME. Harmless where there is none. @throws CommandError */
export async function removeSnapshot(host: LvmHost, path: string): Promise<void> {
  for (let tries = 1; ; tries += 1) {
    try {
      await host.run('lvremove', ['-y', path]);
      return;
    } catch (error) {
      if (!(error instanceof CommandError)) throw error;
      if (/failed to find logical volume/i.test(error.message)) return;
      if (tries === TRIES) throw error;
      // Programs that look at each device hold it for a moment.
      await sleep(PAUSE_MS);
    }
  }
}

/** It is the one from which changes count. A thin one needs no device for that. */
export async function keepSnapshot(
  host: LvmHost,
  path: string,
  isThin: boolean,
  { sessionId, pointId, extra }: { sessionId: string; pointId: string; extra: readonly string[] },
): Promise<void> {
  const { removed } = keptTags(sessionId);
  const { added } = keptTags(pointId);
  const args = [
    ...removed.flatMap((tag) => ['--deltag', tag]),
    ...[...added, ...extra].flatMap((tag) => ['--addtag', tag]),
  ];
  await host.run('lvchange', ['-y', ...args, path]);
  if (isThin) await host.run('lvchange', ['-y', '-an', path]);
}

/** Why differences from this snapshot are not known, a clause; null: they can be. */
export async function uselessness(
  host: LvmHost,
  state: VolumeState,
  kept: OurSnapshot,
): Promise<string | null> {
  if (kept.sizeBytes !== state.volume.sizeBytes) return 'the volume has another size than at the last point';
  const isThin = state.volume.thin !== null;
  if (isThin !== (kept.volume.thin !== null)) return 'the kept snapshot is of another kind of volume';
  if (isThin) return null;
  const status = await thickStatus(host, kept.volume.devicePath);
  if (kept.volume.isInvalid || status === 'Invalid' || status === 'Overflow')
    return 'more was written since the last point than the kept snapshot had room for';
  return typeof status === 'string' ? `of the kept snapshot device mapper says "${status}"` : null;
}

export interface Inherited {
  /** From whose point the differences count; null: they are not known. */
  readonly base: OurSnapshot | null;
  /** A clause: why, or why not. */
  readonly reason: string;
  readonly kept: readonly OurSnapshot[];
}

export interface Wish {
  readonly basePointId: string | null;
  readonly full: boolean;
  readonly doubt: string | null;
}

/**
 * Sorts out what earlier sessions left of this volume, whose lock is held: snapshots of dead sessions and
 * those that are of no use are removed.
 */
export async function inherit(
  host: LvmHost,
  state: VolumeState,
  keeps: boolean,
  wish: Wish,
): Promise<Inherited> {
  const { pool } = state;
  const isDead = ({ isKept, id }: OurSnapshot): boolean => !isKept && id !== wish.basePointId;
  // Of one whose session died while it read the metadata of the pool.
  if (pool !== null && state.ours.some(({ isKept, isMapping }) => !isKept && isMapping))
    await releaseMetadata(host, pool);
  const kept: OurSnapshot[] = [];
  let why: string | null = null;
  for (const one of state.ours) {
    const trouble = await troubleOf(host, state, one, keeps, wish.doubt);
    if (!isDead(one) && trouble === null) {
      kept.push(one);
      continue;
    }
    if (one.id === wish.basePointId) why = trouble;
    await removeSnapshot(host, one.volume.path);
  }
  const base = kept.find(({ id }) => id === wish.basePointId) ?? null;
  if (wish.doubt !== null) return { base: null, reason: wish.doubt, kept };
  if (wish.full) return { base: null, reason: 'everything was asked for', kept };
  if (base !== null) return { base, reason: 'the snapshot of the last point was kept', kept };
  return { base, reason: why ?? whyNone(wish.basePointId, state, kept), kept };
}

async function troubleOf(
  host: LvmHost,
  state: VolumeState,
  one: OurSnapshot,
  keeps: boolean,
  doubt: string | null,
): Promise<string | null> {
  if (doubt !== null) return doubt;
  return keeps ? uselessness(host, state, one) : 'no snapshot is to be kept of this volume';
}

function whyNone(basePointId: string | null, { volume }: VolumeState, kept: readonly OurSnapshot[]): string {
  if (basePointId === null) return 'there is no last point yet';
  if (kept.length > 0) return 'the snapshot that was kept is of another point';
  return volume.thin === null
    ? 'no snapshot of the last point was kept'
    : 'no snapshot of the last point was kept; its pool may have had too little room';
}

export function lvmError(thing: string, error: unknown): unknown {
  if (!(error instanceof CommandError)) return error;
  return new StillpointError('device-io', {
    thing,
    reason: error.message,
    remedy: 'See what "lvs -a" says of it; "--provider" takes another way.',
    permanent: false,
    cause: error,
  });
}
