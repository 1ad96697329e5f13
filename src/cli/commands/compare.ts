/**
 * `stillpoint compare DEVICE [POINT]`: which blocks of a device differ from a point, found by digests alone;
 * the differences are told, remembered, or sent.
 */

import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import type { BackupReceiver } from '../../agent/backup/options.js';
import { unlessAborted } from '../../agent/common/cancel.js';
import type { CompareReceiver } from '../../agent/compare/compare.js';
import { countBlocks, rangesOf, type Told } from '../../agent/compare/told.js';
import type { StorePlace } from '../../agent/state/known-stores.js';
import type { SnapshotProvider } from '../../capture/ports.js';
import { defaultName } from '../../config/default-name.js';
import { StillpointError } from '../../domain/base/errors.js';
import { checkName } from '../../domain/base/names.js';
import { asksForExclusion } from '../../domain/device/exclusion.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { pointName } from '../../domain/point/point-ref.js';
import type { Direction } from '../../domain/session/compare-direction.js';
import type { LinkMeter } from '../../domain/session/link-meter.js';
import type { CommandContext, Run } from '../common/context.js';
import { storeOption, withReceiver } from '../common/open-receiver.js';
import { findPoint, ownAgent } from '../common/point-argument.js';
import { addCaptureOptions, type CaptureOptions, restOptions } from '../options/capture.js';
import { exclusionWish } from '../options/partitions.js';
import { type AgentProgress, agentProgress } from '../output/agent-progress.js';
import { parseByteRanges } from '../output/byte-ranges.js';
import { EXIT_DAMAGED, EXIT_DIFFERS, EXIT_OK, EXIT_WARNINGS } from '../output/exit-codes.js';
import { formatBytes, formatCount, formatInstant, formatTable } from '../output/format.js';
import { leftOutLines } from '../output/left-out.js';
import type { Output } from '../output/output.js';

/** Ranges that people are shown, unless they ask for all. */
const SHOWN_MAX = 50;

const DIRECTION_OF: Readonly<Record<string, Direction>> = {
  cheaper: 'cheaper',
  'from-receiver': 'fetch',
  'from-agent': 'send',
};

interface CompareOptions extends CaptureOptions {
  readonly store?: string;
  readonly deep?: boolean;
  readonly ranges?: readonly (readonly [number, number])[];
  readonly digests: string;
  readonly mark?: boolean;
  readonly ship?: boolean;
  readonly acceptStore?: boolean;
  readonly all?: boolean;
}

export function addCompare(program: Command, run: Run): void {
  const command = program
    .command('compare')
    .description('show which blocks of a device differ from a point; only digests cross the network')
    .argument('<device>', 'block device, partition, logical volume or disk image')
    .argument('[point]', "DEVICE@latest, DEVICE@SEQUENCE, ... (default: the device's last point)")
    .addOption(storeOption())
    .option('--deep', 'let the receiver digest its stored bytes again, instead of trusting its tree')
    .addOption(
      new Option('--ranges <ranges>', 'only these bytes, in whole blocks: 0-1G,10G-').argParser(
        parseByteRanges,
      ),
    )
    .addOption(
      new Option(
        '--digests <direction>',
        "whose digests cross the network: for each node the cheaper, or always one side's",
      )
        .choices(Object.keys(DIRECTION_OF))
        .default('cheaper'),
    )
    .option(
      '--mark',
      "write the differences into the map of the device's tap, which is then valid for the point",
    )
    .option('--ship', 'send the differences as a new point, without trusting the map or the local tree')
    .option('--accept-store', 'with --ship: same as for backup')
    .option('--all', `show all ranges, not only the first ${SHOWN_MAX}; with --json all are shown`);
  addCaptureOptions(command).action((device: string, point: string | undefined, options: CompareOptions) =>
    run((context) => compare(context, device, point, options)),
  );
}

/** What both ways of going on have. */
interface Setting {
  readonly context: CommandContext;
  readonly options: CompareOptions;
  readonly path: string;
  readonly device: string;
  /** Of the point. */
  readonly name: string;
  readonly provider: SnapshotProvider;
  readonly progress: AgentProgress;
}

async function compare(
  context: CommandContext,
  path: string,
  pointText: string | undefined,
  options: CompareOptions,
): Promise<number> {
  const { output, stateDirectory, signal } = context;
  checkOptions(options);
  const device = checkName('device name', options.name ?? defaultName(resolve(path)));
  const { thawLeftFrozen } = await import('../../capture/quiesce/thaw.js');
  await thawLeftFrozen();
  const { chooseProvider } = await import('../../capture/choice/choose.js');
  const { provider, note } = await chooseProvider({
    ...{
      stateDirectory,
      path,
      wanted: options.provider,
      fuzzy: options.fuzzy,
      rest: restOptions(device, options),
    },
  });
  const progress = agentProgress(output);
  if (note !== null) progress.onEvent({ type: 'notice', text: note });
  return withReceiver(
    context,
    options,
    async (receiver, meter, place) => {
      const point = await unlessAborted(signal, findPoint(receiver, pointText ?? `${device}@latest`));
      const name = pointName(point, await ownAgent(receiver));
      const setting: Setting = { context, options, path, device, name, provider, progress };
      return options.ship === true
        ? ship({ ...setting, receiver, meter, place }, point)
        : look(setting, receiver, point);
    },
    { writes: options.ship === true },
  );
}

function checkOptions(options: CompareOptions): void {
  const { ship = false, mark = false, ranges, blockSize, digests } = options;
  const refuse = (thing: string, reason: string, remedy: string): never => {
    throw new StillpointError('usage', { thing, reason, remedy });
  };
  if (blockSize !== undefined) refuse('--block-size', "a comparison has the point's block size", 'Omit it.');
  if (ship && mark)
    refuse('--mark', 'the differences are sent now, so the map need not keep them', 'Omit it.');
  if (mark && digests === 'from-agent')
    refuse('--digests', 'a map must be made from the digests of the receiver, which prove it', 'Omit it.');
  if (!ship && asksForExclusion(exclusionWish(options)))
    refuse('--partitions', 'a comparison leaves out what the point leaves out', 'Omit it.');
  if (ship && ranges !== undefined)
    refuse('--ranges', 'a point covers the whole device', 'Omit them, or compare without --ship.');
}

async function look(setting: Setting, receiver: CompareReceiver, point: Point): Promise<number> {
  const { context, options, path, provider, progress } = setting;
  const { stateDirectory, signal, output } = context;
  const { deep, ranges: byteRanges, mark, fuzzy } = options;
  const { runCompare } = await import('../../agent/compare/compare.js');
  const result = await runCompare({
    ...{ receiver, point, path, stateDirectory, provider, signal, onEvent: progress.onEvent },
    ...{ deep, byteRanges, mark, fuzzy, direction: DIRECTION_OF[options.digests] },
  }).finally(progress.end);
  for (const text of result.warnings) output.warn(text);
  checkBeyond(output, byteRanges, Math.max(result.deviceSizeBytes, point.geometry.sizeBytes));
  tell(
    setting,
    point,
    result,
    mark === true ? ["The tap's map has the differences and is valid for the point."] : [],
  );
  if (result.damaged.length > 0) return EXIT_DAMAGED;
  if (result.unreadableBlocks.length > 0) return EXIT_WARNINGS;
  return result.differing.count === 0 ? EXIT_OK : EXIT_DIFFERS;
}

/** "No block differs" must not be said of what is not there. */
function checkBeyond(output: Output, ranges: CompareOptions['ranges'], endByte: number): void {
  const beyond = ranges?.filter(([start]) => start >= endByte) ?? [];
  if (beyond.length === 0) return;
  const reason = `device and point end at byte ${endByte}`;
  if (beyond.length === ranges?.length) {
    throw new StillpointError('usage', { thing: '--ranges', reason, remedy: 'Name bytes before that.' });
  }
  output.warn(`--ranges: ${reason}; ${beyond.length} of the ranges lie past it`);
}

interface ShipSetting extends Setting {
  readonly receiver: BackupReceiver & CompareReceiver;
  readonly meter: LinkMeter | undefined;
  readonly place: StorePlace;
}

async function ship(setting: ShipSetting, point: Point): Promise<number> {
  const { context, options, path, device, provider, progress, receiver, meter, place } = setting;
  const { stateDirectory, signal } = context;
  const { compressionLevel, patch, fuzzy, acceptStore, deep = false } = options;
  const last = (await unlessAborted(signal, receiver.points(device, { last: true }))).at(-1);
  if (last?.id !== point.id) {
    throw new StillpointError('usage', {
      thing: `point ${pointLabel(point)}`,
      reason: `it is not the last point of device ${device}, and a new point is a difference to that`,
      remedy: 'Omit the point, or compare without --ship.',
    });
  }
  const { shipDifferences } = await import('../../agent/compare/ship.js');
  const { made, told } = await shipDifferences({
    ...{ receiver, meter, place, path, device, stateDirectory, signal, provider, point, deep },
    ...{ compressionLevel, patch, fuzzy, acceptStore, exclusion: exclusionWish(options) },
    onEvent: progress.onEvent,
  }).finally(progress.end);
  tell(
    setting,
    point,
    told,
    [
      `${pointLabel(made)}: committed, ${made.kind}, ${formatInstant(made.instant)}; ` +
        `${formatBytes(made.statistics.changedBytes)} changed, ${formatBytes(told.wireBytes)} on the wire`,
    ],
    made,
  );
  return told.warnings.length === 0 ? EXIT_OK : EXIT_WARNINGS;
}

function tell(
  { context: { output }, options, name }: Setting,
  point: Point,
  result: Told,
  more: readonly string[],
  shipped: Point | null = null,
): void {
  const ranges = [...rangesOf(point, result)];
  const shown = options.all === true ? ranges : ranges.slice(0, SHOWN_MAX);
  const rows = shown.map(({ byteOffset, byteLength, what, reason }) => [
    ...[String(byteOffset), String(byteLength)],
    what === 'differs'
      ? what
      : what === 'unreadable'
        ? 'unreadable here'
        : `damaged at the receiver: ${reason}`,
  ]);
  const { differing, damaged, unreadableBlocks, wireBytes, scannedBytes, kind, deviceSizeBytes } = result;
  output.result(
    {
      ...{ point, blockSize: point.geometry.blockSize, deviceSizeBytes, kind, ranges },
      ...{ differingBlocks: differing?.count ?? null, unreadableBlocks: unreadableBlocks.length },
      ...{ damagedBlocks: countBlocks(damaged), scannedBytes, wireBytes, shipped },
    },
    [
      ...(rows.length === 0
        ? []
        : formatTable(
            [{ title: 'OFFSET', align: 'right' }, { title: 'LENGTH', align: 'right' }, { title: 'WHAT' }],
            rows,
          )),
      ...(ranges.length > shown.length
        ? [`and ${formatCount(ranges.length - shown.length, 'more range')}; --all shows them`]
        : []),
      summaryOf(name, point, result, options.deep === true),
      ...leftOutLines(point).map((text) => `not compared: ${text}`),
      ...more,
    ],
    true,
  );
}

function describeDiffering(count: number, blockSize: number): string {
  if (count === 0) return 'no block differs';
  return `${formatCount(count, 'block')} ${count === 1 ? 'differs' : 'differ'}, ${formatBytes(count * blockSize)}`;
}

function summaryOf(name: string, point: Point, result: Told, deep: boolean): string {
  const { differing, damaged, unreadableBlocks, wireBytes, scannedBytes } = result;
  const parts = [
    ...(differing === null ? [] : [describeDiffering(differing.count, point.geometry.blockSize)]),
    ...(unreadableBlocks.length === 0
      ? []
      : [`${formatCount(unreadableBlocks.length, 'block')} can't be read here`]),
    ...(deep ? [`${formatCount(countBlocks(damaged), 'block')} damaged at the receiver`] : []),
    `${formatBytes(scannedBytes)} digested, ${formatBytes(wireBytes)} on the wire`,
  ];
  return `${name}: ${parts.join('; ')}`;
}
