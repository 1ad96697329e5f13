/** `stillpoint receiver compare`: the receiver has an agent compare a device with its last point. */
import { type Command, Option } from 'commander';
import { checkName } from '../../../domain/base/names.js';
import type { ComparedRange, Comparison } from '../../../domain/order/comparison.js';
import { type Point, pointLabel } from '../../../domain/point/point.js';
import type { CommandContext, Run } from '../../common/context.js';
import { EXIT_DAMAGED, EXIT_DIFFERS, EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatBytes, formatCount, formatInstant, formatTable } from '../../output/format.js';
import { COMPARE_WORDS, orderProgress } from '../../output/order-progress.js';

/** Ranges that people are shown, unless they ask for all. */
const SHOWN_MAX = 50;

interface CompareChoice {
  readonly store?: string;
  readonly deep?: boolean;
  readonly ship?: boolean;
  readonly all?: boolean;
  readonly wait: number;
}

export function addReceiverCompare(
  receiver: Command,
  run: Run,
  {
    directoryOf,
    store,
    wait,
  }: {
    readonly directoryOf: (context: CommandContext, dir: string | undefined) => Promise<string>;
    readonly store: () => Option;
    readonly wait: () => Option;
  },
): void {
  receiver
    .command('compare')
    .description('have an agent compare a device that it offers with its last point; exit code 6: it differs')
    .argument('<agent>', "the agent's name")
    .argument('<device>', 'name under which it is offered')
    .addOption(store())
    .option('--deep', 'digest the stored bytes again, instead of trusting the tree')
    .option('--ship', 'send the differences as a new point, without trusting the map or the local tree')
    .addOption(new Option('--all', `show all ranges that were reported, not only the first ${SHOWN_MAX}`))
    .addOption(wait())
    .action((agent: string, device: string, options: CompareChoice) =>
      run(async (context) =>
        compare(context, await directoryOf(context, options.store), agent, device, options),
      ),
    );
}

async function compare(
  { output, signal }: CommandContext,
  dir: string,
  agentName: string,
  deviceName: string,
  options: CompareChoice,
): Promise<number> {
  const agent = checkName('agent name', agentName);
  const device = checkName('device name', deviceName);
  const { deep = false, ship = false, all = false, wait } = options;
  const { askReceiver } = await import('../../../receiver/control/client.js');
  const { orderEventSchema, orderResultSchema } = await import('../../../receiver/control/messages.js');
  const progress = orderProgress(output, agent, COMPARE_WORDS);
  const answer = await askReceiver(
    dir,
    { op: 'compare', agent, device, deep, ship, waitMs: wait * 1000 },
    { signal, onEvent: (event) => progress.onChange(orderEventSchema.parse(event)) },
  ).finally(progress.end);
  const { point, warnings, comparison } = orderResultSchema.parse(answer);
  if (comparison === null) throw new Error('the receiver does not say what the comparison found');
  for (const text of warnings) output.warn(text);
  const shipped = ship ? point : null;
  output.result(
    { agent, device, point, ...comparison, shipped, warnings },
    [
      ...rangeLines(comparison, all ? comparison.ranges.length : SHOWN_MAX),
      summaryOf({ agent, point, comparison, deep, ship }),
      ...(ship ? [`${pointLabel(point)}: committed, ${point.kind}, ${formatInstant(point.instant)}`] : []),
    ],
    true,
  );
  return exitCodeOf(comparison, warnings.length, ship);
}

/** As of `stillpoint compare`. */
function exitCodeOf(comparison: Comparison, warningCount: number, ship: boolean): number {
  const { damagedBlocks, unreadableBlocks, differingBlocks } = comparison;
  if (ship) return warningCount === 0 ? EXIT_OK : EXIT_WARNINGS;
  if (damagedBlocks > 0) return EXIT_DAMAGED;
  if (unreadableBlocks > 0) return EXIT_WARNINGS;
  return differingBlocks === 0 ? EXIT_OK : EXIT_DIFFERS;
}

function rangeLines({ ranges, rangeCount }: Comparison, shownMax: number): string[] {
  if (ranges.length === 0) return [];
  const shown = ranges.slice(0, shownMax);
  const columns = [
    { title: 'OFFSET', align: 'right' as const },
    { title: 'LENGTH', align: 'right' as const },
    { title: 'WHAT' },
  ];
  const more = rangeCount - shown.length;
  return [
    ...formatTable(columns, shown.map(rangeRow)),
    ...(more === 0 ? [] : [`and ${formatCount(more, 'more range')}`]),
  ];
}

function rangeRow({ byteOffset, byteLength, what, reason }: ComparedRange): string[] {
  const words = {
    ...{ differs: 'differs', unreadable: "unreadable at the agent's" },
    damaged: `damaged at the receiver: ${reason}`,
  };
  return [String(byteOffset), String(byteLength), words[what]];
}

interface Compared {
  readonly agent: string;
  readonly point: Point;
  readonly comparison: Comparison;
  readonly deep: boolean;
  readonly ship: boolean;
}

function summaryOf({ agent, point, comparison, deep, ship }: Compared): string {
  const { differingBlocks, unreadableBlocks, damagedBlocks, scannedBytes, wireBytes } = comparison;
  const { blockSize } = point.geometry;
  const verb = differingBlocks === 1 ? 'differs' : 'differ';
  const parts = [
    ...(differingBlocks === null
      ? []
      : [
          differingBlocks === 0
            ? 'no block differs'
            : `${formatCount(differingBlocks, 'block')} ${verb}, ${formatBytes(differingBlocks * blockSize)}`,
        ]),
    ...(unreadableBlocks === 0 ? [] : [`${formatCount(unreadableBlocks, 'block')} can't be read there`]),
    ...(deep ? [`${formatCount(damagedBlocks, 'block')} damaged at the receiver`] : []),
    `${formatBytes(scannedBytes)} digested, ${formatBytes(wireBytes)} on the wire`,
  ];
  const name = ship ? `${point.device}, compared with its last point` : pointLabel(point);
  return `${agent}: ${name}: ${parts.join('; ')}`;
}
