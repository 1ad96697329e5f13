/** `stillpoint backup DEVICE`: one new restore point of a device, in use or not. */

import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { BackupResult } from '../../agent/backup/options.js';
import type { RestOptions } from '../../capture/quiesce/rest.js';
import { defaultName } from '../../config/default-name.js';
import { StillpointError } from '../../domain/base/errors.js';
import { checkName } from '../../domain/base/names.js';
import { parseSize } from '../../domain/base/quantities.js';
import { PROVIDER_NAMES, type ProviderName } from '../../domain/device/provider-names.js';
import { pointLabel } from '../../domain/point/point.js';
import { PATCH_MODES, type PatchMode } from '../../domain/session/patching.js';
import type { RateSchedule } from '../../domain/session/rate-limit.js';
import type { CommandContext, Run } from '../common/context.js';
import {
  addPlaceOptions,
  limitRateOption,
  type ReceiverChoice,
  storeOption,
  withReceiver,
} from '../common/open-receiver.js';
import type { PlaceChoice } from '../common/store-place.js';
import { agentProgress, sentAgain } from '../output/agent-progress.js';
import { EXIT_OK, EXIT_WARNINGS } from '../output/exit-codes.js';
import { formatBytes, formatDuration, formatInstant } from '../output/format.js';

interface BackupOptions extends CaptureOptions, PlaceChoice, Omit<ReceiverChoice, 'agent' | 'newStore'> {
  readonly acceptIdentity?: boolean;
  readonly acceptHalfRestored?: boolean;
  readonly full?: boolean;
  readonly now?: boolean;
}

export interface CaptureOptions {
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
const QUIET_DEADLINE_S = 60;

export function addBackup(program: Command, run: Run): void {
  const command = program
    .command('backup')
    .description('back up a device: send what differs from its last point, and make a new point')
    .argument(
      '<device>',
      'block device, partition, logical volume or disk image; with --now the name of a configured one',
    )
    .addOption(storeOption());
  addPlaceOptions(addCaptureOptions(command))
    .option('--accept-identity', 'continue although this is not the device of the last point')
    .option('--accept-half-restored', 'continue although a restore to the device is unfinished')
    .option('--full', 'read everything, even if it is known what changed')
    .option('--now', 'have the agent that runs here back it up, as its configuration says')
    .action((device: string, options: BackupOptions) => run((context) => backup(context, device, options)));
}

/** How a device is read: for a backup now, or for those that a receiver orders. */
export function addCaptureOptions(command: Command): Command {
  return command
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

async function backup(context: CommandContext, path: string, options: BackupOptions): Promise<number> {
  if (options.now === true) return backupNow(context, path, options);
  const { output, stateDirectory, signal } = context;
  const name = options.name ?? defaultName(resolve(path));
  const device = checkName('device name', name);
  const { blockSize, compressionLevel, patch, fuzzy, acceptIdentity, acceptHalfRestored, full, acceptStore } =
    options;
  const { thawLeftFrozen } = await import('../../capture/quiesce/thaw.js');
  await thawLeftFrozen();
  const { runBackup } = await import('../../agent/backup/backup.js');
  const { chooseProvider } = await import('../../capture/choice/choose.js');
  const { provider, note } = await chooseProvider({
    stateDirectory,
    path,
    wanted: options.provider,
    fuzzy,
    rest: restOptions(device, options),
  });
  const progress = agentProgress(output);
  if (note !== null) progress.onEvent({ type: 'notice', text: note });
  const result = await withReceiver(
    context,
    options,
    (receiver, meter, place) =>
      runBackup({
        ...{ receiver, meter, place, acceptStore, path, device, stateDirectory, signal },
        ...{ blockSize, compressionLevel, patch, fuzzy, acceptIdentity, acceptHalfRestored, full, provider },
        onEvent: progress.onEvent,
      }).finally(progress.end),
    { mayCreate: true },
  );
  output.stands(`The point ${pointLabel(result.point)} was made anyway.`);
  output.result(toJson(result), describe(result));
  return result.warnings.length === 0 ? EXIT_OK : EXIT_WARNINGS;
}

async function backupNow(context: CommandContext, name: string, options: BackupOptions): Promise<number> {
  const { full = false, now: _, compressionLevel, patch, quietDeadline, ...others } = options;
  const [other] = [
    ...Object.keys(others),
    ...(compressionLevel === 'auto' ? [] : ['compressionLevel']),
    ...(patch === 'auto' ? [] : ['patch']),
    ...(quietDeadline === QUIET_DEADLINE_S ? [] : ['quietDeadline']),
  ];
  if (other !== undefined) {
    throw new StillpointError('usage', {
      thing: `--now with --${other.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`,
      reason: 'how the device is backed up is in the configuration; only --full can be added',
      remedy: 'See "stillpoint config show", or omit --now.',
    });
  }
  const { backUpByDaemon } = await import('../common/backup-now.js');
  const result = await backUpByDaemon(context, name, full);
  context.output.result(toJson(result), describe(result));
  return result.warnings.length === 0 ? EXIT_OK : EXIT_WARNINGS;
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
    quiet:
      waitQuiet === undefined ? undefined : { quietMs: waitQuiet * 1000, deadlineMs: quietDeadline * 1000 },
  };
}

type Told = Pick<BackupResult, 'point' | 'warnings' | 'wireBytes' | 'tracking'> & {
  readonly base: { readonly start: string; readonly reason: string };
};

function toJson({ point, warnings, wireBytes, base, tracking }: Told): object {
  return { point, warnings, wireBytes, base: { start: base.start, reason: base.reason }, tracking };
}

function describe({ point, wireBytes, base, tracking }: Told): string[] {
  const { changedBytes, durationMs } = point.statistics;
  const rate = durationMs === 0 ? '' : ` (${formatBytes((point.geometry.sizeBytes * 1000) / durationMs)}/s)`;
  const basis =
    point.baseSequence === null
      ? `everything that is not zero: ${base.reason}`
      : `what differs from ${pointLabel({ device: point.device, sequence: point.baseSequence })}`;
  return [
    `${pointLabel(point)}: committed, ${point.kind}, ${formatInstant(point.instant)}`,
    `  shipped  ${basis}`,
    ...(tracking === null
      ? []
      : [`  read     ${tracking.used ? 'what its map names' : 'everything'}: ${tracking.reason}`]),
    ...sentAgain(point.providerFacts).map((text) => `  again    ${text}`),
    `  size     ${formatBytes(point.geometry.sizeBytes)} in ${formatDuration(durationMs)}${rate}`,
    `  changed  ${formatBytes(changedBytes)}, on the wire ${formatBytes(wireBytes)}, stored ${formatBytes(point.storedBytes)}`,
  ];
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
