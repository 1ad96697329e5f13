/** `stillpoint backup --group NAME DEVICE DEVICE...`: points of several devices with one instant. */
import { StillpointError } from '../../domain/base/errors.js';
import type { CommandContext } from '../common/context.js';
import { type ReceiverChoice, withReceiver } from '../common/open-receiver.js';
import type { PlaceChoice } from '../common/store-place.js';
import { type CaptureOptions, restOptions } from '../options/capture.js';
import { type GroupOptions, membersOf } from '../options/group.js';
import { groupLabel, type ToldGroup, toldGroup } from '../output/backup-result.js';
import { groupProgress } from '../output/group-progress.js';

export interface GroupBackupChoice
  extends CaptureOptions,
    GroupOptions,
    PlaceChoice,
    Omit<ReceiverChoice, 'agent' | 'newStore'> {
  readonly acceptIdentity?: boolean;
  readonly acceptHalfRestored?: boolean;
  readonly full?: boolean;
}

export async function backupGroup(
  context: CommandContext,
  devices: readonly string[],
  options: GroupBackupChoice,
): Promise<ToldGroup> {
  refuseOptionsOfOne(options);
  const named = membersOf(devices, options.group);
  const { group: name = '', missing = 'fail', acceptStore } = options;
  const { output, stateDirectory, signal } = context;
  const { blockSize, compressionLevel, patch, provider, acceptIdentity, acceptHalfRestored, full } = options;
  const { thawLeftFrozen } = await import('../../capture/quiesce/thaw.js');
  await thawLeftFrozen();
  const { runGroupBackup } = await import('../../agent/group/run-group.js');
  const progress = groupProgress(output, name);
  const result = await withReceiver(
    context,
    options,
    (receiver, meter, place) =>
      runGroupBackup({
        ...{ receiver, meter, place, acceptStore, stateDirectory, signal, name, missing },
        rest: restOptions(name, options),
        members: named.map((member) => ({
          ...{ ...member, blockSize, compressionLevel, patch, provider },
          ...{ acceptIdentity, acceptHalfRestored, full },
        })),
        onEvent: (device, event) => progress.onEvent(event, device ?? undefined),
      }).finally(progress.end),
    { mayCreate: true },
  );
  output.stands(`The group point ${groupLabel(result.group)} was made anyway.`);
  return toldGroup(result);
}

/** @throws StillpointError `usage` */
function refuseOptionsOfOne({
  name,
  partitions,
  excludePartitions,
  excludeSwap,
  fuzzy,
}: GroupBackupChoice): void {
  const [given] = Object.entries({
    '--name': name,
    '--partitions': partitions,
    '--exclude-partitions': excludePartitions,
    '--exclude-swap': excludeSwap,
    '--fuzzy': fuzzy,
  }).find(([, value]) => value !== undefined) ?? [undefined];
  if (given === undefined) return;
  const remedies: Readonly<Record<string, string>> = {
    '--name': 'Name each of them: NAME=PATH.',
    '--fuzzy': 'Omit it: a group point is of one instant.',
  };
  throw new StillpointError('usage', {
    thing: `${given} with several devices`,
    reason: 'it is of one device',
    remedy: remedies[given] ?? 'Write it at a [[device]] of the configuration, and name that in a [[group]].',
  });
}
