/**
 * From which snapshot changes count, as `Tracking` has it. After a commit the session's snapshot takes the
 * place of the one that was kept before; a crash in between leaves both, of which the next session takes the
 * one of its base.
 */
import type { BlockRange } from '../../../domain/blocks/block-ranges.js';
import { poolCarries } from '../../../domain/volume/room.js';
import { extraTags } from '../../../domain/volume/snapshot-tags.js';
import type { TrackedChanges, Tracking } from '../../ports.js';
import type { Held } from './held.js';
import { keepSnapshot, removeSnapshot } from './snapshots.js';
import { poolStatus } from './status.js';

export class LvmTracking implements Tracking {
  readonly changes: TrackedChanges | null;
  readonly reason: string;
  readonly #held: Held;
  readonly #snapshotPath: string;
  readonly #close: (isKept: boolean) => Promise<void>;

  /** @param close ends reading; kept, the snapshot outlives its session. */
  constructor(
    held: Held,
    snapshotPath: string,
    known: Pick<Tracking, 'changes' | 'reason'>,
    close: (isKept: boolean) => Promise<void>,
  ) {
    this.#held = held;
    this.#snapshotPath = snapshotPath;
    this.changes = known.changes;
    this.reason = known.reason;
    this.#close = close;
  }

  knows(pointId: string): boolean {
    return this.#held.inherited.kept.some(({ id }) => id === pointId);
  }

  committed(): Promise<void> {
    return this.#keepAs(this.#held.options.sessionId, []);
  }

  async adopt(pointId: string, ranges: readonly BlockRange[], complete: boolean): Promise<void> {
    const { blockSize } = this.#held.options;
    const { sizeBytes } = this.#held.state.volume;
    const inBytes = ranges.map(
      ([start, end]): BlockRange => [start * blockSize, Math.min(end * blockSize, sizeBytes)],
    );
    const known = this.#held.inherited.kept.find(({ id }) => id === pointId);
    const tags = extraTags([...(complete ? [] : (known?.extra ?? [])), ...inBytes]);
    if (complete) {
      // Too many differences for tags: without a kept snapshot everything is read, and nothing missed.
      if (tags === null) await this.#removeKept();
      else await this.#keepAs(pointId, tags);
      return;
    }
    if (known === undefined) throw new Error(`no snapshot is kept of point ${pointId}`);
    if (tags === null) await removeSnapshot(this.#held.source.host, known.volume.path);
    else if (tags.length > 0) {
      const args = tags.flatMap((tag) => ['--addtag', tag]);
      await this.#held.source.host.run('lvchange', ['-y', ...args, known.volume.path]);
    }
  }

  async #keepAs(pointId: string, extra: readonly string[]): Promise<void> {
    const { source, state, options } = this.#held;
    const keeps = await this.#isAffordable();
    await this.#close(keeps);
    if (keeps) {
      const { sessionId } = options;
      const isThin = state.volume.thin !== null;
      await keepSnapshot(source.host, this.#snapshotPath, isThin, { sessionId, pointId, extra });
    }
    await this.#removeKept();
  }

  async #removeKept(): Promise<void> {
    const { source, inherited } = this.#held;
    for (const { volume } of inherited.kept) await removeSnapshot(source.host, volume.path);
  }

  async #isAffordable(): Promise<boolean> {
    const { source, state } = this.#held;
    const { volume, pool, policy } = state;
    if (pool === null || policy.keeps === true) return true;
    const status = await poolStatus(source.host, pool.devicePath, pool.sizeBytes);
    if (typeof status === 'string') return false;
    return poolCarries(status, (volume.sizeBytes * volume.dataPercent) / 100);
  }
}
