/**
 * Removes packs that ended sessions left and nobody needs: those of partial sets whose time is over, if no
 * point needs one of their blocks and no open capture relies on one. A pack that is needed in part stays
 * whole. Only one collection runs at a time.
 *
 * 1. Points' trees and captures' leaves are walked, which may take long; everything else goes on meanwhile.
 * 2. In one turn of the event loop it is seen that nothing came between: points that were not walked,
 *    packs that captures rely on since, records that moved to other packs. Then the packs that are
 *    left are taken out of the index's memory: from here on nobody finds a block in them, and what
 *    comes again is stored again.
 * 3. Each leaves the index on disk, then packs/; then the record goes. Whatever ends this in the middle, the
 *    record is still there at the next opening, and the pack is indexed again or gone.
 */
import { StillpointError } from '../../domain/base/errors.js';
import type { StoreContext } from '../capture/context.js';
import type { PartialRecord } from '../capture/partial-sets.js';
import { packKey } from '../disk/layout.js';
import { readPackEntries } from '../packs/contents.js';
import { type NeedContext, spareForPoints, visitLeaves } from './needed-packs.js';

/** A capture as a collection sees it. */
export interface PinningCapture {
  readonly description: { readonly sessionId: string };
  /** Packs that it made or relies on, as far as it knows since it is in memory. */
  pinnedPackIds(): Iterable<string>;
  /** The leaves of its durable batches, in pieces. */
  durableLeaves(): AsyncIterable<Buffer>;
}

export interface CollectorOptions {
  readonly context: StoreContext;
  readonly captures: () => readonly PinningCapture[];
  readonly isStopped: () => boolean;
}

export class Collector {
  readonly #options: CollectorOptions;
  #running: Promise<void> | null = null;
  #removing: Promise<void> | null = null;
  #hinderCount = 0;

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /** What can't be done now is done the next time; why is in the log. */
  collect(): Promise<void> {
    this.#running ??= this.#collect()
      .catch((error) => {
        if (!this.#options.isStopped())
          this.#options.context.log(`partial sets are not collected: ${String(error)}`);
      })
      .finally(() => {
        this.#running = null;
      });
    return this.#running;
  }

  /** No pack vanishes during this work, which is short. */
  async withoutRemoval<T>(work: () => Promise<T>): Promise<T> {
    this.#hinderCount += 1;
    try {
      while (this.#removing !== null) await this.#removing;
      return await work();
    } finally {
      this.#hinderCount -= 1;
    }
  }

  async #collect(): Promise<void> {
    const { context } = this.#options;
    const { partials, index, now } = context;
    const due = partials.due(now());
    if (due.length === 0) return;
    if (index.hasUnhealed()) throw putOff('the store has damage that is not healed, and any pack may help');
    if (context.catalog.hasUnreadable)
      throw putOff("a manifest can't be read, and its point may need any pack");
    const candidates = new Set<number>();
    for (const { packIds } of due) {
      for (const packId of packIds) {
        const pack = index.packs().get(packId);
        if (pack !== undefined) candidates.add(pack.number);
      }
    }
    const moves = index.moveCount;
    const { pinned, walked } = await this.#walk(candidates);
    // From here to `condemn` nothing is awaited.
    if (candidates.size > 0 && context.catalog.all().some(({ id }) => !walked.has(id)))
      throw putOff('a point was committed at this moment');
    if (index.moveCount !== moves || context.records.isSearching || this.#hinderCount > 0)
      throw putOff('packs are being read or healed');
    for (const capture of this.#options.captures()) {
      for (const packId of capture.pinnedPackIds()) {
        const pack = index.packs().get(packId);
        if (pack !== undefined) pinned.add(pack.number);
      }
    }
    const isFree = (number: number) => candidates.has(number) && !pinned.has(number);
    const free = new Map<string, number>();
    const finished: PartialRecord[] = [];
    for (const record of due) {
      let isFinished = true;
      for (const packId of record.packIds) {
        const number = index.packs().get(packId)?.number;
        if (number !== undefined && isFree(number)) free.set(packId, number);
        if (number !== undefined && candidates.has(number) && pinned.has(number)) isFinished = false;
      }
      if (isFinished) finished.push(record);
    }
    index.condemn(free.keys());
    this.#removing = this.#remove(free, finished).finally(() => {
      this.#removing = null;
    });
    await this.#removing;
  }

  /** Takes out of `candidates` what points need. @returns what captures need, and the points */
  async #walk(candidates: Set<number>): Promise<{ pinned: Set<number>; walked: ReadonlySet<string> }> {
    const { context, captures } = this.#options;
    const { index, records, catalog } = context;
    const need: NeedContext = { index, records, catalog, checkStopped: () => this.#checkStopped() };
    const pinned = new Set<number>();
    if (candidates.size > 0) {
      for (const capture of captures()) {
        const label = `session ${capture.description.sessionId}`;
        for await (const leaves of capture.durableLeaves()) {
          await visitLeaves(need, leaves, label, (packNumber) => pinned.add(packNumber));
          this.#checkStopped();
        }
      }
    }
    const walked = new Set<string>();
    for (;;) {
      const points = catalog.all().filter(({ id }) => !walked.has(id));
      if (points.length === 0 || candidates.size === 0) return { pinned, walked };
      await spareForPoints(need, points, candidates);
      for (const { id } of points) walked.add(id);
    }
  }

  async #remove(packs: ReadonlyMap<string, number>, finished: readonly PartialRecord[]): Promise<void> {
    const { index, objects, partials, digester, log } = this.#options.context;
    for (const [packId, number] of packs) {
      const { entries } = await readPackEntries(objects, packId, digester);
      await index.removePack(packId, number, entries);
      await objects.delete(packKey(packId));
    }
    for (const { sessionId, agent, device, packIds } of finished) {
      // One that the index does not know, although it is there, is indexed at the next
      // opening, and then looked at.
      if (await this.#isAnyUnknown(packIds)) continue;
      await partials.remove(sessionId);
      log(`partial set of session ${sessionId} of ${agent}/${device} is collected`);
    }
  }

  async #isAnyUnknown(packIds: readonly string[]): Promise<boolean> {
    const { index, objects } = this.#options.context;
    for (const packId of packIds) {
      if (!index.hasPack(packId) && (await objects.size(packKey(packId))) !== null) return true;
    }
    return false;
  }

  #checkStopped(): void {
    if (this.#options.isStopped()) throw putOff('the store is being closed');
  }
}

function putOff(reason: string): StillpointError {
  return new StillpointError('busy', { thing: 'collection', reason, permanent: false });
}
