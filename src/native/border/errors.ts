/** What the addon throws and rejects with. */

export type NativeErrorCode =
  | 'closed'
  | 'cancelled'
  | 'argument'
  | 'bad-magic'
  | 'bad-version'
  | 'bad-checksum'
  | 'bad-length'
  | 'bad-index'
  | 'bad-order'
  | 'bad-kind'
  | 'bad-codec'
  | 'bad-digest'
  | 'bad-patch'
  | 'bad-session'
  | 'truncated'
  | 'ETRUNCATED'
  | 'geometry-mismatch'
  | 'tree-damaged'
  | 'identity-mismatch'
  | 'no-btf'
  | 'no-bpf'
  | 'old-kernel'
  | 'track-broken'
  | 'not-held'
  | 'out-of-memory';

export interface NativeError extends Error {
  readonly code: NativeErrorCode | (string & {});
  readonly path?: string;
  readonly byteOffset?: number;
}
