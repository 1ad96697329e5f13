/** The options that leave out partitions of a disk. */
import { type Command, Option } from 'commander';
import { StillpointError } from '../../domain/base/errors.js';
import type { ExclusionWish } from '../../domain/device/exclusion.js';

export interface PartitionOptions {
  readonly partitions?: readonly number[];
  readonly excludePartitions?: readonly number[];
  readonly excludeSwap?: boolean;
}

const NUMBERS_MAX = 256;

export function addPartitionOptions(command: Command): Command {
  return command
    .addOption(
      new Option(
        '--partitions <numbers>',
        'of a disk only these partitions, separated by commas, and all that is outside of partitions',
      ).argParser((text) => numbersOf('--partitions', text)),
    )
    .addOption(
      new Option('--exclude-partitions <numbers>', 'leave out these partitions of a disk').argParser((text) =>
        numbersOf('--exclude-partitions', text),
      ),
    )
    .option('--exclude-swap', 'leave out the content of swap partitions of a disk');
}

/** @throws StillpointError `usage`: both ways at once */
export function exclusionWish({
  partitions,
  excludePartitions,
  excludeSwap = false,
}: PartitionOptions): ExclusionWish {
  if (partitions !== undefined && excludePartitions !== undefined) {
    throw new StillpointError('usage', {
      thing: '--exclude-partitions',
      reason: 'with --partitions all others are left out anyway',
      remedy: 'Use one of the two.',
    });
  }
  return { partitions: partitions ?? null, excludePartitions: excludePartitions ?? [], excludeSwap };
}

function numbersOf(option: string, text: string): number[] {
  const parts = text.split(',').map((part) => part.trim());
  if (parts.length <= NUMBERS_MAX && parts.every((part) => /^[1-9]\d{0,3}$/.test(part)))
    return [...new Set(parts.map(Number))];
  throw new StillpointError('usage', {
    thing: `${option} ${JSON.stringify(text.slice(0, 80))}`,
    reason: 'it is not a list of partition numbers',
    remedy: 'Write for example 1,3.',
  });
}
