/** `stillpoint points [DEVICE]`: the committed restore points. */
import type { Command } from 'commander';
import { unlessAborted } from '../../agent/cancel.js';
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

export function addPoints(program: Command, run: Run): void {
  program
    .command('points')
    .description('list restore points')
    .argument('[device]', 'only those of the device that was backed up under this name')
    .addOption(storeOption())
    .addOption(agentOption())
    .action((device: string | undefined, options: ReceiverChoice) =>
      run((context) => points(context, device, options)),
    );
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
      ? [device === undefined ? 'There are no points yet.' : `There are no points of a device ${device}.`]
      : [...formatTable(COLUMNS, found.map(row)), ...warnings(found)];
  context.output.result({ points: found }, lines, true);
  return EXIT_OK;
}

function row(point: Point): string[] {
  return [
    `${point.device}@${point.sequence}`,
    formatInstant(point.instant),
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
