/**
 * What an instant is worth. The kind is the one that was reached, the worst of all members:
 *
 * | kind          | there was               | and                                                         |
 * |---------------|-------------------------|-------------------------------------------------------------|
 * | `application` | a hook, or several      | all of them ended well, and no freeze that was begun failed |
 * |               |                         | or broke                                                    |
 * | `filesystem`  | a frozen file system    | all writable ones were frozen, the whole time               |
 * | `idle`        | quiet, or nobody writes | nothing was written for as long as was asked                |
 * | `crash`       | anything else           |                                                             |
 */
import { type ConsistencyKind, worstKind } from '../domain/point/point.js';
import type { Cut, Member } from './ports.js';
import type { Rested } from './quiesce/rest.js';

/** @param wasQuiet so long as was asked, also while it was taken; false: nobody asked */
export function reachedKind(
  members: readonly Member[],
  cuts: readonly Cut[],
  rested: Rested,
  wasQuiet: boolean,
): ConsistencyKind {
  const unfrozen = wasQuiet ? 'idle' : 'crash';
  const kinds = cuts.map(({ kind }, index): ConsistencyKind => {
    const frozen = rested.isFilesystem[index] === true ? 'filesystem' : unfrozen;
    const reached = rested.isApplication ? 'application' : frozen;
    const barrier = members[index]?.barrier;
    if (kind === null) return reached;
    if (barrier === 'cut') return reached === 'application' || kind === 'crash' ? reached : kind;
    return barrier === 'unused' ? kind : worstKind([kind, reached]);
  });
  return worstKind(kinds);
}
