/** What happens to points and to what is kept: the log and an audit log are told. */
import { type Point, pointLabel } from '../../domain/point/point.js';
import type { Pin, RetentionSettings } from '../../domain/retention/settings.js';
import type { RetentionWish } from './messages.js';

export type RetentionEvent =
  | {
      readonly type: 'point-removed';
      readonly by: 'prune' | 'forget';
      readonly agent: string;
      readonly device: string;
      readonly sequence: number;
      readonly pointId: string;
      readonly committedAt: string;
      readonly reasons: readonly string[];
    }
  | {
      readonly type: 'journal-removed';
      readonly agent: string;
      readonly device: string;
      readonly journalId: string;
      readonly bytes: number;
    }
  | ({ readonly type: 'point-pinned' } & Pin)
  | { readonly type: 'point-unpinned'; readonly pointId: string }
  | { readonly type: 'retention-set'; readonly settings: Omit<RetentionSettings, 'pins'> }
  | { readonly type: 'clock-confirmed' }
  | { readonly type: 'retention-reset' };

/** A wish, and the names of what it is about: of several points those of the first one. */
export interface NamedWish {
  readonly to: RetentionWish['to'];
  readonly agent?: string | null;
  readonly device?: string | null;
  readonly point?: string;
  readonly pointCount?: number;
}

/** @throws StillpointError `point-unknown` */
export async function namedWish(
  wish: RetentionWish,
  findPoint: (pointId: string) => Promise<Point>,
): Promise<NamedWish> {
  const ids = 'pointIds' in wish ? wish.pointIds : 'pointId' in wish ? [wish.pointId] : [];
  const [id] = ids;
  if (id === undefined) return wish;
  const { agent, device, sequence } = await findPoint(id);
  return { to: wish.to, agent, device, point: pointLabel({ device, sequence }), pointCount: ids.length };
}
