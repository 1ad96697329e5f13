/**
 * `stillpoint restore POINT TARGET`: a point's bytes, to a device, an image or standard output; or all points
 * of a group point, each to its target.
 */
import type { Command } from 'commander';
import { unlessAborted } from '../../../agent/common/cancel.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { pointName } from '../../../domain/point/point-ref.js';
import type { CommandContext, Run } from '../../common/context.js';
import {
  agentOption,
  limitRateOption,
  notEmpty,
  type ReceiverChoice,
  storeDirectory,
  storeOption,
  withReceiver,
} from '../../common/open-receiver.js';
import { findRestorable, ownAgent } from '../../common/point-argument.js';
import { agentProgress } from '../../output/agent-progress.js';
import { restoreGroup, tellGroup } from './group.js';
import { exitCodeOf, linesOf, momentNote, viewOf } from './told.js';

export interface RestoreChoice extends ReceiverChoice {
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
      'DEVICE@latest, DEVICE@SEQUENCE, DEVICE@TIME or an id, also of a group; "stillpoint points" lists them, and ' +
        'with --journal the times between them that can be restored',
    )
    .argument(
      '<target...>',
      'block device, image file, or - for standard output; of a group point NAME=TARGET for each of its devices',
      (text: string, others: readonly string[] = []) => [...others, notEmpty(text)],
    )
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
    .addHelpText(
      'after',
      `
A group point is restored as a whole: restore db@latest data=/dev/sdc wal=/dev/sdd. All targets are checked before the
first one is written. If a restore fails, the same command continues.

DEVICE@TIME is the last point up to the end of that second, minute or day. If the device's tap keeps a journal, it is the
last write up to then: the point before it is restored, then what was written after it.`,
    )
    .action((point: string, targets: string[], options: RestoreChoice) =>
      run((context) => restore(context, point, targets, options)),
    );
}

async function restore(
  context: CommandContext,
  pointText: string,
  targets: readonly string[],
  options: RestoreChoice,
): Promise<number> {
  const { output, signal } = context;
  const [target = '', ...others] = targets;
  if (others.length === 0 && target === '-') {
    if (context.stdout.isTTY === true) {
      throw new StillpointError('usage', {
        thing: 'standard output',
        reason: 'it is a terminal',
        remedy: 'Redirect it to a file or a program.',
      });
    }
    output.reserveStdout();
  }
  const progress = agentProgress(output);
  const done = await withReceiver(context, options, async (receiver, meter) => {
    const named = await unlessAborted(signal, findRestorable(receiver, pointText));
    const own = await ownAgent(receiver);
    const common = { ...optionsOf(context, options), receiver, meter, onEvent: progress.onEvent };
    if (named.kind === 'group') {
      const { group } = named;
      const restored = await restoreGroup({ output, own, common }, group, targets);
      return { kind: 'group' as const, group, own, restored };
    }
    const moment = named.kind === 'moment' ? named.moment : undefined;
    const point = named.kind === 'moment' ? named.moment.base : named.point;
    const name = pointName(point, own);
    if (moment !== undefined) output.note(momentNote(pointText, name, moment));
    if (others.length > 0) throw oneTarget(name, targets.length);
    const { runRestore } = await import('../../../agent/restore/restore.js');
    const result = await runRestore({ ...common, point, moment, target, output: context.stdout.stream });
    return { kind: 'point' as const, restored: { name, point, target, result } };
  }).finally(progress.end);
  if (done.kind === 'group') return tellGroup(output, done.group, done.restored, done.own);
  if (target === '-') await output.requireDelivery();
  else output.stands(`${target} was restored anyway.`);
  const { restored } = done;
  output.result(viewOf(restored), linesOf(restored));
  return exitCodeOf([restored.result]);
}

/** Of each point. */
function optionsOf(context: CommandContext, options: RestoreChoice) {
  const { stateDirectoryIfAny: stateDirectory, signal } = context;
  const { overwrite, allowInUse, allowSectorSize, rewrite, zeroExcluded, verify, skipBad } = options;
  return {
    ...{ overwrite, allowInUse, allowSectorSize, rewrite, zeroExcluded, verify, skipBad },
    ...{ stateDirectory, signal, storeDirectory: storeDirectory(options.store) },
  };
}

function oneTarget(name: string, count: number): StillpointError {
  return new StillpointError('usage', {
    thing: `point ${name}`,
    reason: `it is one point, and ${count} targets are given`,
    remedy: 'Give one target. Only group points have several.',
  });
}
