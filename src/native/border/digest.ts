/** The part of the border that is about digests (docs/format.md section 1); rules as in ../index.ts. */

export interface DigestAddon {
  /** Leaf digest: NULL for all-zero bytes, else BLAKE3. */
  leafDigest(bytes: Uint8Array): Buffer;
  /** Plain BLAKE3 of the concatenation of the parts. */
  checksum(...parts: Uint8Array[]): Buffer;
  /** Node digest of up to 64 concatenated child digests; trims trailing NULLs itself. */
  nodeDigest(children: Uint8Array): Buffer;
  rootDigest(sizeBytes: number, blockSize: number, top: Uint8Array): Buffer;
}
