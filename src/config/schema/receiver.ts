/** `receiver.toml`. Each section that the receiver's parts have is a file of this folder. */
import { z } from 'zod';
import { parseHostPort } from '../../domain/base/addresses.js';
import { PARTIAL_KEEP_MS_MIN } from '../../domain/base/limits.js';
import { type Fields, optional, parsedBy, type Settings } from './kinds.js';
import { metricsFields, receiverNotify } from './monitor.js';
import { receiverRetention } from './retention.js';
import { receiverRounds } from './rounds.js';
import { receiverScrub } from './scrub.js';
import { absolutePath, period } from './values.js';

export const receiverFields = {
  store: optional(absolutePath, {
    about: "The receiver's directory, made by `receiver init`. These files apply to it alone.",
    ...{
      allowed: 'an absolute path',
      example: '/srv/stillpoint',
      otherwise: '`receiver` in the state directory',
    },
  }),
  listen: optional(
    parsedBy((text) => {
      parseHostPort(text);
      return text;
    }),
    {
      about: 'Where it listens.',
      ...{ allowed: 'HOST:PORT', example: '0.0.0.0:8440', otherwise: 'as `receiver init` was told' },
    },
  ),
  url: optional(z.string().max(2048).startsWith('https://'), {
    about: 'What agents are told to connect to.',
    ...{ allowed: 'https://HOST[:PORT]', example: 'https://backup.example.net:8440' },
    otherwise: 'as `receiver init` was told',
  }),
  'keep-partial': optional(period(PARTIAL_KEEP_MS_MIN), {
    about: 'How long unfinished backups are kept after their last message.',
    ...{
      allowed: 'a period of at least 1h, as "7d"',
      example: '2w',
      otherwise: 'as `receiver init` was told, else 7d',
    },
  }),
  ...receiverRounds,
  ...receiverRetention,
  ...receiverScrub,
  ...metricsFields,
  ...receiverNotify,
} satisfies Fields;

export type ReceiverFileSettings = Settings<typeof receiverFields>;
