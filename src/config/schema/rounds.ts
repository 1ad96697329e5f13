/** What the receiver begins by itself: `[[schedule]]`; `[[group]]`, and `[dial]`. */
import { z } from 'zod';
import { parseHostPort } from '../../domain/base/addresses.js';
import { GROUP_MEMBERS_MAX, GROUPS_MAX, ROUND_PARALLEL_MAX } from '../../domain/base/limits.js';
import { parseMember } from '../../domain/order/receiver-group.js';
import { parseSchedule } from '../../domain/order/schedule.js';
import { type Fields, optional, parsedBy, preset, required } from './kinds.js';
import { nameOf, wholeNumber } from './values.js';

export const receiverRounds = {
  schedule: {
    kind: 'list',
    about: 'Rounds: the receiver has its agents back up what they offer, and its groups.',
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
        about: 'Which agents. With these and without `groups`, no group is backed up.',
        ...{ allowed: 'a list of names', example: ['web1', 'db1'] },
        otherwise: 'all that are enrolled; with `groups` none',
      }),
      groups: optional(z.array(nameOf('group name')).min(1).max(GROUPS_MAX), {
        about: 'Which groups of the receiver. Their members are not backed up alone as well.',
        ...{ allowed: 'a list of names', example: ['db'], otherwise: 'all; with `agents` none' },
      }),
      parallel: preset(wholeNumber(1, ROUND_PARALLEL_MAX), {
        about: 'How many backups run at once. A group counts as one.',
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
  group: {
    kind: 'list',
    about: 'Devices of several agents that are backed up at one common instant.',
    most: GROUPS_MAX,
    fields: {
      name: required(nameOf('group name'), {
        about: 'The name of its points. No device of its agents has it.',
        ...{ allowed: 'letters, digits, dot, dash, underscore, up to 64', example: 'db' },
      }),
      members: required(z.array(parsedBy(parseMember)).min(1).max(GROUP_MEMBERS_MAX), {
        about: 'The agents and their devices, as the agents offer them.',
        ...{ allowed: `a list of 1 to ${GROUP_MEMBERS_MAX} AGENT/DEVICE`, example: ['db1/data', 'db2/log'] },
      }),
      missing: preset(z.enum(['fail', 'leave-out']), {
        about:
          'What becomes of a backup if an agent is not there or can not take part: none, or one without it.',
        ...{ allowed: '"fail" or "leave-out"', preset: 'fail', example: 'leave-out' },
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
