/** Several devices with one instant: each `[[group]]`. */
import { z } from 'zod';
import { GROUP_MEMBERS_MAX } from '../../domain/base/limits.js';
import { deviceDefaults } from './device.js';
import { type Fields, preset, required, type Settings } from './kinds.js';
import { nameOf } from './values.js';

const THAT_OF_MEMBERS = 'that of its members, if they all have the same';

export const groupFields = {
  name: required(nameOf('group name'), {
    about: 'The name of its points. No device has it.',
    ...{ allowed: 'letters, digits, dot, dash, underscore, up to 64', example: 'db' },
  }),
  members: required(z.array(nameOf('device name')).min(2).max(GROUP_MEMBERS_MAX), {
    about: 'The names of its devices. Each has a `[[device]]` of its own, without wildcards.',
    ...{ allowed: `a list of 2 to ${GROUP_MEMBERS_MAX} names of devices`, example: ['data', 'wal'] },
  }),
  missing: preset(z.enum(['fail', 'leave-out']), {
    about: 'What becomes of a backup if a device is not there or can not take part: none, or one without it.',
    ...{ allowed: '"fail" or "leave-out"', preset: 'fail', example: 'leave-out' },
  }),
  enabled: { ...deviceDefaults.enabled, about: 'Whether it is backed up by schedule.' },
  schedule: { ...deviceDefaults.schedule, otherwise: 'only on demand' },
  'random-delay': {
    ...deviceDefaults['random-delay'],
    about: 'The most by which its scheduled backups are delayed. The delay stays the same for a group.',
  },
  retries: deviceDefaults.retries,
  'full-every': deviceDefaults['full-every'],
  'stale-after': {
    ...deviceDefaults['stale-after'],
    about: 'When its last point is too old. It counts for groups with a schedule.',
  },
  receiver: {
    ...deviceDefaults.receiver,
    about: 'The enrolled receiver that its backups go to. Not together with `store`.',
    otherwise: THAT_OF_MEMBERS,
  },
  store: {
    ...deviceDefaults.store,
    about: 'The directory of a store that its backups go to, without a network.',
    otherwise: THAT_OF_MEMBERS,
  },
  freeze: {
    ...deviceDefaults.freeze,
    about:
      'Which file systems are frozen for the instant: those on its devices, none, or these mount points.',
  },
  'freeze-deadline': {
    ...deviceDefaults['freeze-deadline'],
    otherwise: '10; with live copies 0.5 for each device',
  },
  hooks: deviceDefaults.hooks,
  'hook-deadline': deviceDefaults['hook-deadline'],
  quiet: deviceDefaults.quiet,
  'quiet-deadline': deviceDefaults['quiet-deadline'],
  announce: deviceDefaults.announce,
  grace: deviceDefaults.grace,
  'announce-required': deviceDefaults['announce-required'],
  'limit-rate': { ...deviceDefaults['limit-rate'], otherwise: THAT_OF_MEMBERS },
} satisfies Fields;

export type GroupEntry = Settings<typeof groupFields>;
