/**
 * The meter and the rate limit of a client's link. They are made for each piece of work, since a link may
 * change between two.
 */
import { LinkMeter } from '../../domain/session/link-meter.js';
import { type RateSchedule, rateAt } from '../../domain/session/rate-limit.js';
import { Pacer } from './pacer.js';

export interface MeasuredLink {
  readonly meter: LinkMeter;
  /** Undefined: no limit. */
  readonly pacer: Pacer | undefined;
}

/** @param shared the pacer of others that are held to the same limit together with it */
export function measuredLink(limitRate?: RateSchedule | null, shared?: Pacer): MeasuredLink {
  const limit = limitRate == null ? undefined : () => rateAt(limitRate, Date.now());
  return {
    meter: new LinkMeter({ now: () => performance.now(), ...(limit && { limit }) }),
    pacer: shared ?? pacerOf(limitRate),
  };
}

/** Undefined: no limit. */
export function pacerOf(limitRate?: RateSchedule | null): Pacer | undefined {
  return limitRate == null ? undefined : new Pacer({ limit: () => rateAt(limitRate, Date.now()) });
}
