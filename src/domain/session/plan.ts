/**
 * Which digest tree a session compares with: decided here from plain facts, carried out in src/agent/backup/base.ts.
 * The tree must be that of the receiver's last point, since what the session sends is a difference to exactly that point. A local
 * tree is a cache: where it is not certainly the right one, the device is digested and compared with the point, which makes it anew.
 */

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
   * `use-local`: the local tree is the last point's. `apply-pending`: it is, once the pending overlay is applied. `compare`: the
   * device's digests with the receiver's. `empty`: there is no point yet. `new-chain`: there is one, of another block size.
   */
  readonly start: 'use-local' | 'apply-pending' | 'compare' | 'empty' | 'new-chain';
  /** Size in bytes of the last point, where the device has another one now: the tree is resized from it. Else null. */
  readonly resizeFrom: number | null;
  /** A clause for the user. */
  readonly reason: string;
}

export function planBase(local: LocalBase, last: Point | null, device: Geometry): BasePlan {
  if (last === null) {
    const reason = holdsPoint(local)
      ? 'the receiver no longer has any point of the device'
      : 'the device has no point yet';
    return { start: 'empty', resizeFrom: null, reason };
  }
  if (last.geometry.blockSize !== device.blockSize) {
    return {
      start: 'new-chain',
      resizeFrom: null,
      reason: `the block size is ${device.blockSize}, but ${last.geometry.blockSize} in point ${pointLabel(last)}`,
    };
  }
  const resizeFrom = last.geometry.sizeBytes === device.sizeBytes ? null : last.geometry.sizeBytes;
  const { tree, pending } = local;
  if (tree !== null && isOf(tree, last)) {
    return { start: 'use-local', resizeFrom, reason: 'the local tree is that of the last point' };
  }
  if (
    tree !== null &&
    pending !== null &&
    pending.pointId === last.id &&
    pending.root === last.root &&
    pending.baseRoot === tree.root
  ) {
    return {
      start: 'apply-pending',
      resizeFrom,
      reason: 'the last session was committed, but the local tree was not updated yet',
    };
  }
  return { start: 'compare', resizeFrom, reason: whyNot(local, last) };
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
