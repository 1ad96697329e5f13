/**
 * Frees what nobody needs: mark and sweep, beside running sessions and readers. One collection at a time.
 *
 * 1. Begin, in one turn of the event loop: packs that open sessions made or rely on, and those of partial
 *    sets that are kept, are pinned; so is every pack that a session comes to rely on from now on
 *    (PackPins). Packs that are made from now on are not looked at.
 * 2. Mark: all that points' trees and the leaves of open sessions name goes into a LiveSet. Points count by
 *    their manifests on disk, too: a commit that failed at its last step may have made one.
 * 3. Look: of each pack, what is needed and found there.
 * 4. Sweep: packs without anything needed go. Of packs that are needed in part, the needed records are
 *    written to a new pack, which is published and indexed; then they go.
 *
 * How a pack goes (docs/format.md section 6): it is seen in one turn of the event loop that nobody relies on
 * it, and it is taken out of the index's memory, so that nobody finds a record there any more. When the reads
 * that had found one have ended, it leaves the index on disk, then packs/. Killed in between, the pack is
 * indexed again at the next opening, or is gone.
 *
 * Why nothing is lost: a point that is committed during the collection consists of its base, which is a point
 * itself; of records in packs that are new; and of records in packs that its session pinned. A session that
 * is open at the beginning had its leaves marked, or is a point that was.
 *
 * A collection that ends early has freed what it has freed. The next one marks again.
 */
import { StillpointError } from '../../domain/base/errors.js';
import type { StoreContext } from '../capture/context.js';
import type { PartialRecord } from '../capture/partial-sets.js';
import { isFull } from '../disk/disk.js';
import { packKey } from '../disk/layout.js';
import { Mutex } from '../disk/mutex.js';
import { lockForRemoval, type ReadersLock } from '../disk/readers.js';
import { type CollectOptions, type CollectReport, NOTHING_COLLECTED } from '../port/store.js';
import { LiveSet } from './live-set.js';
import { markLive, type PinningCapture } from './mark.js';
import { RemovalGate } from './removal-gate.js';
import { type Emptied, type EmptiedGroup, Rewriter } from './rewriter.js';
import { Sweep } from './sweep.js';
import { uncertainPoints } from './uncertain.js';
import { chooseVictims, freeableBytes, type PackStanding } from './victims.js';

export interface CollectedCapture extends PinningCapture {
  readonly description: { readonly sessionId: string };
  /** Relies on this pack, too. */
  pin(packId: string): void;
}

export interface CollectorOptions {
  readonly context: StoreContext;
  readonly captures: () => readonly CollectedCapture[];
  readonly isStopped: () => boolean;
}

/** What one collection has to do, and did. */
interface Run {
  readonly sweep: Sweep;
  readonly paced: (bytes: number) => Promise<void>;
  /** Of the index, before the packs were looked at. */
  readonly moveCount: number;
  removedPacks: number;
  freedBytes: number;
  rewrittenPacks: number;
  keptPacks: number;
}

const PACKS_PER_REMOVAL = 16;

export class Collector {
  readonly #options: CollectorOptions;
  readonly #gate = new RemovalGate();
  readonly #turns = new Mutex();

  constructor(options: CollectorOptions) {
    this.#options = options;
  }

  /**
   * After those that were asked for before. Does not reject: what can't be done now is done the next time;
   * the report says why.
   */
  collect(options: CollectOptions = {}): Promise<CollectReport> {
    return this.#turns.run(() => this.#collect(options));
  }

  /** No pack vanishes during this work, which is short. */
  withoutRemoval<T>(work: () => Promise<T>): Promise<T> {
    return this.#gate.shared(work);
  }

  async #collect(options: CollectOptions): Promise<CollectReport> {
    const { context, isStopped } = this.#options;
    const { partials, index, now, pins, log } = context;
    const due = partials.due(now());
    const report = newReport(index.packs());
    if (!options.force && due.length === 0 && !index.mayHaveGarbage) return report;
    const startMs = performance.now();
    try {
      return await this.#run(options, due, report);
    } catch (error) {
      report.state = 'put-off';
      report.reason = error instanceof Error ? error.message : String(error);
      if (!isStopped()) log(`what nobody needs is not collected: ${report.reason}`);
      return report;
    } finally {
      pins.end();
      report.durationMs = performance.now() - startMs;
    }
  }

  async #run(
    { pace, dryRun = false }: CollectOptions,
    due: readonly PartialRecord[],
    report: Draft,
  ): Promise<CollectReport> {
    const { context } = this.#options;
    const { index, catalog, partials, packBytesTarget, log } = context;
    this.#checkStopped();
    const { garbageCount } = index;
    const dueIds = new Set(due.map(({ sessionId }) => sessionId));
    const captures = this.#begin(dueIds);
    const numberEnd = index.nextPackNumber;
    const paced = async (bytes: number) => {
      this.#checkStopped();
      await pace?.(bytes);
    };
    const live = new LiveSet(index.recordCount);
    const uncertain = () => uncertainPoints(context.objects, catalog);
    await markLive({ ...context, paced }, captures, uncertain, live);
    const sweep = new Sweep(context, live);
    const { moveCount } = index;
    const packs = await this.#look(sweep, numberEnd, paced);
    const victims = chooseVictims(packs, packBytesTarget);
    report.deadBytes = packs.reduce((sum, { sizeBytes, liveBytes }) => sum + sizeBytes - liveBytes, 0);
    report.freeableBytes = freeableBytes(victims);
    report.state = 'done';
    if (dryRun) return report;
    const none = { removedPacks: 0, freedBytes: 0, rewrittenPacks: 0, keptPacks: 0 };
    const run: Run = { sweep, paced, moveCount, ...none };
    try {
      // Nothing is written anew while what it is to replace can't go.
      await (await this.#lockOut()).release();
      await this.#removeDead(run, victims.dead);
      await this.#rewrite(run, victims.rewritten);
      await this.#endPartialSets(due, packs);
    } finally {
      const { removedPacks, freedBytes, rewrittenPacks, keptPacks } = run;
      // One with remains of a lost record stays until that is healed: to look again finds the same.
      const heldPacks = packs.filter((pack) => pack.isPinned && pack.liveBytes < pack.sizeBytes).length;
      Object.assign(report, { removedPacks, freedBytes, rewrittenPacks, keptPacks: keptPacks + heldPacks });
    }
    if (report.keptPacks === 0) {
      await partials.removeDamaged();
      await index.noteCollected(garbageCount);
    }
    if (run.removedPacks > 0) {
      log(
        `collected: ${run.removedPacks} packs are gone, ${run.rewrittenPacks} of them written anew in part, ${run.freedBytes} bytes are free`,
      );
    }
    return report;
  }

  /** In one turn of the event loop. @returns the captures that are open now */
  #begin(dueIds: ReadonlySet<string>): readonly CollectedCapture[] {
    const { context, captures } = this.#options;
    const open = captures();
    const kept = context.partials.all().filter(({ sessionId }) => !dueIds.has(sessionId));
    context.pins.begin([
      ...open.flatMap((capture) => [...capture.pinnedPackIds()]),
      ...kept.flatMap(({ packIds }) => packIds),
    ]);
    return open;
  }

  /** @param numberEnd of the first pack that is not looked at */
  async #look(sweep: Sweep, numberEnd: number, paced: Run['paced']): Promise<PackStanding[]> {
    const { index, pins } = this.#options.context;
    const standings: PackStanding[] = [];
    for (const [packId, { number }] of [...index.packs()]) {
      if (number >= numberEnd) continue;
      const standing = await sweep.look(packId, pins.has(packId));
      if (standing !== null) standings.push(standing);
      await paced(0);
    }
    return standings;
  }

  async #removeDead(run: Run, dead: readonly PackStanding[]): Promise<void> {
    for (let at = 0; at < dead.length; at += PACKS_PER_REMOVAL) {
      const sources: Emptied[] = [];
      for (const pack of dead.slice(at, at + PACKS_PER_REMOVAL)) {
        const { entries } = await run.sweep.entriesOf(pack.packId);
        sources.push({ pack, entries });
        await run.paced(entries.length);
      }
      await this.#remove(run, { sources, packId: null });
    }
  }

  async #rewrite(run: Run, packs: readonly PackStanding[]): Promise<void> {
    const { context } = this.#options;
    for (const kind of new Set(packs.map((pack) => pack.kind))) {
      const rewriter = new Rewriter(context, run.sweep, kind, run.paced);
      try {
        for (const pack of packs.filter((candidate) => candidate.kind === kind)) {
          if (!(await rewriter.hasRoomFor(pack))) await this.#replace(run, await rewriter.finish());
          const isPossible = !context.pins.has(pack.packId) && (await rewriter.hasRoomFor(pack));
          if (!(isPossible && (await rewriter.take(pack)))) run.keptPacks += 1;
          if (rewriter.isFull) await this.#replace(run, await rewriter.finish());
        }
        await this.#replace(run, await rewriter.finish());
      } catch (error) {
        await rewriter.abandon();
        throw error;
      }
    }
  }

  async #replace(run: Run, group: EmptiedGroup | null): Promise<void> {
    if (group === null) return;
    run.freedBytes -= group.sizeBytes;
    run.rewrittenPacks += await this.#remove(run, group);
  }

  /** @returns how many are gone */
  async #remove(
    run: Run,
    { sources, packId }: { readonly sources: readonly Emptied[]; readonly packId: string | null },
  ): Promise<number> {
    const { context } = this.#options;
    return this.#gate.exclusive(async () => {
      const lock = await this.#lockOut();
      try {
        const free = this.#condemn(run, sources, packId);
        await context.records.settled();
        // Nobody finds them any more, so each is tried. One that stays is found at the next opening.
        const failures: unknown[] = [];
        for (const { pack, entries } of free) {
          try {
            await this.#removePack(pack, entries);
            run.removedPacks += 1;
            run.freedBytes += pack.sizeBytes;
          } catch (error) {
            failures.push(error);
          }
        }
        if (failures.length > 0) throw failures[0];
        return free.length;
      } finally {
        await lock.release();
      }
    });
  }

  async #lockOut(): Promise<ReadersLock> {
    const lock = await lockForRemoval(this.#options.context.dir);
    if (lock === null) throw putOff('a command reads the store');
    return lock;
  }

  /** In one turn of the event loop: the last look, and from here on nobody finds a record in them. */
  #condemn(run: Run, sources: readonly Emptied[], successor: string | null): readonly Emptied[] {
    const { index, records, pins } = this.#options.context;
    if (records.isSearching)
      throw putOff('other copies of damaged records are being looked for in all packs');
    // Only a record that was moved to another copy can be found in one of them again.
    const isMoved = index.moveCount !== run.moveCount;
    const free = sources.filter(
      ({ pack, entries }) => !pins.has(pack.packId) && !(isMoved && run.sweep.isNeeded(pack.number, entries)),
    );
    for (const source of sources) {
      if (free.includes(source)) continue;
      run.keptPacks += 1;
      if (successor !== null) this.#pinSuccessor(source.pack.packId, successor);
    }
    index.condemn(free.map(({ pack }) => pack.packId));
    return free;
  }

  /** What a session relies on in a pack is found in another one now. */
  #pinSuccessor(packId: string, successor: string): void {
    for (const capture of this.#options.captures()) {
      if ([...capture.pinnedPackIds()].includes(packId)) capture.pin(successor);
    }
    this.#options.context.pins.note(successor);
  }

  async #removePack({ packId, number }: PackStanding, entries: Buffer): Promise<void> {
    const { index, objects } = this.#options.context;
    try {
      await index.removePack(packId, number, entries);
    } catch (error) {
      if (!isFull(error)) throw error;
      // On a full disk the pack makes the room. Killed here, the index is made again at the next opening.
      await objects.delete(packKey(packId));
      await index.removePack(packId, number, entries);
    }
    await objects.delete(packKey(packId));
  }

  /** Those that have nothing left but what others need. */
  async #endPartialSets(due: readonly PartialRecord[], packs: readonly PackStanding[]): Promise<void> {
    const { partials, pins, log } = this.#options.context;
    const kept = new Set(packs.filter(({ isKept }) => isKept).map(({ packId }) => packId));
    for (const { sessionId, agent, device, packIds } of due) {
      if (packIds.some((packId) => pins.has(packId) || kept.has(packId))) continue;
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

type Draft = { -readonly [K in keyof CollectReport]: CollectReport[K] };

function newReport(packs: ReadonlyMap<string, { readonly sizeBytes: number }>): Draft {
  let storedBytes = 0;
  for (const { sizeBytes } of packs.values()) storedBytes += sizeBytes;
  return { ...NOTHING_COLLECTED, packCount: packs.size, storedBytes };
}

function putOff(reason: string): StillpointError {
  return new StillpointError('busy', { thing: 'collection', reason, permanent: false });
}
