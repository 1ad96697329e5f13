/**
 * The index of a reader. It finds records in the store's own index, and in a private one for the packs that
 * the store's index does not have: packs that are just being published, or all of them if the store's index
 * is useless. It writes nothing below the store.
 *
 * State: none until `ready` (a list of points needs no index), then both indexes; the private one is made
 * when a pack needs it. Findings about records (damaged; another copy) are remembered until the end, and
 * override both.
 */
import { join } from 'node:path';
import type { Digester } from '../../native/index.js';
import { INDEX_DIR, PACKS_PREFIX, packIdOf, packKey } from '../disk/layout.js';
import type { BadRecord, IndexedPack, Location, RecordIndex } from '../index/record-index.js';
import { StoreIndex } from '../index/store-index.js';
import { type Place, placeKey } from '../index/values.js';
import type { ObjectStore, StoredObject } from '../objects/object-store.js';
import { readPackEntries } from '../packs/contents.js';
import type { OpenProgress } from '../upkeep/index-heal.js';
import { Scratch } from './scratch.js';
import { SharedIndex } from './shared-index.js';

/** Added to the private index's pack numbers. */
const PRIVATE_FROM = 2 ** 31;

export interface BadPlace {
  readonly packId: string;
  readonly packNumber: number;
  readonly offset: number;
  readonly digest: Buffer;
  readonly kind: number;
}

/** Another copy of a record that was found damaged. */
export interface GoodPlace extends Location {
  readonly digest: Buffer;
  readonly kind: number;
}

export interface ReadingIndexOptions {
  /** Root of the store. */
  readonly dir: string;
  readonly storeId: string;
  readonly objects: ObjectStore;
  readonly digester: Digester;
  readonly log: (message: string) => void;
  readonly onProgress: (progress: OpenProgress) => void;
}

export class ReadingIndex implements RecordIndex {
  readonly #options: ReadingIndexOptions;
  #opening: Promise<void> | null = null;
  #scratch: Scratch | null = null;
  #shared: SharedIndex | null = null;
  #private: StoreIndex | null = null;
  #packs: ReadonlyMap<string, IndexedPack> = new Map();
  readonly #bad = new Map<string, BadPlace>();
  /** By kind and digest; null: nowhere. */
  readonly #places = new Map<string, GoodPlace | null>();

  constructor(options: ReadingIndexOptions) {
    this.#options = options;
  }

  /** Before anything is looked for. */
  ready(): Promise<void> {
    this.#opening ??= this.#open();
    return this.#opening;
  }

  async #open(): Promise<void> {
    const { dir, storeId, objects, log } = this.#options;
    const path = join(dir, INDEX_DIR);
    this.#scratch = new Scratch(storeId, path);
    try {
      if (this.#scratch.sharedIsDoubtful) throw new Error('commands that read it died');
      this.#shared = SharedIndex.open(dir, path, storeId);
      const lost = await this.#lostPack(await objects.list(PACKS_PREFIX));
      if (lost !== null)
        throw new Error(`pack ${lost} is gone, or has another size than when it was written`);
    } catch (error) {
      log(`the index is not used: ${textOf(error)}; one is made for this command`);
      await this.#dropShared();
    }
    await this.catchUp();
  }

  /**
   * A pack that the store's index knows and that is not there so. What is collected leaves the index first.
   */
  async #lostPack(packs: readonly StoredObject[]): Promise<string | null> {
    const sizes = new Map(packs.map(({ key, sizeBytes }) => [packIdOf(key), sizeBytes]));
    const differs = ([packId, { sizeBytes }]: [string, IndexedPack]) => sizes.get(packId) !== sizeBytes;
    const doubted = [...(this.#shared?.packs() ?? [])].filter(differs).map(([packId]) => packId);
    if (doubted.length === 0) return null;
    this.#shared?.reload();
    for (const packId of doubted) {
      const known = this.#shared?.packs().get(packId);
      if (known !== undefined && (await this.#options.objects.size(packKey(packId))) !== known.sizeBytes) {
        return packId;
      }
    }
    return null;
  }

  async #dropShared(): Promise<void> {
    const shared = this.#shared;
    this.#shared = null;
    this.#scratch?.forgetShared();
    await shared?.close().catch(() => undefined);
  }

  async catchUp(): Promise<void> {
    const { objects, onProgress } = this.#options;
    try {
      this.#shared?.reload();
    } catch (error) {
      await this.#doubtShared(error);
    }
    const packs = await objects.list(PACKS_PREFIX);
    const isKnown = (packId: string) =>
      (this.#shared?.packs().has(packId) ?? false) || (this.#private?.hasPack(packId) ?? false);
    const absent = packs.filter(({ key }) => {
      const packId = packIdOf(key);
      return packId !== null && !isKnown(packId);
    });
    const total = absent.length;
    for (const [done, pack] of absent.entries()) {
      // One that is just being published is not worth reporting.
      if (total > 1) onProgress({ step: 'indexing packs', done, total });
      await this.#add(pack);
    }
    if (total > 1) onProgress({ step: 'indexing packs', done: total, total });
    this.#packs = new Map([
      ...[...(this.#private?.packs() ?? [])].map(
        ([packId, { number, sizeBytes }]) => [packId, { number: number + PRIVATE_FROM, sizeBytes }] as const,
      ),
      ...(this.#shared?.packs() ?? []),
    ]);
  }

  async #add({ key, sizeBytes }: StoredObject): Promise<void> {
    const { objects, storeId, digester, log } = this.#options;
    const packId = packIdOf(key) ?? '';
    if (this.#private === null) {
      const path = this.#scratch?.indexPath() ?? '';
      this.#private = await StoreIndex.open(path, storeId, () => undefined);
    }
    try {
      const { entries, salvaged } = await readPackEntries(objects, packId, digester);
      if (salvaged !== null) log(`${key}: its index is damaged (${salvaged})`);
      await this.#private.addPack(packId, sizeBytes, entries, { salvaged: salvaged !== null });
    } catch (error) {
      // It was collected meanwhile.
      if ((await objects.size(key)) !== null) throw error;
    }
  }

  async #doubtShared(error: unknown): Promise<void> {
    this.#options.log(`the index can't be read: ${textOf(error)}; one is made for this command`);
    await this.#dropShared();
  }

  packs(): ReadonlyMap<string, IndexedPack> {
    return this.#packs;
  }

  /** How many records there are, about. */
  get recordCount(): number {
    return (this.#shared?.recordCount ?? 0) + (this.#private?.recordCount ?? 0);
  }

  locate(digest: Uint8Array, kind: number): Location | null {
    const place = this.#places.get(keyOf(digest, kind));
    if (place !== undefined) return place;
    let located: Location | null = null;
    try {
      located = this.#shared?.locate(digest, kind) ?? null;
    } catch (error) {
      // What is not found is looked for again, with `catchUp` before.
      void this.#doubtShared(error);
    }
    if (located !== null) return located;
    const own = this.#private?.locate(digest, kind) ?? null;
    return own === null ? null : { ...own, packNumber: own.packNumber + PRIVATE_FROM };
  }

  isBad(packNumber: number, offset: number, digest: Uint8Array): boolean {
    if (this.#bad.get(placeText(packNumber, offset))?.digest.equals(digest) === true) return true;
    try {
      return packNumber < PRIVATE_FROM && (this.#shared?.isBad(packNumber, offset, digest) ?? false);
    } catch {
      return false;
    }
  }

  badPlaces(): BadRecord[] {
    let known: BadRecord[] = [];
    try {
      known = [...(this.#shared?.badPlaces() ?? [])];
    } catch (error) {
      void this.#doubtShared(error);
    }
    return [...known, ...this.#bad.values()];
  }

  async markBad(packNumber: number, offset: number, digest: Uint8Array, kind: number): Promise<void> {
    const located = this.locate(digest, kind);
    if (located?.packNumber === packNumber && located.offset === offset) {
      this.#places.set(keyOf(digest, kind), null);
    }
    for (const [packId, { number }] of this.#packs) {
      if (number !== packNumber) continue;
      const place = { packId, packNumber, offset, digest: Buffer.from(digest), kind };
      this.#bad.set(placeText(packNumber, offset), place);
      return;
    }
  }

  async markGood(packNumber: number, offset: number): Promise<void> {
    this.#bad.delete(placeText(packNumber, offset));
  }

  async relocate(
    digest: Uint8Array,
    kind: number,
    packNumber: number,
    at: Omit<Place, 'packNumber'>,
  ): Promise<void> {
    const { offset, storedLength, rawLength, codec } = at;
    for (const [packId, { number }] of this.#packs) {
      if (number !== packNumber) continue;
      const place = { ...{ packId, packNumber, offset, storedLength, rawLength, codec, kind } };
      this.#places.set(keyOf(digest, kind), { ...place, digest: Buffer.from(digest) });
      return;
    }
  }

  /** What was found out, for who may write it down. */
  findings(): { readonly bad: readonly BadPlace[]; readonly good: readonly GoodPlace[] } {
    const good = [...this.#places.values()].filter((place) => place !== null);
    return { bad: [...this.#bad.values()], good };
  }

  async close(): Promise<void> {
    await this.#opening?.catch(() => undefined);
    await this.#dropShared();
    await this.#private?.close().catch(() => undefined);
    this.#scratch?.close();
  }
}

function keyOf(digest: Uint8Array, kind: number): string {
  return `${kind}${Buffer.from(digest.buffer, digest.byteOffset, digest.length).toString('latin1')}`;
}

function placeText(packNumber: number, offset: number): string {
  return placeKey(packNumber, offset).toString('latin1');
}

function textOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
