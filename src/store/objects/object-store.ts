/**
 * The port of packs and manifests: immutable objects under keys. `local` is a directory tree on a Disk; tests
 * have one in memory; both pass test/conformance/store/object-store.ts.
 */

export interface StoredObject {
  readonly key: string;
  readonly sizeBytes: number;
}

export interface ObjectStore {
  /**
   * Durable when it resolves. False if the key exists: nothing is changed. Of several at
   * once exactly one gets true.
   */
  put(key: string, bytes: Uint8Array): Promise<boolean>;
  /** As `put`, from a finished and synced local file, which is gone afterwards if it answers true. */
  putFile(key: string, path: string): Promise<boolean>;
  /** Exactly the bytes asked for; code `ENOENT` without the object, `ETRUNCATED` beyond its end. */
  read(key: string, byteOffset: number, byteLength: number): Promise<Buffer>;
  /** Null if there is no such object. */
  size(key: string): Promise<number | null>;
  /** Objects whose key starts with the folder `prefix/`, by key. */
  list(prefix: string): Promise<StoredObject[]>;
  /** Durable when it resolves; no error if it is missing. */
  delete(key: string): Promise<void>;
  /**
   * Runs `use` with the path of a local file that has the object's bytes: for native readers. It
   * is valid during the call.
   */
  withFile<T>(key: string, use: (path: string) => Promise<T>): Promise<T>;
  /** Frees what reading holds. */
  close(): Promise<void>;
}

const KEY = /^[A-Za-z0-9][A-Za-z0-9._-]*(\/[A-Za-z0-9][A-Za-z0-9._-]*)*$/;

export function isKey(text: string): boolean {
  return KEY.test(text);
}

/** Keys are made by layout.ts; a key that could leave the store is a defect. */
export function checkKey(key: string): string {
  if (!isKey(key)) throw new Error(`object key ${JSON.stringify(key)}: not a path of plain names`);
  return key;
}
