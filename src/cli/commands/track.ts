/**
 * `stillpoint track ...`: has the kernel mark what is written to a device, so that a backup reads only that.
 */
import type { Command } from 'commander';
import { StillpointError } from '../../domain/base/errors.js';
import type { ListedTracker, TrackState } from '../../track/tracked.js';
import type { CommandContext, Run } from '../common/context.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { formatBytes } from '../output/format.js';

export function addTrackCommands(program: Command, run: Run): void {
  const track = program
    .command('track')
    .description(
      'have the kernel mark what is written to a device in use, until the next boot (the first backup of one does it too)',
    );
  const ofDevice = (name: string, description: string): Command =>
    track
      .command(name)
      .description(description)
      .argument('<device>', 'block device, partition or logical volume');
  ofDevice('add', 'begin to track a device; nothing is put in the path of its reads and writes').action(
    (device: string) => run((context) => add(context, device)),
  );
  track
    .command('list')
    .description('list the tracked devices of this machine')
    .action(() => run(list));
  ofDevice('status', 'show since when a device is tracked, and what has been written').action(
    (device: string) => run((context) => status(context, device)),
  );
  ofDevice('remove', 'end to track a device: its next backup reads everything').action((device: string) =>
    run((context) => remove(context, device)),
  );
}

async function add({ output }: CommandContext, path: string): Promise<number> {
  const { findTrackPlace } = await import('../../track/place.js');
  const { readTrackState, takeTracked } = await import('../../track/tracked.js');
  const { onDevice } = await import('../../devices/system/device-error.js');
  const place = await onDevice(path, () => findTrackPlace(path));
  const tracked = await takeTracked(place);
  await tracked.close();
  const state = await readTrackState(place, true);
  output.result({ device: path, ...state }, describe(path, state));
  return EXIT_OK;
}

async function list({ output }: CommandContext): Promise<number> {
  const { listTracked } = await import('../../track/tracked.js');
  const found = await listTracked();
  const lines = found.flatMap(({ path, directory, state }) => describe(path ?? directory, state));
  output.result({ tracked: found }, lines.length === 0 ? ['No device is tracked.'] : lines);
  return EXIT_OK;
}

async function status({ output }: CommandContext, path: string): Promise<number> {
  const { findTrackPlace } = await import('../../track/place.js');
  const { readTrackState } = await import('../../track/tracked.js');
  const { onDevice } = await import('../../devices/system/device-error.js');
  const state = await onDevice(path, async () => readTrackState(await findTrackPlace(path), true));
  if (state.state === 'none') throw notTracked(path);
  output.result({ device: path, ...state }, describe(path, state));
  return EXIT_OK;
}

async function remove({ output }: CommandContext, path: string): Promise<number> {
  const { removeTracked } = await import('../../track/tracked.js');
  const found = await find(path);
  if (found === undefined || !(await removeTracked(found.directory, path))) throw notTracked(path);
  output.result({ device: path, removed: true }, [
    `${path}: it is not tracked any more; its next backup reads everything`,
  ]);
  return EXIT_OK;
}

/** By its path, or as it was named when it was there. */
async function find(path: string): Promise<Pick<ListedTracker, 'directory'> | undefined> {
  const { findTrackPlace } = await import('../../track/place.js');
  const { listTracked } = await import('../../track/tracked.js');
  const place = await findTrackPlace(path).catch(() => null);
  const found = await listTracked();
  return found.find((one) => one.directory === (place?.directory ?? path) || one.path === path);
}

function notTracked(path: string): StillpointError {
  return new StillpointError('device-unknown', {
    thing: path,
    reason: 'it is not tracked',
    remedy: 'See "stillpoint track list".',
  });
}

function describe(path: string, state: TrackState): string[] {
  if (state.state === 'none') return [`${path}: not tracked`];
  if (state.state === 'void')
    return [`${path}: the marks are void, so its next backup reads everything: ${state.reason}`];
  const { record, doubt, grainBytes, memoryBytes, markedBytes } = state;
  const points = record.points.length;
  return [
    `${path}: tracked since ${record.since}`,
    ...(markedBytes === null
      ? []
      : [`  marked   ${formatBytes(markedBytes)}, in grains of ${formatBytes(grainBytes)}`]),
    `  memory   ${formatBytes(memoryBytes)} of the kernel`,
    `  good for ${points === 0 ? 'no point yet: the next backup reads everything' : 'what changed since the last backup'}`,
    ...(doubt === null ? [] : [`  doubtful ${doubt}; the next backup reads everything`]),
  ];
}
