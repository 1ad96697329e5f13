/** Records of a journal made by hand, by docs/journal.md and nothing else. */
import { native } from '../../../src/native/index.js';

export type RecordItem =
  | { readonly at: number; readonly bytes: Uint8Array }
  | { readonly at: number; readonly zeros: number }
  | 'stamp'
  | { readonly instant: string };

const KINDS = { write: 1, zero: 2, stamp: 3, instant: 4 } as const;

/** What a record of an item says: kind, place, length, payload. */
function partsOf(item: RecordItem): [number, number, number, Uint8Array] {
  const none = new Uint8Array();
  if (item === 'stamp') return [KINDS.stamp, 0, 0, none];
  if ('instant' in item) return [KINDS.instant, 0, 0, Buffer.from(item.instant, 'hex')];
  if ('zeros' in item) return [KINDS.zero, item.at, item.zeros, none];
  return [KINDS.write, item.at, item.bytes.length, item.bytes];
}

/** One record, header and payload. */
export function makeRecord(ordinal: number, stamp: bigint, item: RecordItem): Buffer {
  const [kind, at, length, payload] = partsOf(item);
  const header = Buffer.alloc(64);
  header.write('SPJR');
  header[4] = 1;
  header[5] = kind;
  header.writeUInt32LE(payload.length, 8);
  header.writeBigUInt64LE(BigInt(ordinal), 16);
  header.writeBigUInt64LE(stamp, 24);
  header.writeBigUInt64LE(BigInt(at), 32);
  header.writeBigUInt64LE(BigInt(length), 40);
  native.checksum(payload, header.subarray(0, 48)).copy(header, 48, 0, 16);
  return Buffer.concat([header, payload]);
}

/** A record for each item: ordinals from `first` on, stamps `stamp + ordinal * 1000`. */
export function makeRecords(
  items: readonly RecordItem[],
  first = 1,
  stamp = 1_700_000_000_000_000_000n,
): Buffer[] {
  return items.map((item, i) => makeRecord(first + i, stamp + BigInt(first + i) * 1000n, item));
}
