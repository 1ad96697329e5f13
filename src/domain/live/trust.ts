/** Whether marks of written blocks can be believed. Pure. */

/** What can make them doubtful; each number only grows. */
export interface TrackFacts {
  readonly passedThrough: number;
  readonly notNoted: number;
  readonly queueMisses: number;
}

/** @returns why writes since then may have no mark, a clause; null: all have one. */
export function whyMarksMiss(since: TrackFacts, now: TrackFacts): string | null {
  if (now.passedThrough !== since.passedThrough)
    return 'a program wrote to it past the block layer, with commands of its own for the drive';
  if (now.notNoted !== since.notNoted) return 'more writes were in flight than can be noted';
  if (now.queueMisses !== since.queueMisses) return 'the kernel has not shown every write';
  return null;
}
