/** Which packs a collection removes or rewrites. Pure. */

/** What a pack has in it, by its own index. */
export interface PackStanding {
  readonly packId: string;
  readonly number: number;
  /** PACK_KIND_DATA or PACK_KIND_TREE. */
  readonly kind: number;
  /** Of the whole file. */
  readonly sizeBytes: number;
  /** That a pack would take which has only the needed records that the index finds here; 0: none. */
  readonly liveBytes: number;
  /** It must stay as it is: a session relies on it, or it has remains of a needed record that is lost. */
  readonly isKept: boolean;
  /** A session relies on it: a later collection finds it free. */
  readonly isPinned: boolean;
}

export interface Victims {
  /** Nothing in them is needed. */
  readonly dead: readonly PackStanding[];
  /** What is needed of them is written again; by kind, then those first that free the most for the least. */
  readonly rewritten: readonly PackStanding[];
}

/** To free a byte, at most three are written. */
const DEAD_PART_MIN = 0.25;
/** A store of years would have a file for each small session. */
const SMALL_PART = 1 / 8;

/** @param packBytesTarget of a full pack; small packs are joined once they fill one */
export function chooseVictims(packs: readonly PackStanding[], packBytesTarget: number): Victims {
  const free = packs.filter(({ isKept }) => !isKept);
  const dead = free.filter(({ liveBytes }) => liveBytes === 0);
  const needed = free.filter(({ liveBytes }) => liveBytes > 0);
  const sparse = needed.filter((pack) => livePart(pack) <= 1 - DEAD_PART_MIN);
  const dense = needed.filter((pack) => livePart(pack) > 1 - DEAD_PART_MIN);
  const small = [...new Set(dense.map(({ kind }) => kind))].flatMap((kind) => {
    const ofKind = dense.filter(
      (pack) => pack.kind === kind && pack.liveBytes < packBytesTarget * SMALL_PART,
    );
    const joinedBytes = ofKind.reduce((sum, { liveBytes }) => sum + liveBytes, 0);
    return joinedBytes >= packBytesTarget ? ofKind : [];
  });
  const rewritten = [...sparse, ...small].sort(
    (a, b) => a.kind - b.kind || livePart(a) - livePart(b) || a.number - b.number,
  );
  return { dead, rewritten };
}

/** What they take now, less what of them is written again. */
export function freeableBytes({ dead, rewritten }: Victims): number {
  return [...dead, ...rewritten].reduce((sum, { sizeBytes, liveBytes }) => sum + sizeBytes - liveBytes, 0);
}

function livePart({ liveBytes, sizeBytes }: PackStanding): number {
  return liveBytes / sizeBytes;
}
