/**
 * Is there room for a point in the place of its image? Decided from plain facts, before the first byte is
 * written.
 */

export interface RoomFacts {
  /** Of the point's blocks that are not zero. */
  readonly contentBytes: number;
  readonly sizeBytes: number;
  /** What the image occupies already. */
  readonly allocatedBytes: number;
  /** What this process may still take of the file system; null: it does not tell. */
  readonly freeBytes: number | null;
  /** The file system keeps no holes: zeros take room too. */
  readonly isDense: boolean;
}

/** @returns the bytes that are missing; 0 if there is room, or nobody can know. Quotas can't be seen. */
export function missingRoom({
  contentBytes,
  sizeBytes,
  allocatedBytes,
  freeBytes,
  isDense,
}: RoomFacts): number {
  if (freeBytes === null) return 0;
  const neededBytes = Math.max(0, (isDense ? sizeBytes : contentBytes) - allocatedBytes);
  return Math.max(0, neededBytes - freeBytes);
}
