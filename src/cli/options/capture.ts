/** The options of how a device is read, and how all comes to rest for the instant. */
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { RestOptions } from '../../capture/quiesce/rest.js';
import { StillpointError } from '../../domain/base/errors.js';
import { parseSize } from '../../domain/base/quantities.js';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/device/provider-names.js';
import { PATCH_MODES, type PatchMode } from '../../domain/session/patching.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';
import { limitRateOption } from '../common/open-receiver.js';
import { type AnnounceOptions, addAnnounceOptions, announceWish } from './announce.js';
import { addPartitionOptions, type PartitionOptions } from './partitions.js';

export interface CaptureOptions extends PartitionOptions, AnnounceOptions {
  readonly name?: string;
  readonly blockSize?: number;
  readonly compressionLevel: number | 'auto';
  readonly patch: PatchMode;
  readonly limitRate?: RateSchedule;
  readonly fuzzy?: boolean;
  readonly provider?: ProviderName;
  readonly freeze?: readonly string[];
  readonly hook?: readonly string[];
  readonly freezeDeadline?: number;
  readonly hookDeadline?: number;
  readonly waitQuiet?: number;
  readonly quietDeadline: number;
}

const COMPRESSION_LEVEL_MAX = 19;
export const QUIET_DEADLINE_S = 60;

/** How a device is read: for a backup now, or for those that a receiver orders. */
export function addCaptureOptions(command: Command): Command {
  return addAnnounceOptions(addPartitionOptions(command))
    .option('--name <name>', 'name of its points (default: made from its path)')
    .addOption(
      new Option(
        '--block-size <size>',
        "from 4K to 4M, a power of two (default: the last point's, else 64K)",
      ).argParser((text) => parseSize('block size', text)),
    )
    .addOption(
      new Option(
        '--compression-level <level>',
        'zstd level, 1 to 19; 0 for none; "auto" is higher on a slower link',
      )
        .default('auto')
        .argParser(parseCompressionLevel),
    )
    .addOption(limitRateOption())
    .addOption(
      new Option(
        '--patch <when>',
        'send only the changed parts of a block; "auto" does so when it saves time',
      )
        .choices(PATCH_MODES)
        .default('auto'),
    )
    .option('--fuzzy', 'continue although the device is being written to; the point is labelled fuzzy')
    .addOption(
      new Option(
        '--provider <name>',
        'where the static view comes from (default: the best available)',
      ).choices(PROVIDER_NAMES),
    )
    .addOption(
      new Option(
        '--freeze <mount>',
        '"auto", "none" or a mount point, may be repeated; not with "offline" (default: auto)',
      ).argParser(collect),
    )
    .addOption(
      new Option(
        '--hook <program>',
        'brings an application to rest for the instant, may be repeated; not with "offline"',
      ).argParser(collect),
    )
    .addOption(
      seconds(
        '--freeze-deadline <seconds>',
        'longest time that a freeze may last (default: 10; 0.5 for live copies)',
      ),
    )
    .addOption(seconds('--hook-deadline <seconds>', 'time for a hook to be ready, and to end (default: 60)'))
    .addOption(
      seconds(
        '--wait-quiet <seconds>',
        'take the instant after this time without a write; not with "offline"',
      ),
    )
    .addOption(
      seconds('--quiet-deadline <seconds>', 'longest time to wait for that').default(QUIET_DEADLINE_S),
    );
}

const collect = (value: string, before: readonly string[] = []): string[] => [...before, value];

export function seconds(flags: string, description: string): Option {
  return new Option(flags, description).argParser((text) => {
    const value = /^\d{1,6}(\.\d{1,3})?$/.test(text) ? Number(text) : Number.NaN;
    if (value > 0) return value;
    throw new StillpointError('usage', {
      thing: `${flags.split(' ')[0]} ${JSON.stringify(text)}`,
      reason: 'it is not a number of seconds above 0',
    });
  });
}

export function restOptions(name: string, options: CaptureOptions): RestOptions {
  const { freeze = ['auto'], hook = [], freezeDeadline, hookDeadline, waitQuiet, quietDeadline } = options;
  const [first = 'auto'] = freeze;
  const inMs = (value: number | undefined): number | undefined =>
    value === undefined ? undefined : Math.round(value * 1000);
  return {
    name,
    hooks: hook.map((path) => resolve(path)),
    freeze: freeze.length === 1 && (first === 'auto' || first === 'none') ? first : freeze,
    freezeDeadlineMs: inMs(freezeDeadline),
    hookDeadlineMs: inMs(hookDeadline),
    announce: announceWish(options),
    quiet:
      waitQuiet === undefined ? undefined : { quietMs: waitQuiet * 1000, deadlineMs: quietDeadline * 1000 },
  };
}

function parseCompressionLevel(text: string): number | 'auto' {
  if (text === 'auto') return text;
  const level = /^\d{1,2}$/.test(text) ? Number(text) : Number.NaN;
  if (level <= COMPRESSION_LEVEL_MAX) return level;
  throw new StillpointError('usage', {
    thing: `compression level ${JSON.stringify(text)}`,
    reason: `it is neither "auto" nor a whole number from 0 to ${COMPRESSION_LEVEL_MAX}`,
  });
}
