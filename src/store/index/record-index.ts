/** What reading needs from an index. The owner uses StoreIndex; a reader uses reading/reading-index.ts. */
import type { Place } from './values.js';

export interface Location extends Place {
  readonly packId: string;
}

export interface IndexedPack {
  readonly number: number;
  readonly sizeBytes: number;
}

export interface BadRecord {
  /** 0: it is in no pack. */
  readonly packNumber: number;
  readonly offset: number;
  readonly digest: Buffer;
  readonly kind: number;
}

export interface RecordIndex {
  /** Packs whose records are all in the index, with their file sizes. */
  packs(): ReadonlyMap<string, IndexedPack>;
  locate(digest: Uint8Array, kind: number): Location | null;
  isBad(packNumber: number, offset: number, digest: Uint8Array): boolean;
  /** All places that are known to be bad. */
  badPlaces(): Iterable<BadRecord>;
  markBad(packNumber: number, offset: number, digest: Uint8Array, kind: number): Promise<void>;
  markGood(packNumber: number, offset: number): Promise<void>;
  relocate(
    digest: Uint8Array,
    kind: number,
    packNumber: number,
    at: Omit<Place, 'packNumber'>,
  ): Promise<void>;
  /** Takes in what another process wrote; an owner has nothing to take in. */
  catchUp?(): Promise<void>;
}
