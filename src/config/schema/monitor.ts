/** `[metrics]` and `[notify]`: how others learn how an agent or a receiver is. */
import { z } from 'zod';
import { parseHostPort } from '../../domain/base/addresses.js';
import { parsePeriod, parseSize } from '../../domain/base/quantities.js';
import { eventsOf, type NoticeEvent } from '../../domain/notice/events.js';
import { type Fields, optional, parsedBy, preset, required, type Settings } from './kinds.js';
import { absolutePath, nameOf, period, wholeNumber } from './values.js';

const MINUTE_MS = 60_000;
const MAILS_MAX = 16;
const STALE_MAX = 256;

/** 0: off. */
export const periodOrOff = parsedBy((text) => (text === 'off' ? 0 : parsePeriod('period', text, MINUTE_MS)));
const PERIOD_OR_OFF = '"off" or a period, as "2d"';

/** Strict enough to be safe in the header of a message. */
const mailAddress = z
  .string()
  .max(254)
  .regex(/^[A-Za-z0-9.!#$%&'*+/=?^_{|}~-]+(@[A-Za-z0-9.-]+)?$/);

export const metricsFields = {
  metrics: {
    kind: 'table',
    about: 'Metrics for Prometheus, without encryption or access control. They count from the next start.',
    fields: {
      listen: optional(parsedBy(parseHostPort), {
        about: 'Where `/metrics` is served.',
        ...{ allowed: 'HOST:PORT', example: '127.0.0.1:9440', otherwise: 'not served' },
      }),
    },
  },
} satisfies Fields;

function notifyFields(role: 'agent' | 'receiver') {
  const events = eventsOf(role);
  return {
    command: optional(absolutePath, {
      about: 'A program that is given each notification, as JSON on its standard input.',
      ...{ allowed: 'an absolute path', example: '/etc/stillpoint/notify', otherwise: 'none' },
    }),
    webhook: optional(z.url({ protocol: /^https?$/ }).max(2048), {
      about: 'A URL that each notification is posted to, as JSON.',
      ...{ allowed: 'an http or https URL', example: 'https://hooks.example.net/stillpoint' },
      ...{ otherwise: 'none', isSecret: true },
    }),
    'webhook-token': optional(z.string().regex(/^[\x21-\x7e]{1,1024}$/), {
      about: 'What the webhook is shown, as a bearer token.',
      ...{ allowed: 'printable characters without spaces', example: 'a-long-random-token' },
      ...{ otherwise: 'nothing', isSecret: true },
    }),
    mail: preset(z.array(mailAddress).max(MAILS_MAX), {
      about: 'Whom each notification is mailed to.',
      ...{ allowed: 'a list of addresses', preset: [], example: ['ops@example.net'] },
    }),
    from: optional(mailAddress, {
      about: 'The sender of mails.',
      ...{ allowed: 'an address', example: 'stillpoint@example.net', otherwise: 'as sendmail chooses' },
    }),
    sendmail: preset(absolutePath, {
      about: 'The program that takes mails, with the options of sendmail.',
      ...{ allowed: 'an absolute path', preset: '/usr/sbin/sendmail', example: '/usr/bin/msmtp' },
    }),
    events: optional(z.array(z.enum(events as [NoticeEvent, ...NoticeEvent[]])).min(1), {
      about: 'Only these events are told of.',
      allowed: `a list of ${events.map((name) => JSON.stringify(name)).join(', ')}`,
      ...{ example: events.slice(0, 2), otherwise: 'all' },
    }),
    'repeat-after': preset(period(MINUTE_MS), {
      about: 'After what time it is told again that something is still not well.',
      ...{ allowed: 'a period, as "1d"', preset: '1d', example: '12h' },
    }),
  } satisfies Fields;
}

const ABOUT = 'Who is told if something is not well, and again when it is well: docs/monitoring.md.';

export const agentNotify = {
  notify: { kind: 'table', about: ABOUT, fields: notifyFields('agent') },
} satisfies Fields;

export const staleAfterField = preset(periodOrOff, {
  about: 'When its last point is too old. It counts for devices with a schedule.',
  ...{ allowed: PERIOD_OR_OFF, preset: '2d', example: '8d' },
});

export const receiverNotify = {
  notify: {
    kind: 'table',
    about: ABOUT,
    fields: {
      ...notifyFields('receiver'),
      'stale-after': preset(periodOrOff, {
        about: 'When the last point of a device is too old.',
        ...{ allowed: PERIOD_OR_OFF, preset: '2d', example: '36h' },
      }),
      'agent-silent-after': preset(periodOrOff, {
        about: 'When it is too long ago that an agent was heard of.',
        ...{ allowed: PERIOD_OR_OFF, preset: '1d', example: '4h' },
      }),
      'space-below': optional(
        parsedBy((text) => parseSize('size', text)),
        {
          about: "When too little is free on the store's disk.",
          ...{ allowed: 'a size, as "50G"', example: '50G', otherwise: 'not told' },
        },
      ),
      'days-left': preset(wholeNumber(0, 365), {
        about: 'When the disk will be full in fewer days than this, as the store grows. 0: not told.',
        ...{ allowed: 'a number from 0 to 365', preset: 14, example: 30 },
      }),
      stale: {
        kind: 'list',
        about: 'Another `stale-after` for an agent or a device. The nearest counts.',
        most: STALE_MAX,
        fields: {
          agent: required(nameOf('agent name'), {
            about: 'Whose devices it is for.',
            ...{ allowed: 'the name of an agent', example: 'laptop1' },
          }),
          device: optional(nameOf('device name'), {
            about: 'The one device that it is for.',
            ...{ allowed: 'the name of a device', example: 'data', otherwise: 'all of the agent' },
          }),
          after: required(periodOrOff, {
            about: 'When its last point is too old.',
            ...{ allowed: PERIOD_OR_OFF, example: '2w' },
          }),
        },
      },
    },
  },
} satisfies Fields;

export type MetricsSettings = Settings<typeof metricsFields.metrics.fields>;
export type NotifySettings = Settings<typeof agentNotify.notify.fields>;
export type ReceiverNotifySettings = Settings<typeof receiverNotify.notify.fields>;
