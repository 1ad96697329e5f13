/** An error as a fact, to be told to another process or kept. */
import { isStillpointError, StillpointError } from '../../domain/base/errors.js';
import { systemError } from '../../domain/base/system-errors.js';
import type { OrderFailure } from '../../domain/order/order.js';

export function failureOf(error: unknown): OrderFailure {
  const known = isStillpointError(error)
    ? error
    : (systemError(error, { thing: 'agent', place: 'process' }) ??
      new StillpointError('internal', {
        thing: 'agent',
        reason: `it failed for an unknown reason: ${(error as Error).message}`,
        remedy: 'See its log.',
      }));
  const { code, thing, reason, remedy, permanent } = known;
  return { code, thing, reason, permanent, ...(remedy === undefined ? {} : { remedy }) };
}

/** As a line of a log or a table. */
export function failureText({ thing, reason }: Pick<OrderFailure, 'thing' | 'reason'>): string {
  return `${thing}: ${reason}`;
}
