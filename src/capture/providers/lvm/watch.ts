/**
 * Watches a snapshot while it is read. A thick one grows as its policy allows, and overflows otherwise, which
 * harms nobody but the backup. A thin one is given up before the pool is full: then all volumes of the pool
 * would stand still.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../../domain/base/errors.js';
import { growthOf, poolTrouble, type ThickRoom } from '../../../domain/volume/room.js';
import type { LvmHost } from './host.js';
import { poolStatus, type StoreStatus, thickStatus, thinTrouble } from './status.js';
import { readVolume, type Volume, type VolumeState } from './volumes.js';

/** A second at the speed of a fast disk is a few percent of a small snapshot. */
const PAUSE_MS = 1_000;

export interface Watched {
  readonly host: LvmHost;
  readonly state: VolumeState;
  readonly uuid: { readonly group: string; readonly volume: string };
  readonly snapshot: Volume;
  /** Null: a thin one. */
  readonly room: ThickRoom | null;
}

export class SnapshotWatch {
  readonly #watched: Watched;
  readonly #over = new AbortController();
  readonly #done: Promise<void>;
  #lost: StillpointError | null = null;

  /** @param giveUp ends reading; called once at most. */
  constructor(watched: Watched, giveUp: () => Promise<void>) {
    this.#watched = watched;
    this.#done = this.#run(giveUp);
  }

  /** Never rejects. */
  async stop(): Promise<void> {
    this.#over.abort();
    await this.#done;
  }

  /** Why what was read until now is not of the instant; null: it is. */
  async whyLost(): Promise<StillpointError | null> {
    const { host, snapshot } = this.#watched;
    const found = await this.#look().catch((error: Error) =>
      lost(snapshot.path, error.message, 'See what "lvs -a" says of it.'),
    );
    if (found instanceof StillpointError) this.#lost ??= found;
    if (this.#lost !== null || snapshot.thin === null) return this.#lost;
    const word = await thinTrouble(host, snapshot.devicePath).catch((error: Error) => error.message);
    if (word !== null)
      this.#lost = lost(snapshot.path, `device mapper says "${word}"`, 'See the kernel log.');
    return this.#lost;
  }

  async #run(giveUp: () => Promise<void>): Promise<void> {
    for (;;) {
      await sleep(PAUSE_MS, undefined, { signal: this.#over.signal }).catch(() => undefined);
      if (this.#over.signal.aborted) return;
      try {
        const found = await this.#look();
        if (found instanceof StillpointError) this.#lost ??= found;
        else if (found !== null) await this.#grow(found);
      } catch {
        // LVM is busy: the next round, or the end, sees.
        continue;
      }
      if (this.#lost === null) continue;
      await giveUp().catch(() => undefined);
      return;
    }
  }

  /** @returns how full a thick one is; or why it is lost. */
  async #look(): Promise<StoreStatus | StillpointError | null> {
    const { host, state, snapshot } = this.#watched;
    if (snapshot.thin === null) {
      const status = await thickStatus(host, snapshot.devicePath);
      return typeof status === 'string' ? overflown(state.volume, snapshot, status) : status;
    }
    if (state.pool === null) return null;
    const status = await poolStatus(host, state.pool.devicePath, state.pool.sizeBytes);
    const remedy = 'Extend the pool, or remove volumes from it.';
    if (typeof status === 'string') return lost(snapshot.path, `its pool does not work: ${status}`, remedy);
    const trouble = poolTrouble(status, 'held');
    return trouble === null ? null : lost(snapshot.path, `it was given up: ${trouble}`, remedy);
  }

  async #grow(status: StoreStatus): Promise<void> {
    const { host, uuid, snapshot, room } = this.#watched;
    if (room === null || growthOf(status, UNBOUNDED, room) === 0) return;
    const { group } = await readVolume(host, uuid);
    const bytes = growthOf(status, group, room);
    if (bytes > 0) await host.run('lvextend', ['-y', '-L', `+${bytes}b`, snapshot.path]);
  }
}

/** To ask the policy only. */
const UNBOUNDED = { freeBytes: Number.MAX_SAFE_INTEGER, extentBytes: 1 };

function overflown(volume: Volume, snapshot: Volume, word: string): StillpointError {
  if (word !== 'Invalid' && word !== 'Overflow')
    return lost(snapshot.path, `device mapper says "${word}"`, 'See the kernel log.');
  return lost(
    snapshot.path,
    'more was written to the volume than the snapshot had room for',
    `Make room in the group, let it have more ("lvchange --addtag stillpoint-max=80 ${volume.path}"), or back up when less is written.`,
  );
}

function lost(path: string, reason: string, remedy: string): StillpointError {
  return new StillpointError('snapshot-lost', {
    thing: `snapshot ${path}`,
    reason,
    remedy,
    permanent: false,
  });
}
