/** `agent.toml`. */
import { z } from 'zod';
import { GROUPS_MAX, OFFERS_MAX } from '../../domain/base/limits.js';
import { deviceDefaults, deviceFields } from './device.js';
import { groupFields } from './group.js';
import { type Fields, optional, preset, type Settings } from './kinds.js';
import { agentNotify, metricsFields } from './monitor.js';
import { absolutePath, wholeNumber } from './values.js';

export const agentFields = {
  state: optional(absolutePath, {
    about: 'Where this machine keeps enrolments, digest trees and what it remembers of runs.',
    allowed: 'an absolute path',
    ...{
      example: '/var/lib/stillpoint',
      otherwise: 'as `--state` or STILLPOINT_STATE says, else the usual place',
    },
  }),
  receivers: optional(z.array(z.string().max(2048).startsWith('https://')).max(16), {
    about: 'The receivers that orders are taken from. The machine must be enrolled with them.',
    allowed: 'a list of URLs',
    ...{ example: ['https://backup.example.net:8440'], otherwise: 'all that the machine is enrolled with' },
  }),
  store: optional(absolutePath, {
    about: 'The directory of a store that scheduled backups go to, instead of a receiver.',
    ...{ allowed: 'an absolute path', example: '/mnt/backup/store', otherwise: 'the default receiver' },
  }),
  parallel: preset(wholeNumber(1, 64), {
    about: 'How many backups run at once.',
    ...{ allowed: 'a number from 1 to 64', preset: 4, example: 2 },
  }),
  limits: {
    kind: 'table',
    about: 'What the daemon may take from the machine.',
    fields: {
      'cpu-nice': preset(wholeNumber(0, 19), {
        about: 'The niceness of the daemon: 19 gives way to all others.',
        ...{ allowed: 'a number from 0 to 19', preset: 0, example: 10 },
      }),
      'io-class': optional(z.enum(['best-effort', 'idle']), {
        about:
          'The I/O class of the daemon, as ionice(1) sets it. It needs a scheduler of the disk that knows classes.',
        ...{ allowed: '"best-effort" or "idle"', example: 'idle', otherwise: 'as the system gives it' },
      }),
    },
  },
  ...metricsFields,
  ...agentNotify,
  defaults: {
    kind: 'table',
    about: 'What applies to all devices that do not say otherwise.',
    fields: deviceDefaults,
  },
  device: {
    kind: 'list',
    about: 'A device or image that is backed up, or several by wildcards.',
    fields: deviceFields,
    most: OFFERS_MAX,
  },
  group: {
    kind: 'list',
    about: 'Several devices that are backed up with one instant. `[defaults]` counts for its devices alone.',
    fields: groupFields,
    most: GROUPS_MAX,
  },
} satisfies Fields;

export type AgentSettings = Settings<typeof agentFields>;
