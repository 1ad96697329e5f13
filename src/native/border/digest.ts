/** The part of the border for digests (docs/format.md section 1); rules as in ../index.ts. */

/**
 * How content is digested: made once, and passed to whoever digests or proves. It never
 * changes, and needs no closing.
 */
export interface Digester {
  /** The zero digest for all-zero bytes. */
  leafDigest(bytes: Uint8Array): Buffer;
  /** Of up to 64 concatenated child digests; trims trailing NULLs itself. */
  nodeDigest(children: Uint8Array): Buffer;
  rootDigest(sizeBytes: number, blockSize: number, top: Uint8Array): Buffer;
  /** The leaf of so many zeros: NULL, whatever the key. */
  zeroDigest(byteLength: number): Buffer;
}

export interface DigestAddon {
  /** BLAKE3 without a key. */
  plainDigester(): Digester;
  /** Plain BLAKE3 of the concatenation of the parts: it finds damage, and proves no content. */
  checksum(...parts: Uint8Array[]): Buffer;
}
