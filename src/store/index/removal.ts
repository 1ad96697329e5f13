/**
 * Forgetting a pack: first that it is indexed, so that it is indexed again if it is found at the next
 * opening; then its records, that devices hold them, and what was known of damage to them. Can be done again.
 */
import { setImmediate } from 'node:timers/promises';
import { isFull } from '../disk/disk.js';
import { decodePackEntry, packEntryCount } from '../packs/entries.js';
import { coverLastPage, type Tables } from './tables.js';
import { badKey, decodePlace, encodeHeldKey, HELD_KEY_BYTES } from './values.js';
import { IndexWrites, written } from './writes.js';

/** In one transaction, which holds up the event loop. */
const LOOKUPS_PER_TRANSACTION = 4096;
/** On a disk that has no room for more. */
const LOOKUPS_PER_TRANSACTION_MIN = 64;
const DEVICE_NUMBER_MAX = 2 ** 32 - 1;

export interface RemovedPack {
  readonly packId: string;
  readonly number: number;
  readonly entries: Buffer;
}

/** @param path of the index */
export async function removePack(
  path: string,
  tables: Tables,
  { packId, number, entries }: RemovedPack,
): Promise<void> {
  const { root, packs, records } = tables;
  await written(path, () => packs.remove(Buffer.from(packId, 'hex')));
  // Only where damage is known: they are many.
  const gone = tables.bad.getCount() > 0 ? new Set<string>() : null;
  const count = packEntryCount(entries);
  let lookupsMax = LOOKUPS_PER_TRANSACTION;
  for (let from = 0; from < count; ) {
    let next = from;
    // In one transaction: who stores a block again enters it at this moment, and that entry must not go.
    const remove = () => {
      next = from;
      for (let lookups = 0; next < count && lookups < lookupsMax; next += 1) {
        const { digest, kind } = decodePackEntry(entries, next);
        const key = recordKeyOf(digest, kind);
        lookups += 1;
        if (decodePlace(records.getBinary(key))?.packNumber !== number) continue;
        gone?.add(badKey(digest, kind));
        records.remove(key);
        lookups += 1 + removeHolders(tables, digest);
      }
    };
    try {
      await written(path, () => root.transaction(remove), lookupsMax);
      from = next;
    } catch (error) {
      if (!isFull(error) || lookupsMax === LOOKUPS_PER_TRANSACTION_MIN) throw error;
      lookupsMax = LOOKUPS_PER_TRANSACTION_MIN;
    }
    await setImmediate();
  }
  if (gone !== null) await forgetDamage(path, tables, gone);
  // Within a transaction nobody else writes.
  root.transactionSync(() => coverLastPage(path));
}

/** @returns how many there were */
function removeHolders({ held }: Tables, digest: Uint8Array): number {
  const [start, end] = [Buffer.alloc(HELD_KEY_BYTES), Buffer.alloc(HELD_KEY_BYTES)];
  encodeHeldKey(start, digest, 0);
  encodeHeldKey(end, digest, DEVICE_NUMBER_MAX);
  const keys = [...held.getKeys({ start, end })].map((key) => Buffer.from(key));
  for (const key of keys) held.remove(key);
  return keys.length;
}

async function forgetDamage(path: string, { bad }: Tables, gone: ReadonlySet<string>): Promise<void> {
  const writes = new IndexWrites(path, bad.getCount());
  for (const { key, value } of bad.getRange()) {
    if (gone.has(badKey(value.subarray(0, 32), value[32] ?? 0))) writes.add(bad.remove(Buffer.from(key)));
  }
  await writes.done();
}

function recordKeyOf(digest: Uint8Array, kind: number): Buffer {
  const key = Buffer.alloc(33);
  key.set(digest);
  key[32] = kind;
  return key;
}
