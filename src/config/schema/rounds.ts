/** What the receiver begins by itself: `[[schedule]]`, and `[dial]`. */
import { z } from 'zod';
import { parseHostPort } from '../../domain/base/addresses.js';
import { ROUND_PARALLEL_MAX } from '../../domain/base/limits.js';
import { parseSchedule } from '../../domain/order/schedule.js';
import { type Fields, optional, parsedBy, preset, required } from './kinds.js';
import { nameOf, wholeNumber } from './values.js';

export const receiverRounds = {
  schedule: {
    kind: 'list',
    about: 'Rounds: the receiver has its agents back up what they offer.',
    most: 16,
    fields: {
      name: preset(nameOf('schedule name'), {
        about: 'Tells it from others.',
        ...{
          allowed: 'letters, digits, dot, dash, underscore, up to 64',
          preset: 'default',
          example: 'nightly',
        },
      }),
      at: required(parsedBy(parseSchedule), {
        about: 'When rounds begin.',
        allowed: 'a schedule, as "daily", "Mon..Fri 02:00", "02:00,14:00" or "every 6h"',
        example: 'Mon..Fri 02:00',
      }),
      agents: optional(z.array(nameOf('agent name')).min(1).max(1024), {
        about: 'Which agents.',
        ...{ allowed: 'a list of names', example: ['web1', 'db1'], otherwise: 'all that are enrolled' },
      }),
      parallel: preset(wholeNumber(1, ROUND_PARALLEL_MAX), {
        about: 'How many backups run at once.',
        ...{ allowed: `a number from 1 to ${ROUND_PARALLEL_MAX}`, preset: 1, example: 3 },
      }),
      wait: preset(wholeNumber(0, 86_400), {
        about: 'How long agents that are not connected are waited for.',
        ...{ allowed: 'a number from 0 to 86400', unit: 'seconds', preset: 30, example: 120 },
      }),
      retries: preset(wholeNumber(0, 10), {
        about: 'How often a round goes back to what failed, before the next one is due.',
        ...{ allowed: 'a number from 0 to 10', preset: 2, example: 0 },
      }),
    },
  },
  dial: {
    kind: 'named',
    about: 'Agents that only listen: the receiver opens the connections.',
    names: "the agent's name",
    most: 1024,
    each: required(parsedBy(parseHostPort), {
      about: 'Where the agent listens.',
      ...{ allowed: 'HOST:PORT', example: 'web1.example.net:8441' },
    }),
  },
} satisfies Fields;
