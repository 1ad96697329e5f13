/** How a device is backed up: `[defaults]`, and each `[[device]]`. */
import { z } from 'zod';
import { BLOCK_SIZE_MAX, BLOCK_SIZE_MIN } from '../../domain/base/limits.js';
import { parseSize } from '../../domain/base/quantities.js';
import { PROVIDER_NAMES } from '../../domain/device/provider-names.js';
import { parseSchedule } from '../../domain/order/schedule.js';
import { PATCH_MODES } from '../../domain/session/patching.js';
import { parseRateLimit } from '../../domain/session/rate-limit.js';
import { type Fields, optional, parsedBy, preset, required, type Settings } from './kinds.js';
import { staleAfterField } from './monitor.js';
import { absolutePath, flag, paths, period, seconds, wholeNumber } from './values.js';

const MINUTE_MS = 60_000;
/** In ms. */
const graceTime: z.ZodType<number> = z
  .number()
  .min(0)
  .max(86_400)
  .transform((value) => Math.round(value * 1000));
const words = (names: readonly string[]): string => names.map((name) => JSON.stringify(name)).join(', ');

const blockSize = parsedBy((text) => parseSize('block size', text)).refine(
  (bytes) => bytes >= BLOCK_SIZE_MIN && bytes <= BLOCK_SIZE_MAX && Math.log2(bytes) % 1 === 0,
);

/** Those that `[defaults]` has too. */
export const deviceDefaults = {
  enabled: preset(flag, {
    about: 'Whether it is backed up at all, by schedule or by order.',
    ...{ allowed: 'true or false', preset: true, example: false },
  }),
  schedule: optional(parsedBy(parseSchedule), {
    about:
      'When its backups begin: calendar expressions as systemd has them, separated by semicolons, or an interval.',
    allowed: 'a schedule, as "daily", "Mon..Fri 02:00", "02:00,14:00" or "every 6h"',
    ...{ example: 'Mon..Fri 02:00', otherwise: 'only on demand, and by order of a receiver' },
  }),
  'random-delay': preset(period(0), {
    about:
      'The most by which its scheduled backups are delayed. The delay differs between devices and machines, and stays the same for a device.',
    ...{ allowed: 'a period, as "30m"', preset: '0m', example: '30m' },
  }),
  retries: preset(wholeNumber(0, 100), {
    about: 'How often a failed backup is tried again before its next time, after 5, 10, 20 … 60 minutes.',
    ...{ allowed: 'a number from 0 to 100', preset: 5, example: 3 },
  }),
  'full-every': optional(period(MINUTE_MS), {
    about: 'How often a scheduled backup reads everything, even if it is known what changed.',
    ...{ allowed: 'a period, as "30d"', example: '30d', otherwise: 'never' },
  }),
  'stale-after': staleAfterField,
  receiver: optional(z.string().max(2048).startsWith('https://'), {
    about: 'The enrolled receiver that its scheduled backups go to. Not together with `store`.',
    ...{ allowed: 'the URL of a receiver, as "https://backup.example.net:8440"' },
    ...{ example: 'https://backup.example.net:8440', otherwise: '`store`, or the default receiver' },
  }),
  store: optional(absolutePath, {
    about: 'The directory of a store that its scheduled backups go to, without a network.',
    ...{ allowed: 'an absolute path', example: '/mnt/backup/store', otherwise: 'that of the agent' },
  }),
  orders: preset(flag, {
    about: 'Whether receivers may order its backups.',
    ...{ allowed: 'true or false', preset: true, example: false },
  }),
  provider: optional(z.enum(PROVIDER_NAMES), {
    about: 'Where the static view comes from.',
    ...{ allowed: `one of ${words(PROVIDER_NAMES)}`, example: 'live', otherwise: 'the best available' },
  }),
  freeze: preset(z.union([z.enum(['auto', 'none']), paths.min(1)]), {
    about: 'Which file systems are frozen for the instant: those on the device, none, or these mount points.',
    ...{ allowed: '"auto", "none" or a list of mount points', preset: 'auto', example: ['/srv'] },
  }),
  'freeze-deadline': optional(seconds, {
    about: 'The longest time that a freeze may last.',
    ...{ allowed: 'a number above 0', unit: 'seconds', example: 5, otherwise: '10; 0.5 for live copies' },
  }),
  hooks: preset(paths, {
    about: 'Programs that bring applications to rest for the instant.',
    ...{ allowed: 'a list of absolute paths', preset: [], example: ['/etc/stillpoint/hooks/postgresql'] },
  }),
  'hook-deadline': optional(seconds, {
    about: 'The time for a hook to be ready, and to end.',
    ...{ allowed: 'a number above 0', unit: 'seconds', example: 60, otherwise: '60' },
  }),
  quiet: optional(seconds, {
    about: 'Take the instant after this time without a write.',
    ...{ allowed: 'a number above 0', unit: 'seconds', example: 2, otherwise: 'not waited for' },
  }),
  'quiet-deadline': preset(seconds, {
    about: 'The longest time to wait for `quiet`.',
    ...{ allowed: 'a number above 0', unit: 'seconds', preset: 60, example: 120 },
  }),
  announce: optional(z.union([z.literal('wall'), absolutePath]), {
    about:
      'Who tells users before the instant, and when it is over: `wall`, or a program that is given the message.',
    allowed: '"wall" or an absolute path',
    ...{ example: 'wall', otherwise: 'nobody is told' },
  }),
  grace: preset(graceTime, {
    about: 'With `announce`: how long before the instant users are told.',
    ...{ allowed: 'a number from 0 to 86400', unit: 'seconds', preset: 120, example: 300 },
  }),
  'announce-required': preset(flag, {
    about: 'With `announce`: no backup if nobody could be told.',
    ...{ allowed: 'true or false', preset: false, example: true },
  }),
  partitions: optional(z.array(wholeNumber(1, 1024)).min(1).max(256), {
    about: 'Of a disk only these partitions, and all that is outside of partitions.',
    allowed: 'a list of numbers of partitions',
    ...{ example: [1, 3], otherwise: 'all' },
  }),
  'exclude-partitions': preset(z.array(wholeNumber(1, 1024)).max(256), {
    about: 'Partitions of a disk that are left out.',
    allowed: 'a list of numbers of partitions',
    ...{ preset: [], example: [2] },
  }),
  'exclude-swap': preset(flag, {
    about: 'Whether the content of swap partitions of a disk is left out.',
    ...{ allowed: 'true or false', preset: false, example: true },
  }),
  'block-size': optional(blockSize, {
    about: 'The size of the blocks that are compared and sent.',
    allowed: 'a size from "4K" to "4M", a power of two',
    ...{ example: '64K', otherwise: "the last point's, else 64K" },
  }),
  compression: preset(z.union([z.literal('auto'), wholeNumber(0, 19)]), {
    about: 'The zstd level, 0 for none. "auto" is higher on a slower link.',
    ...{ allowed: '"auto" or a number from 0 to 19', preset: 'auto', example: 3 },
  }),
  patch: preset(z.enum(PATCH_MODES), {
    about: 'Whether only the changed parts of a block are sent. "auto" does so when it saves time.',
    ...{ allowed: `one of ${words(PATCH_MODES)}`, preset: 'auto', example: 'never' },
  }),
  'limit-rate': optional(parsedBy(parseRateLimit), {
    about: 'Most bytes a second, both ways, by local time if desired. It does not apply to a directory.',
    allowed: 'a rate, as "500K", "10Mbit" or "08:00-18:00=56kbit,10M"',
    ...{ example: '08:00-18:00=56kbit,10M', otherwise: 'no limit' },
  }),
  fuzzy: preset(flag, {
    about: 'Continue although the device is being written to; the point is labelled fuzzy.',
    ...{ allowed: 'true or false', preset: false, example: true },
  }),
} satisfies Fields;

export const deviceFields = {
  name: optional(z.string().min(1).max(64), {
    about:
      'The name of its points. For a path with wildcards it is a template: `{}` stands for what the wildcards match.',
    allowed: 'letters, digits, dot, dash, underscore, up to 64; with `{}` for wildcards',
    ...{ example: 'vm-{}', otherwise: 'made from the path' },
  }),
  path: required(absolutePath, {
    about:
      'The device or image, by a stable name. With `*`, `?` or `[…]` it stands for all that match, each a device of its own.',
    ...{ allowed: 'an absolute path', example: '/dev/disk/by-id/ata-DISK_1' },
  }),
  exclude: preset(paths, {
    about: 'Paths that the wildcards of `path` are not to match; with wildcards themselves.',
    allowed: 'a list of absolute paths',
    ...{ preset: [], example: ['/dev/disk/by-id/*-part*'] },
  }),
  ...deviceDefaults,
} satisfies Fields;

export type DeviceEntry = Settings<typeof deviceFields>;
