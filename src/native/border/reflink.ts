/**
 * The part of the border for clones of files; rules as in ../index.ts. Descriptors may be closed by their
 * owner at any time: the work in flight has copies of its own. Errors name no path.
 */
export interface CloneSupport {
  /** Null: another one. */
  readonly fileSystem: 'xfs' | 'btrfs' | null;
  /** XFS that was made without reflink=1. */
  readonly withoutReflink: boolean;
  /** The file is on the realtime device of XFS. */
  readonly realtime: boolean;
}

export interface ReflinkAddon {
  cloneSupport(fd: number): Promise<CloneSupport>;
  /** As the kernel counts them, without what is only in the page cache. */
  countExtents(fd: number): Promise<number>;
  /** Bytes on disk that other files have, too: writing them takes new room. `EOPNOTSUPP`: nobody knows. */
  sharedBytes(fd: number): Promise<number>;
  /** Gives an empty file what the source must share with its clone. */
  likenForClone(sourceFd: number, targetFd: number): Promise<void>;
  /**
   * FICLONE: the target becomes what the source is in one instant. Writers of the source wait.
   * @returns for how many ms
   */
  cloneFile(sourceFd: number, targetFd: number): Promise<number>;
  /**
   * Blocks of two files that may differ, from their extents alone: right if nobody writes to either.
   * Ascending, apart. `EAGAIN`: extents were moved meanwhile, and nothing is known.
   */
  differingBlocks(
    oneFd: number,
    otherFd: number,
    sizeBytes: number,
    blockSize: number,
  ): Promise<{
    readonly ranges: readonly (readonly [number, number])[];
    /** Of the other file. */
    readonly extentCount: number;
  }>;
  /** Extended attributes. Null: there is none. */
  getAttribute(fd: number, name: string): Promise<Buffer | null>;
  setAttribute(fd: number, name: string, value: Uint8Array): Promise<void>;
}
