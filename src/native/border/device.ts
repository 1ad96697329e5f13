/** The part of the border for devices and for paths; rules as in ../index.ts. */

export interface OpenDeviceOptions {
  readonly write?: boolean;
  /** O_EXCL: EBUSY where a block device is mounted or held. */
  readonly exclusive?: boolean;
  /**
   * O_DIRECT. Default: true for block devices, false for files. The unaligned tail is read and written
   * through a bounce buffer.
   */
  readonly direct?: boolean;
  /** Reads of a file are answered by its file system, not by this host's page cache. */
  readonly fresh?: boolean;
  /** Create a missing image file, and set its size. */
  readonly create?: boolean;
  readonly sizeBytes?: number;
}

export interface Device {
  readonly path: string;
  readonly type: 'block' | 'file' | 'memory' | 'snapshot';
  readonly sizeBytes: number;
  readonly logicalSectorSize: number;
  readonly direct: boolean;
  /**
   * Reads any range inside the device. `ETRUNCATED`: the device ends before its `sizeBytes` now,
   * at `byteOffset` or before.
   */
  read(byteOffset: number, byteLength: number): Promise<Buffer>;
  write(byteOffset: number, bytes: Uint8Array): Promise<void>;
  /** fdatasync, and on block devices the flush of their write cache. */
  flush(): Promise<void>;
  /** Forgets the clean pages of it that this host's page cache holds, and nobody maps. */
  dropCache(): Promise<void>;
  close(): Promise<void>;
}

export interface DeviceAddon {
  /** Writes what is dirty of the file system that the path lies on (syncfs). */
  syncFilesystem(path: string): Promise<void>;
  openDevice(path: string, options?: OpenDeviceOptions): Promise<Device>;
}

export interface PathAddon {
  /**
   * True if some process holds the regular file open for writing (probed by a read lease, taken and dropped).
   */
  isOpenForWriting(path: string): boolean;
  /** What chattr has set. */
  pathFlags(path: string): { readonly isImmutable: boolean; readonly isAppendOnly: boolean };
}
