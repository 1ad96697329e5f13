/**
 * The plan of a session, and its base: decided here from plain facts, carried out in src/agent/backup.
 *
 * A plan is made once, before the static view is held. The receiver has the last word on the base, when the
 * session begins. The base tree must be that of the receiver's last point, since the session sends the
 * difference to exactly that point. A local tree is a cache: if it is not certainly the right one, the device
 * is digested and compared with the point, which rebuilds the tree.
 */

import { StillpointError } from '../base/errors.js';
import { BLOCK_SIZE_DEFAULT } from '../base/limits.js';
import { type Geometry, sameGeometry } from '../blocks/geometry.js';
import { type Point, pointLabel } from '../point/point.js';

/** What the agent holds for the device. */
export interface LocalBase {
  readonly tree: { readonly pointId: string; readonly root: string; readonly geometry: Geometry } | null;
  /** A sealed overlay: a session that may or may not have been committed before the agent died. */
  readonly pending: { readonly pointId: string; readonly root: string; readonly baseRoot: string } | null;
  /** Why there is no tree although there should be one (it is damaged, for example). */
  readonly problem: string | null;
}

export interface BasePlan {
  /**
   * `use-local`: the local tree is the last point's. `apply-pending`: it is, once the pending overlay is
   * applied. `compare`: the device's digests with the receiver's. `empty`: there is no point yet.
   * `new-chain`: there is one, of another block size.
   */
  readonly start: 'use-local' | 'apply-pending' | 'compare' | 'empty' | 'new-chain';
  /** A clause for the user. */
  readonly reason: string;
}

export interface PlanFacts {
  readonly local: LocalBase;
  /** The device's last point at the receiver. */
  readonly last: Point | null;
  /** That was asked for, in bytes. */
  readonly blockSize: number | undefined;
  /** To read everything was asked for. */
  readonly full: boolean;
  /** Why an earlier attempt did not believe what was known of changes; null: none has doubted it. */
  readonly doubt: string | null;
}

export interface SessionPlan {
  readonly blockSize: number;
  readonly base: BasePlan;
  /** The last point, where changes since then would do. */
  readonly changesSince: Point | null;
  /** Read everything, whatever is known of changes. */
  readonly readsAll: boolean;
  /** What the user should know before it begins, as a sentence without its end; null: nothing. */
  readonly notice: string | null;
}

export function planSession({ local, last, doubt, full, ...wanted }: PlanFacts): SessionPlan {
  const blockSize = wanted.blockSize ?? last?.geometry.blockSize ?? BLOCK_SIZE_DEFAULT;
  const base = planBase(local, last, blockSize);
  const hasLostPoints = last === null && holdsPoint(local) && doubt === null;
  // What could not be read last time is tried again.
  const hasBadBlocks = (last?.badRanges.length ?? 0) > 0;
  return {
    blockSize,
    base,
    changesSince: last?.geometry.blockSize === blockSize ? last : null,
    readsAll: full || base.start === 'compare' || doubt !== null || hasBadBlocks,
    notice: hasLostPoints ? `${base.reason}; everything that it does not hold is sent` : null,
  };
}

function planBase(local: LocalBase, last: Point | null, blockSize: number): BasePlan {
  if (last === null) {
    const reason = holdsPoint(local)
      ? 'the receiver no longer has any point of the device'
      : 'the device has no point yet';
    return { start: 'empty', reason };
  }
  if (last.geometry.blockSize !== blockSize) {
    const reason = `the block size is ${blockSize}, but ${last.geometry.blockSize} in point ${pointLabel(last)}`;
    return { start: 'new-chain', reason };
  }
  const { tree, pending } = local;
  if (tree !== null && isOf(tree, last)) {
    return { start: 'use-local', reason: 'the local tree is that of the last point' };
  }
  if (
    tree !== null &&
    pending !== null &&
    pending.pointId === last.id &&
    pending.root === last.root &&
    pending.baseRoot === tree.root
  ) {
    const reason = 'the last session was committed, but the local tree was not updated yet';
    return { start: 'apply-pending', reason };
  }
  return { start: 'compare', reason: whyNot(local, last) };
}

export interface SettleFacts {
  readonly device: string;
  readonly local: LocalBase;
  readonly last: Point | null;
  /** The base that the receiver answered the begin with. */
  readonly answered: Point | null;
}

/**
 * The plan's base, after the receiver has said what it goes on from.
 * @returns also what the point is to warn of; null: nothing
 * @throws StillpointError `base-mismatch` if that is not a base for this block size
 */
export function settleBase(
  { base, blockSize }: SessionPlan,
  { device, local, last, answered }: SettleFacts,
): { readonly base: BasePlan; readonly warning: string | null } {
  if (base.start === 'new-chain' || answered?.id === last?.id) return { base, warning: null };
  const settled = planBase(local, answered, blockSize);
  if (settled.start === 'new-chain') throw overtaken(device);
  if (settled.start !== 'empty') return { base: settled, warning: null };
  const reason = 'the receiver has lost parts of the last point, so everything that it does not hold is sent';
  return { base: { ...settled, reason }, warning: reason };
}

/** True where the receiver is told which point the local tree describes. */
export function knowsBase({ start }: BasePlan): boolean {
  return start === 'use-local' || start === 'apply-pending';
}

/**
 * Size in bytes of the session's base, where the device has another one now: the tree is
 * resized from it. Else null.
 */
export function resizedFrom(base: Point | null, { sizeBytes }: Pick<Geometry, 'sizeBytes'>): number | null {
  return base === null || base.geometry.sizeBytes === sizeBytes ? null : base.geometry.sizeBytes;
}

/**
 * What is known of changes since the last point says what differs from the session's base: changes since one
 * point are nothing to another.
 */
export function changesCount(base: Point | null, last: Point | null, device: Geometry): boolean {
  return base !== null && base.id === last?.id && resizedFrom(base, device) === null;
}

/** A tree is made before the first point is there. */
export function holdsPoint({ tree }: LocalBase): boolean {
  return tree !== null && !/^0+$/.test(tree.pointId);
}

function isOf(tree: NonNullable<LocalBase['tree']>, point: Point): boolean {
  return tree.pointId === point.id && tree.root === point.root && sameGeometry(tree.geometry, point.geometry);
}

function whyNot(local: LocalBase, last: Point): string {
  if (local.problem !== null) return local.problem;
  if (local.tree === null) return 'there is no local tree';
  if (local.tree.pointId === last.id) return `the local tree contradicts point ${pointLabel(last)}`;
  return `the local tree is not that of the last point ${pointLabel(last)}`;
}

function overtaken(device: string): StillpointError {
  return new StillpointError('base-mismatch', {
    thing: `device ${device}`,
    reason: 'another backup of it was committed at the same moment',
    remedy: 'Check that no other machine backs up under the same name, and try again.',
    permanent: false,
  });
}
