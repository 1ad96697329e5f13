/**
 * What is known of a store's packs besides their content: when each was read back last, and which records
 * were found damaged. It is in `scrub.json`, so that it survives an index that is made again. If it is lost
 * too, all packs count as never read back, and damage is found again by reading them.
 *
 * State: in memory as a whole. It is written after a time, at once if there is new damage, and at the end. A
 * process that is killed loses only that some packs were read back.
 */
import { join } from 'node:path';
import type { QueuedPack, RunTotal } from '../../domain/scrub/queue.js';
import { type Disk, readSmallFile, writeDurably } from '../disk/disk.js';
import { SCRUB_FILE } from '../disk/layout.js';
import { decodeSealed, encodeSealed } from '../disk/sealed-text.js';
import type { IndexedPack } from '../index/record-index.js';

const BYTES_MAX = 256 * 1024 * 1024;
const SAVE_AFTER_MS = 30_000;
const TOTALS_MAX = 1000;
/** A clock that is corrected steps by so much. */
const CLOCK_STEP_S = 600;
/** More are in the index only. */
const DAMAGES_MAX = 10_000;

/** Times in s since 1970. */
interface PackTimes {
  readonly since: number;
  readonly isChecked: boolean;
}

export interface KnownDamage {
  readonly packId: string;
  readonly offset: number;
  /** Hex. */
  readonly digest: string;
  readonly kind: number;
  /** ISO 8601. */
  readonly foundAt: string;
  /** When another copy was first seen in its place; null: there is none. */
  readonly healedAt: string | null;
}

interface Body {
  /** By pack id: when it was read back last, or its negative: first seen then, and never read back. */
  readonly packs: Readonly<Record<string, number>>;
  readonly totals: readonly (readonly [number, number])[];
  readonly damages: readonly KnownDamage[];
  /** Records that no copy stands in for, also those that are in no pack. */
  readonly openCount: number;
}

export interface ScrubBookOptions {
  readonly disk: Disk;
  /** Root of the store. */
  readonly dir: string;
  readonly log: (message: string) => void;
  readonly now: () => Date;
}

export class ScrubBook {
  readonly #options: ScrubBookOptions;
  readonly #packs = new Map<string, PackTimes>();
  #totals: RunTotal[] = [];
  readonly #damages = new Map<string, KnownDamage>();
  #openCount = 0;
  /**
   * There is a file, or something to write into it. Until then nothing is written, and the age of the packs
   * that there are is not known.
   */
  #isInUse = false;
  #isChanged = false;
  #savedMs = 0;

  constructor(options: ScrubBookOptions) {
    this.#options = options;
  }

  /** Does not reject. */
  async load(): Promise<void> {
    const { disk, dir, log } = this.#options;
    try {
      const path = join(dir, SCRUB_FILE);
      const bytes = await readSmallFile(disk, path, BYTES_MAX);
      if (bytes === null) return;
      const body = decodeSealed('stillpoint-scrub', bytes, path).body as unknown as Body;
      const nowS = this.#options.now().getTime() / 1000;
      for (const [packId, time] of Object.entries(body.packs)) {
        // A time that is still to come was that of a clock that was wrong: when it was is not known.
        const since = Math.abs(time) > nowS + CLOCK_STEP_S ? 0 : Math.abs(time);
        this.#packs.set(packId, { since, isChecked: since > 0 && time > 0 });
      }
      this.#totals = body.totals.map(([at, totalBytes]) => ({ atMs: at * 1000, totalBytes }));
      this.#openCount = body.openCount;
      for (const damage of body.damages) this.#damages.set(placeOf(damage), damage);
      this.#isInUse = true;
    } catch (error) {
      log(`${SCRUB_FILE}: ${String(error)}; all packs count as never read back`);
    }
  }

  /** Takes in which packs there are. */
  notice(packs: ReadonlyMap<string, IndexedPack>): void {
    const now = Math.floor(this.#options.now().getTime() / 1000);
    for (const packId of this.#packs.keys()) {
      if (packs.has(packId)) continue;
      this.#packs.delete(packId);
      this.#isChanged = true;
    }
    for (const packId of packs.keys()) {
      if (this.#packs.has(packId)) continue;
      this.#packs.set(packId, { since: this.#isInUse ? now : 0, isChecked: false });
      this.#isChanged = true;
    }
  }

  *queue(packs: ReadonlyMap<string, IndexedPack>): Generator<QueuedPack> {
    const nowMs = this.#options.now().getTime();
    for (const [packId, { sizeBytes }] of packs) {
      const { since, isChecked } = this.#packs.get(packId) ?? { since: nowMs / 1000, isChecked: false };
      yield { packId, sizeBytes, sinceMs: Math.min(since * 1000, nowMs), isChecked };
    }
  }

  checked(packId: string, at: Date = this.#options.now()): void {
    this.#packs.set(packId, { since: Math.max(1, Math.floor(at.getTime() / 1000)), isChecked: true });
    this.#isInUse = true;
    this.#isChanged = true;
  }

  get totals(): readonly RunTotal[] {
    return this.#totals;
  }

  addTotal(totalBytes: number): void {
    const total = { atMs: this.#options.now().getTime(), totalBytes };
    this.#totals = [...this.#totals, total].slice(-TOTALS_MAX);
    this.#isChanged = true;
  }

  /** As it was when damage was noted last: readers need not look for more if it is 0. */
  get openCount(): number {
    return this.#openCount;
  }

  damages(): readonly KnownDamage[] {
    return [...this.#damages.values()];
  }

  /** The damage that is known now takes the place of what was. True if there is more than before. */
  setDamages(
    found: readonly Omit<KnownDamage, 'foundAt' | 'healedAt'>[],
    openCount: number,
    isHealed: (digest: string, kind: number) => boolean,
  ): boolean {
    const now = this.#options.now().toISOString();
    const before = new Map(this.#damages);
    this.#damages.clear();
    let hasMore = false;
    for (const damage of found.slice(0, DAMAGES_MAX)) {
      const known = before.get(placeOf(damage));
      hasMore ||= known === undefined;
      const healedAt = isHealed(damage.digest, damage.kind) ? (known?.healedAt ?? now) : null;
      this.#damages.set(placeOf(damage), { ...damage, foundAt: known?.foundAt ?? now, healedAt });
      if (known === undefined || known.healedAt !== healedAt) this.#isChanged = true;
    }
    if (this.#openCount !== openCount) this.#isChanged = true;
    this.#openCount = openCount;
    this.#isInUse ||= this.#damages.size > 0 || openCount > 0;
    if (before.size !== this.#damages.size) this.#isChanged = true;
    return hasMore;
  }

  /** If it is time, or `now`. Does not reject: what is not written is read back again. */
  async save({ now }: { readonly now: boolean }): Promise<void> {
    const atMs = performance.now();
    if (!this.#isInUse || !this.#isChanged) return;
    if (!now && atMs - this.#savedMs < SAVE_AFTER_MS) return;
    const { disk, dir, log } = this.#options;
    const times = [...this.#packs].map(([packId, { since, isChecked }]) => [
      packId,
      isChecked ? since : -since,
    ]);
    const body: Body = {
      packs: Object.fromEntries(times),
      totals: this.#totals.map(({ atMs: at, totalBytes }) => [Math.floor(at / 1000), totalBytes]),
      damages: this.damages(),
      openCount: this.#openCount,
    };
    this.#isChanged = false;
    this.#savedMs = atMs;
    await writeDurably(disk, join(dir, SCRUB_FILE), encodeSealed('stillpoint-scrub', body)).catch((error) => {
      this.#isChanged = true;
      log(`${SCRUB_FILE} can't be written: ${String(error)}`);
    });
  }
}

function placeOf({ packId, offset }: { readonly packId: string; readonly offset: number }): string {
  return `${packId} ${offset}`;
}
