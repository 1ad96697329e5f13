/** Keys and values of the index's tables (docs/format.md section 5). */

export const PLACE_BYTES = 21;

/** Where a record lies. */
export interface Place {
  readonly packNumber: number;
  /** Of the record header, from the start of the pack. */
  readonly offset: number;
  readonly storedLength: number;
  readonly rawLength: number;
  readonly codec: number;
}

/** Null for none, and for what is none: a damaged page of the index may give anything. */
export function decodePlace(value: unknown): Place | null {
  if (!Buffer.isBuffer(value) || value.length !== PLACE_BYTES) return null;
  return {
    packNumber: value.readUInt32BE(0),
    offset: Number(value.readBigUInt64BE(4)),
    storedLength: value.readUInt32BE(12),
    rawLength: value.readUInt32BE(16),
    codec: value[20] ?? 0,
  };
}

export function badKey(digest: Uint8Array, kind: number): string {
  return `${kind}${Buffer.from(digest).toString('hex')}`;
}

export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(value);
  return bytes;
}

export function encodePlace(value: Buffer, packNumber: number, at: Omit<Place, 'packNumber'>): void {
  value.writeUInt32BE(packNumber, 0);
  value.writeUInt32BE(Math.floor(at.offset / 2 ** 32), 4);
  value.writeUInt32BE(at.offset % 2 ** 32, 8);
  value.writeUInt32BE(at.storedLength, 12);
  value.writeUInt32BE(at.rawLength, 16);
  value[20] = at.codec;
}

export function placeKey(packNumber: number, offset: number): Buffer {
  const key = Buffer.alloc(12);
  key.writeUInt32BE(packNumber, 0);
  key.writeBigUInt64BE(BigInt(offset), 4);
  return key;
}

/** Of `held`: digest, then u32 device number. */
export const HELD_KEY_BYTES = 36;

export function encodeHeldKey(key: Buffer, digest: Uint8Array, deviceNumber: number): void {
  key.set(digest);
  key.writeUInt32BE(deviceNumber, 32);
}
