/** The part of the border for paths; rules as in ../index.ts. */

export interface PathAddon {
  /**
   * True if some process holds the regular file open for writing (probed by a read lease, taken and dropped).
   */
  isOpenForWriting(path: string): boolean;
  /** What chattr has set. */
  pathFlags(path: string): { readonly isImmutable: boolean; readonly isAppendOnly: boolean };
}
