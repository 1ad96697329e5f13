/** An order from start to end, and its outcome in words for the user who asked for it. */
import { StillpointError } from '../../domain/base/errors.js';
import type { Comparison } from '../../domain/order/comparison.js';
import { isEnded, type Order, type OrderWish } from '../../domain/order/order.js';
import type { Point } from '../../domain/point/point.js';
import type { OrderBook } from './orders.js';

export interface OrderResult {
  readonly point: Point;
  /** As in the point, and what went wrong after its commit. */
  readonly warnings: readonly string[];
  /** Of a comparison; then the point is the one that it made, or that was compared. */
  readonly comparison: Comparison | null;
}

export interface FollowOptions {
  /** For the agent to be connected. */
  readonly waitMs: number;
  /** Aborted: nobody waits for it any more. */
  readonly signal: AbortSignal;
  readonly onChange: (order: Order, hasJoined: boolean) => void;
  /** Why an agent is not connected, as a clause. */
  readonly whyAbsent: (agent: string) => string;
}

/** @throws StillpointError of the agent's backup; `unreachable`, `connection-lost`, `cancelled` */
export async function followOrder(
  orders: OrderBook,
  wish: OrderWish,
  options: FollowOptions,
): Promise<OrderResult> {
  const { waitMs, signal, onChange, whyAbsent } = options;
  const ended = await new Promise<Order>((resolve, reject) => {
    if (signal.aborted) return reject(cancelled(wish));
    const watch = orders.place(wish, waitMs, (order) => {
      onChange(order, watch.hasJoined);
      if (!isEnded(order)) return;
      signal.removeEventListener('abort', leave);
      resolve(order);
    });
    const leave = () => {
      watch.leave();
      reject(cancelled(wish));
    };
    signal.addEventListener('abort', leave, { once: true });
    onChange(watch.order, watch.hasJoined);
  });
  const { state, point, warnings, comparison, failure } = ended;
  if (state === 'done' && point !== null) return { point, warnings, comparison };
  if (state === 'failed' && failure !== null) {
    const { code, ...details } = failure;
    throw new StillpointError(code, details);
  }
  if (state === 'expired') throw unreachable(wish.agent, whyAbsent(wish.agent));
  if (state === 'lost') throw lost(wish);
  throw cancelled(wish);
}

export function unreachable(agent: string, reason: string): StillpointError {
  return new StillpointError('unreachable', {
    thing: `agent ${agent}`,
    reason,
    remedy:
      'Run "stillpoint agent run" on its machine; or "agent listen" there and "stillpoint receiver dial" here.',
    permanent: false,
  });
}

function lost({ agent, device }: OrderWish): StillpointError {
  return new StillpointError('connection-lost', {
    thing: `device ${device} of the agent ${agent}`,
    reason: 'the agent has not reported on its order for too long, or was restarted',
    remedy: 'See its log. If a backup still runs, its point will come.',
    permanent: false,
  });
}

function cancelled({ agent, device }: OrderWish): StillpointError {
  return new StillpointError('cancelled', {
    thing: `device ${device} of the agent ${agent}`,
    reason: 'the order was cancelled',
  });
}
