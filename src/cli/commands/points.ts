/** `stillpoint points [DEVICE] [--partial]`: the committed restore points; or what was delivered without one. */
import type { Command } from 'commander';
import { unlessAborted } from '../../agent/cancel.js';
import type { PartialSet } from '../../domain/messages.js';
import type { Point } from '../../domain/point.js';
import type { CommandContext, Run } from '../context.js';
import { EXIT_OK } from '../exit-codes.js';
import { type Column, formatBytes, formatDuration, formatInstant, formatTable } from '../format.js';
import { agentOption, type ReceiverChoice, storeOption, withReceiver } from '../open-receiver.js';

const COLUMNS: readonly Column[] = [
  { title: 'POINT' },
  { title: 'INSTANT' },
  { title: 'KIND' },
  { title: 'SIZE', align: 'right' },
  { title: 'CHANGED', align: 'right' },
  { title: 'WIRE', align: 'right' },
  { title: 'STORED', align: 'right' },
  { title: 'TOOK', align: 'right' },
  { title: 'WARNINGS', align: 'right' },
  { title: 'ID' },
];

const PARTIAL_COLUMNS: readonly Column[] = [
  { title: 'DEVICE' },
  { title: 'INSTANT' },
  { title: 'STATE' },
  { title: 'DURABLE', align: 'right' },
  { title: 'LAST ACTIVITY' },
  { title: 'KEPT UNTIL' },
  { title: 'SESSION' },
];

export function addPoints(program: Command, run: Run): void {
  program
    .command('points')
    .description('list restore points')
    .argument('[device]', 'only those of the device that was backed up under this name')
    .option('--partial', 'backups that did not come to an end, whose blocks the receiver keeps for a time')
    .addOption(storeOption())
    .addOption(agentOption())
    .action((device: string | undefined, { partial = false, ...choice }: Choice) =>
      run((context) => (partial ? partialSets(context, device, choice) : points(context, device, choice))),
    );
}

interface Choice extends ReceiverChoice {
  readonly partial?: boolean;
}

async function partialSets(
  context: CommandContext,
  device: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const found = await withReceiver(context, choice, (receiver) =>
    unlessAborted(context.signal, receiver.partialSets(device)),
  );
  const lines =
    found.length === 0
      ? [
          device === undefined
            ? 'There are no partial sets.'
            : `There are no partial sets of a device ${device}.`,
        ]
      : formatTable(PARTIAL_COLUMNS, found.map(partialRow));
  context.output.result({ partialSets: found }, lines, true);
  return EXIT_OK;
}

function partialRow(set: PartialSet): string[] {
  return [
    set.device,
    formatInstant(set.instant),
    set.state,
    formatBytes(set.durableBytes),
    formatInstant(set.lastActivityAt),
    formatInstant(set.expiresAt),
    set.sessionId.slice(0, 12),
  ];
}

async function points(
  context: CommandContext,
  device: string | undefined,
  choice: ReceiverChoice,
): Promise<number> {
  const found = await withReceiver(context, choice, (receiver) =>
    unlessAborted(context.signal, receiver.points(device)),
  );
  const lines =
    found.length === 0
      ? [`There are no points${ofWhom(device, choice)}.`]
      : [...formatTable(COLUMNS, rows(found)), ...warnings(found)];
  context.output.result({ points: found }, lines, true);
  return EXIT_OK;
}

/** A receiver's directory has other agents' points too: whose were looked for is said. */
function ofWhom(device: string | undefined, { agent }: ReceiverChoice): string {
  return [
    device === undefined ? '' : ` of a device ${device}`,
    agent === undefined ? '' : ` of agent ${agent}`,
  ].join('');
}

/** To the millisecond where a device has another point within the same second: each can be named by the time that it is listed with. */
function rows(found: readonly Point[]): string[][] {
  const toTheSecond = (point: Point) => `${point.device}@${formatInstant(point.instant)}`;
  const counts = new Map<string, number>();
  for (const name of found.map(toTheSecond)) counts.set(name, (counts.get(name) ?? 0) + 1);
  return found.map((point) =>
    row(point, formatInstant(point.instant, counts.get(toTheSecond(point)) === 1 ? 'second' : 'millisecond')),
  );
}

function row(point: Point, instant: string): string[] {
  return [
    `${point.device}@${point.sequence}`,
    instant,
    point.kind,
    formatBytes(point.geometry.sizeBytes),
    formatBytes(point.statistics.changedBytes),
    formatBytes(point.statistics.wireBytes),
    formatBytes(point.storedBytes),
    formatDuration(point.statistics.durationMs),
    point.warnings.length === 0 ? '-' : String(point.warnings.length),
    point.id.slice(0, 12),
  ];
}

function warnings(found: readonly Point[]): string[] {
  return found.flatMap((point) =>
    point.warnings.map((text) => `${point.device}@${point.sequence}: warning: ${text}`),
  );
}
