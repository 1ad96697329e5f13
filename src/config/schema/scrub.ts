/** `[scrub]`: the receiver reads back what it stores. */
import { SCRUB_PERIOD_MS_MIN } from '../../domain/base/limits.js';
import { parsePeriod } from '../../domain/base/quantities.js';
import { parseRateLimit } from '../../domain/session/rate-limit.js';
import { type Fields, optional, parsedBy } from './kinds.js';

/** 0: off. */
const scrubPeriod = parsedBy((text) =>
  text === 'off' ? 0 : parsePeriod('period', text, SCRUB_PERIOD_MS_MIN),
);

export const receiverScrub = {
  scrub: {
    kind: 'table',
    about: 'How the receiver reads back what it stores, to find damage.',
    fields: {
      period: optional(scrubPeriod, {
        about: 'Within what time all is read once.',
        ...{ allowed: '"off" or a period of at least 1h, as "30d"', example: '2w' },
        otherwise: 'as `receiver init` was told, else 30d',
      }),
      rate: optional(parsedBy(parseRateLimit), {
        about: 'Most bytes a second that it reads, by local time if desired.',
        allowed: 'a rate, as "50M" or "08:00-18:00=10M,100M"',
        ...{ example: '08:00-18:00=10M,100M', otherwise: 'as `receiver serve` chooses' },
      }),
    },
  },
} satisfies Fields;
