/** The options that tell users of an instant. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { StillpointError } from '../../domain/base/errors.js';
import { type AnnounceWish, GRACE_DEFAULT_MS } from '../../domain/device/announce-wish.js';

export interface AnnounceOptions {
  readonly announce?: string;
  readonly grace?: number;
  readonly announceRequired?: boolean;
}

const GRACE_MAX_MS = 24 * 60 * 60_000;
const UNIT_MS: Readonly<Record<string, number>> = { s: 1000, m: 60_000, h: 3_600_000 };

export function addAnnounceOptions(command: Command): Command {
  return command
    .option(
      '--announce <how>',
      'tell users before the instant, and when it is over: "wall", or a program that is given the message',
    )
    .addOption(
      new Option(
        '--grace <time>',
        'with --announce: how long before, as 30s, 2m or 0 (default: 2m)',
      ).argParser(parseGrace),
    )
    .option('--announce-required', 'with --announce: no backup if nobody could be told');
}

/** @throws StillpointError `usage` */
export function announceWish(options: AnnounceOptions): AnnounceWish | undefined {
  const { announce, grace = GRACE_DEFAULT_MS, announceRequired = false } = options;
  if (announce === undefined) {
    const [left] = [
      ...(options.grace === undefined ? [] : ['--grace']),
      ...(announceRequired ? ['--announce-required'] : []),
    ];
    if (left === undefined) return undefined;
    throw new StillpointError('usage', {
      thing: left,
      reason: 'nobody is told of the instant',
      remedy: 'Use it with --announce.',
    });
  }
  const program = announce === 'wall' ? announce : resolve(announce);
  return { program, graceMs: grace, isRequired: announceRequired };
}

function parseGrace(text: string): number {
  const [, number = '', unit = ''] = /^(\d{1,6}(?:\.\d)?)([smh]?)$/.exec(text) ?? [];
  const ms = number === '' ? Number.NaN : Number(number) * (UNIT_MS[unit] ?? 1000);
  if (ms <= GRACE_MAX_MS) return ms;
  throw new StillpointError('usage', {
    thing: `--grace ${JSON.stringify(text.slice(0, 40))}`,
    reason: 'it is not a time of up to a day',
    remedy: 'Write for example 30s, 2m or 1h.',
  });
}
