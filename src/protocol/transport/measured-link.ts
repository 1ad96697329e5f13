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

export function measuredLink(limitRate?: RateSchedule | null): MeasuredLink {
  const limit = limitRate == null ? undefined : () => rateAt(limitRate, Date.now());
  return {
    meter: new LinkMeter({ now: () => performance.now(), ...(limit && { limit }) }),
    pacer: limit && new Pacer({ limit }),
  };
}
