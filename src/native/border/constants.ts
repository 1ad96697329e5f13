/** Numbers of the formats and versions of libraries. */

/** Format constants as compiled in, so that both languages can be checked against each other. */
export interface NativeConstants {
  readonly digestBytes: number;
  readonly treeFanout: number;
  readonly recordHeaderBytes: number;
  readonly packHeaderBytes: number;
  readonly packIndexEntryBytes: number;
  readonly packFooterBytes: number;
  readonly batchHeaderBytes: number;
  readonly batchEntryBytes: number;
  readonly batchTrailerBytes: number;
  readonly zstdVersion: string;
  readonly blake3Version: string;
  readonly sanitizer: '' | 'address' | 'thread';
}
