/** `stillpoint backup DEVICE...`: a new point of each device, in use or not; several have one instant. */

import { resolve } from 'node:path';
import type { Command } from 'commander';
import { defaultName } from '../../config/default-name.js';
import { StillpointError } from '../../domain/base/errors.js';
import { checkName } from '../../domain/base/names.js';
import { pointLabel } from '../../domain/point/point.js';
import type { CommandContext, Run } from '../common/context.js';
import { addPlaceOptions, storeOption, withReceiver } from '../common/open-receiver.js';
import { addCaptureOptions, QUIET_DEADLINE_S, restOptions } from '../options/capture.js';
import { addGroupOptions, type GroupOptions } from '../options/group.js';
import { exclusionWish } from '../options/partitions.js';
import { agentProgress } from '../output/agent-progress.js';
import {
  backupJson,
  backupLines,
  groupJson,
  groupLines,
  hasWarnings,
  type Told,
  type ToldGroup,
} from '../output/backup-result.js';
import { EXIT_OK, EXIT_WARNINGS } from '../output/exit-codes.js';
import { backupGroup, type GroupBackupChoice } from './backup-group.js';

interface BackupOptions extends GroupBackupChoice {
  readonly now?: boolean;
}

export function addBackup(program: Command, run: Run): void {
  const command = program
    .command('backup')
    .description('back up a device: send what differs from its last point, and make a new point')
    .argument(
      '<device...>',
      'block device, partition, logical volume or disk image, several as NAME=PATH; with --now a configured name',
    )
    .addOption(storeOption());
  addPlaceOptions(addGroupOptions(addCaptureOptions(command)))
    .option('--accept-identity', 'continue although this is not the device of the last point')
    .option('--accept-half-restored', 'continue although a restore to the device is unfinished')
    .option('--full', 'read everything, even if it is known what changed')
    .option('--now', 'have the agent that runs here back up a device or group, as its configuration says')
    .action((devices: string[], options: BackupOptions) =>
      run((context) => backup(context, devices, options)),
    );
}

async function backup(
  context: CommandContext,
  devices: readonly string[],
  options: BackupOptions,
): Promise<number> {
  const [first = '', ...others] = devices;
  const isGroup = others.length > 0;
  const told =
    options.now === true
      ? await backupNow(context, devices, options)
      : isGroup
        ? await backupGroup(context, devices, options)
        : await backupDevice(context, first, options);
  if ('group' in told) context.output.result(groupJson(told), groupLines(told));
  else context.output.result(backupJson(told), backupLines(told));
  return hasWarnings(told) ? EXIT_WARNINGS : EXIT_OK;
}

async function backupDevice(context: CommandContext, path: string, options: BackupOptions): Promise<Told> {
  refuseGroupOptions(options);
  const { output, stateDirectory, signal } = context;
  const name = options.name ?? defaultName(resolve(path));
  const device = checkName('device name', name);
  const { blockSize, compressionLevel, patch, fuzzy, acceptIdentity, acceptHalfRestored, full, acceptStore } =
    options;
  const exclusion = exclusionWish(options);
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
        exclusion,
        onEvent: progress.onEvent,
      }).finally(progress.end),
    { mayCreate: true },
  );
  output.stands(`The point ${pointLabel(result.point)} was made anyway.`);
  return result;
}

/** @throws StillpointError `usage` */
function refuseGroupOptions({ group, missing }: GroupOptions): void {
  const given = group !== undefined ? '--group' : missing !== undefined ? '--missing' : null;
  if (given === null) return;
  throw new StillpointError('usage', {
    thing: given,
    reason: 'it is of several devices, and there is one',
    remedy: 'Name the others, too, or omit it.',
  });
}

async function backupNow(
  context: CommandContext,
  [name = '', ...more]: readonly string[],
  options: BackupOptions,
): Promise<Told | ToldGroup> {
  if (more.length > 0) {
    throw new StillpointError('usage', {
      thing: `--now with ${more.length + 1} names`,
      reason: 'it is for one device or group of the configuration',
      remedy: 'Name a [[group]] that has them as its members.',
    });
  }
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
      reason: 'how it is backed up is in the configuration; only --full can be added',
      remedy: 'See "stillpoint config show", or omit --now.',
    });
  }
  const { backUpByDaemon } = await import('../common/backup-now.js');
  return backUpByDaemon(context, name, full);
}
