/**
 * Scrubs of a store by its owner, and what they found.
 *
 * State: the book (scrub-book.ts), which is written when its damage is in the index (`enterDamage`): before
 * that the index may know less; one scrub at a time; which points are damaged, for as long as neither points
 * nor damage change.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { LOCAL_AGENT } from '../../domain/base/names.js';
import { pointName } from '../../domain/point/point-ref.js';
import { coverageOf } from '../../domain/scrub/queue.js';
import type { VerifyEvent } from '../../domain/session/messages.js';
import type { Disk } from '../disk/disk.js';
import { roomFor } from '../disk/room.js';
import type { StoreIndex } from '../index/store-index.js';
import type { PointCatalog } from '../points/catalog.js';
import type { DamagedPoint } from '../port/store.js';
import type { DamageSummary, ScrubRequest, ScrubStatus, Upkeep } from '../port/upkeep.js';
import { DamageFinder, enterDamage } from './damaged-points.js';
import { scrub } from './scrub.js';
import type { ScrubBook } from './scrub-book.js';
import { ScrubPace } from './scrub-pace.js';
import type { VerifyContext } from './verify.js';

const POINTS_NAMED_MAX = 100;
const FILES_AGAIN_MS = 24 * 60 * 60 * 1000;

export interface UpkeepOptions extends Omit<VerifyContext, 'index' | 'label' | 'isThere' | 'onChecked'> {
  readonly index: StoreIndex;
  readonly catalog: PointCatalog;
  readonly book: ScrubBook;
  readonly disk: Disk;
  readonly dir: string;
  readonly now: () => Date;
  readonly withoutRemoval: <T>(work: () => Promise<T>) => Promise<T>;
  /** Sessions and restores are to go first. */
  readonly isBusy: () => boolean;
  /** Aborted when the store is being closed. */
  readonly closing: AbortSignal;
  /** A call that closing waits for. */
  readonly run: <T>(step: () => Promise<T>) => Promise<T>;
}

export class StoreUpkeep implements Upkeep {
  readonly #options: UpkeepOptions;
  #isRunning = false;
  #isEntered = false;
  #filesAtMs = Number.NEGATIVE_INFINITY;
  readonly #damaged: DamageFinder;

  constructor(options: UpkeepOptions) {
    this.#options = options;
    this.#damaged = new DamageFinder(options);
  }

  async *scrub(request: ScrubRequest): AsyncGenerator<VerifyEvent, void> {
    if (this.#isRunning) {
      throw new StillpointError('busy', {
        thing: 'the store',
        reason: 'another scrub of it is running',
        remedy: 'Wait until it has ended.',
        permanent: false,
      });
    }
    this.#isRunning = true;
    const events = this.#begin(request);
    try {
      for (;;) {
        const step = await this.#options.run(() => events.next());
        if (step.done === true) return;
        yield step.value;
      }
    } finally {
      // Where nobody wants the rest, what was read back is written down.
      await events.return();
      this.#isRunning = false;
    }
  }

  #begin(request: ScrubRequest): AsyncGenerator<VerifyEvent, void> {
    const { book, catalog, records, closing, isBusy, ...options } = this.#options;
    records.forgetLost();
    const signals = request.signal === undefined ? [closing] : [closing, request.signal];
    const isSlice = request.maxBytes !== undefined;
    const looksAtFiles =
      request.of === undefined && (!isSlice || performance.now() - this.#filesAtMs >= FILES_AGAIN_MS);
    if (looksAtFiles) this.#filesAtMs = performance.now();
    return scrub(
      {
        ...options,
        ...{ book, records, looksAtFiles },
        label: (point) => pointName(point, LOCAL_AGENT),
        pace: new ScrubPace({ rate: request.rate, isBusy, signal: AbortSignal.any(signals) }),
        isThere: (pointId) => catalog.byId(pointId) !== undefined,
        points: () => catalog.all(),
        noteDamage: () => this.noteDamage(),
      },
      request,
    );
  }

  /** At the opening, when all packs are in the index. */
  async enterDamage(): Promise<void> {
    const { book, index } = this.#options;
    await enterDamage(book, index);
    book.notice(index.packs());
    this.#isEntered = true;
  }

  /** True if there is damage that the book did not have. */
  noteDamage(): boolean {
    const { book, index } = this.#options;
    const packIds = new Map<number, string>();
    const bad = [...index.badPlaces()];
    if (bad.length > 0) for (const [packId, { number }] of index.packs()) packIds.set(number, packId);
    const found = bad.flatMap(({ packNumber, offset, digest, kind }) => {
      const packId = packIds.get(packNumber);
      return packId === undefined ? [] : [{ packId, offset, digest: digest.toString('hex'), kind }];
    });
    return book.setDamages(
      found,
      this.#openRecords().size,
      (digest, kind) => index.locate(Buffer.from(digest, 'hex'), kind) !== null,
    );
  }

  /** What is known when the store is closed. */
  async close(): Promise<void> {
    if (!this.#isEntered) return;
    const { book, index } = this.#options;
    book.notice(index.packs());
    this.noteDamage();
    await book.save({ now: true });
  }

  async scrubStatus(periodMs: number): Promise<ScrubStatus> {
    const { book, index, now } = this.#options;
    book.notice(index.packs());
    const nowMs = now().getTime();
    const { oldestMs, lastCheckedMs, ...coverage } = coverageOf(book.queue(index.packs()), nowMs, periodMs);
    const time = (ms: number | null) => (ms === null ? null : new Date(ms).toISOString());
    return {
      ...{ ...coverage, periodMs, isRunning: this.#isRunning },
      oldestSince: time(oldestMs),
      lastCheckedAt: time(lastCheckedMs),
      damage: await this.#damage(),
    };
  }

  room(): ReturnType<Upkeep['room']> {
    const { disk, dir } = this.#options;
    return roomFor(disk, dir);
  }

  async #damage(): Promise<DamageSummary> {
    const { book } = this.#options;
    const points = await this.damagedPoints();
    if (points.length === 0) await this.#forgetRemains();
    this.noteDamage();
    const damages = book.damages();
    const open = damages.filter(({ healedAt }) => healedAt === null);
    const healed = damages.flatMap(({ healedAt }) => (healedAt === null ? [] : [healedAt])).sort();
    return {
      openCount: book.openCount,
      healedCount: healed.length,
      openSince: open.map(({ foundAt }) => foundAt).sort()[0] ?? null,
      lastHealedAt: healed.at(-1) ?? null,
      points: points.slice(0, POINTS_NAMED_MAX).map(({ point }) => pointName(point, LOCAL_AGENT)),
      pointCount: points.length,
    };
  }

  /** Of records that were in packs which are gone, and that no point needs any more. */
  async #forgetRemains(): Promise<void> {
    const { index } = this.#options;
    const numbers = new Set([...index.packs().values()].map(({ number }) => number));
    for (const { packNumber, offset } of [...index.badPlaces()])
      if (!numbers.has(packNumber)) await index.markGood(packNumber, offset);
  }

  /** Also those that are in no pack at all. One may be bad in several places. */
  #openRecords(): ReadonlySet<string> {
    const { index } = this.#options;
    const open = new Set<string>();
    for (const { digest, kind } of index.badPlaces()) {
      if (index.locate(digest, kind) === null) open.add(`${kind} ${digest.toString('hex')}`);
    }
    return open;
  }

  /** Of all agents. */
  damagedPoints(): Promise<readonly DamagedPoint[]> {
    return this.#damaged.find(this.#options.catalog.all());
  }
}
