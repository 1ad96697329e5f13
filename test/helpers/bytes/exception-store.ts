/** The exception store of dm-snapshot, as the kernel writes it. */
export interface StoreOptions {
  readonly chunkBytes: number;
  readonly storeBytes: number;
  readonly isValid?: boolean;
}

const ENTRY_BYTES = 16;

/** @param chunks of the origin, in the order of their first writes. */
export function encodeStore(
  chunks: readonly number[],
  { chunkBytes, storeBytes, isValid = true }: StoreOptions,
): Buffer {
  const bytes = Buffer.alloc(storeBytes);
  bytes.write('SnAp', 0, 'latin1');
  bytes.writeUInt32LE(isValid ? 1 : 0, 4);
  bytes.writeUInt32LE(1, 8);
  bytes.writeUInt32LE(chunkBytes / 512, 12);
  const perArea = chunkBytes / ENTRY_BYTES;
  for (const [index, chunk] of chunks.entries()) {
    const area = 1 + Math.floor(index / perArea) * (perArea + 1);
    const at = area * chunkBytes + (index % perArea) * ENTRY_BYTES;
    bytes.writeBigUInt64LE(BigInt(chunk), at);
    // Originals fill the chunks between the areas.
    bytes.writeBigUInt64LE(BigInt(area + 1 + (index % perArea)), at + 8);
  }
  return bytes;
}
