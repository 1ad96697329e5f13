/** `stillpoint restore POINT TARGET`: a point's bytes, to a device, an image or standard output. */
import type { Command } from 'commander';
import { unlessAborted } from '../../agent/common/cancel.js';
import type { RestoreResult } from '../../agent/restore/restore.js';
import { StillpointError } from '../../domain/base/errors.js';
import type { Point } from '../../domain/point/point.js';
import { pointName } from '../../domain/point/point-ref.js';
import type { CommandContext, Run } from '../common/context.js';
import {
  agentOption,
  limitRateOption,
  notEmpty,
  type ReceiverChoice,
  storeDirectory,
  storeOption,
  withReceiver,
} from '../common/open-receiver.js';
import { findPoint, ownAgent } from '../common/point-argument.js';
import { agentProgress } from '../output/agent-progress.js';
import { EXIT_INCOMPLETE, EXIT_OK, EXIT_WARNINGS } from '../output/exit-codes.js';
import { formatBytes, formatCount, formatInstant } from '../output/format.js';

interface RestoreOptions extends ReceiverChoice {
  readonly overwrite?: boolean;
  readonly allowInUse?: boolean;
  readonly allowSectorSize?: boolean;
  readonly rewrite?: boolean;
  readonly zeroExcluded?: boolean;
  readonly verify?: boolean;
  readonly skipBad?: boolean;
}

export function addRestore(program: Command, run: Run): void {
  program
    .command('restore')
    .description('write a point to a device, an image file or standard output; every block is proven first')
    .argument(
      '<point>',
      'DEVICE@latest, DEVICE@SEQUENCE, DEVICE@TIME or an id; "stillpoint points" lists them',
    )
    .argument('<target>', 'block device, image file, or - for standard output', notEmpty)
    .addOption(storeOption())
    .addOption(agentOption())
    .option('--overwrite', 'overwrite an image file that is not empty')
    .option('--allow-in-use', 'write even if the target is mounted or open')
    .option('--allow-sector-size', "write to a device whose sector size differs from the point's")
    .option('--rewrite', 'write everything, without first reading what the target holds')
    .option(
      '--zero-excluded',
      'write zeros where the point leaves partitions out, instead of keeping what is there',
    )
    .option('--verify', 'read the target back and compare')
    .option(
      '--skip-bad',
      'write zeros for what is damaged in the store, name these ranges, and end with exit code 7',
    )
    .addOption(limitRateOption())
    .action((point: string, target: string, options: RestoreOptions) =>
      run((context) => restore(context, point, target, options)),
    );
}

async function restore(
  context: CommandContext,
  pointText: string,
  target: string,
  options: RestoreOptions,
): Promise<number> {
  const { output, stateDirectoryIfAny: stateDirectory, signal } = context;
  if (target === '-') {
    if (context.stdout.isTTY === true) {
      throw new StillpointError('usage', {
        thing: 'standard output',
        reason: 'it is a terminal',
        remedy: 'Redirect it to a file or a program.',
      });
    }
    output.reserveStdout();
  }
  const { overwrite, allowInUse, allowSectorSize, rewrite, zeroExcluded, verify, skipBad } = options;
  const { runRestore } = await import('../../agent/restore/restore.js');
  const progress = agentProgress(output);
  const { point, name, result } = await withReceiver(context, options, async (receiver, meter) => {
    const found = await unlessAborted(signal, findPoint(receiver, pointText));
    const restored = await runRestore({
      ...{ receiver, meter, point: found, target, stateDirectory, signal, onEvent: progress.onEvent },
      ...{ overwrite, allowInUse, allowSectorSize, rewrite, zeroExcluded, verify, skipBad },
      output: context.stdout.stream,
      storeDirectory: storeDirectory(options.store),
    }).finally(progress.end);
    return { point: found, name: pointName(found, await ownAgent(receiver)), result: restored };
  });
  if (target === '-') await output.requireDelivery();
  else output.stands(`${target} was restored anyway.`);
  output.result({ point, target, ...result, isComplete: result.lostRanges.length === 0 }, [
    describe(name, point, target, result),
    ...lostLines(target, result),
  ]);
  if (result.lostRanges.length > 0) return EXIT_INCOMPLETE;
  return result.warnings.length === 0 ? EXIT_OK : EXIT_WARNINGS;
}

const RANGES_SHOWN_MAX = 1000;

/** For people; programs get all of them in the result. */
function lostLines(target: string, { lostRanges }: RestoreResult): string[] {
  if (lostRanges.length === 0) return [];
  const bytes = lostRanges.reduce((sum, { byteLength }) => sum + byteLength, 0);
  const where = target === '-' ? 'standard output' : target;
  const more = lostRanges.length - RANGES_SHOWN_MAX;
  return [
    `NOT COMPLETE: ${formatBytes(bytes)} are damaged in the store. ${where} has zeros there:`,
    ...lostRanges
      .slice(0, RANGES_SHOWN_MAX)
      .map(({ byteOffset, byteLength }) => `  bytes ${byteOffset} to ${byteOffset + byteLength - 1}`),
    ...(more > 0 ? [`  and ${formatCount(more, 'more range')}: see --json`] : []),
    'When the device was backed up again, and the blocks came back with that, the same restore adds them.',
  ];
}

function describe(name: string, point: Point, target: string, result: RestoreResult): string {
  const { writtenBytes, differingBytes, wireBytes, isVerified } = result;
  const size = formatBytes(point.geometry.sizeBytes);
  // A stream has the zeros too.
  const amount =
    target === '-'
      ? size
      : differingBytes === null
        ? `${size}, of which ${formatBytes(writtenBytes)} not zero`
        : `of ${size} ${formatBytes(differingBytes)} differed, ${formatBytes(writtenBytes)} fetched`;
  return (
    `${name} of ${formatInstant(point.instant)} restored to ${target === '-' ? 'standard output' : target}: ` +
    `${amount}, ${formatBytes(wireBytes)} on the wire${isVerified ? ', read back and compared' : ''}`
  );
}
