/** `stillpoint forget POINT...`, `forget --device`: removes points whatever the rules say. */
import type { Command } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import type {
  BrokenGroupView,
  PlannedPointView,
  RetentionWish,
} from '../../../receiver/retention/messages.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { formatCount } from '../../output/format.js';
import {
  askRetention,
  deviceArgument,
  findAllNamed,
  nameOf,
  pointsOf,
  type StoreChoice,
  storeDirectoryOption,
  storeOf,
} from './ask.js';

interface ForgetChoice extends StoreChoice {
  readonly device?: string;
}

export function addForget(program: Command, run: Run): void {
  program
    .command('forget')
    .description('remove points, whatever the rules say')
    .argument(
      '[points...]',
      'DEVICE@SEQUENCE, DEVICE@TIME or an id, also of a group; AGENT/DEVICE@... of an agent',
    )
    .option(
      '--device <device>',
      'all points of this device, the last one too; AGENT/DEVICE of an agent',
      notEmpty,
    )
    .addOption(storeDirectoryOption())
    .addHelpText(
      'after',
      `
Refused are points younger than the minimum age, pinned points, points in use, and the last point of a device, which
the next backup builds on. Only --device removes that one, with all others. A point of a group point goes with all of
it: forget GROUP@SEQUENCE. If one point is refused, none is removed.
There is no way back. The space is freed by the next collection.`,
    )
    .action((points: string[], options: ForgetChoice) => run((context) => forget(context, points, options)));
}

async function forget(
  context: CommandContext,
  names: readonly string[],
  options: ForgetChoice,
): Promise<number> {
  const { device } = options;
  if (names.length > 0 === (device !== undefined)) {
    throw new StillpointError('usage', {
      thing: 'forget',
      reason: names.length > 0 ? 'it is given points and --device' : 'it is not said what',
      remedy: 'Name points, such as data@3, or a device with --device data.',
    });
  }
  const directory = await storeOf(context, options);
  const wish: RetentionWish =
    device === undefined
      ? { to: 'forget', pointIds: await idsOf(context, directory, names) }
      : { to: 'forget-device', ...deviceArgument(device) };
  const removed: PlannedPointView[] = [];
  const { output } = context;
  const { notWholeAnyMore = [] } = await askRetention(context, directory, wish, (point) => {
    removed.push(point);
    output.part('removed', point, [`${nameOf(point)}: removed`]);
  });
  output.stands('The points are removed.');
  output.result(
    { removed, ...(notWholeAnyMore.length === 0 ? {} : { notWholeAnyMore }) },
    [`${formatCount(removed.length, 'point')} removed.`, ...notWholeAnyMore.map(brokenLine)],
    true,
  );
  return EXIT_OK;
}

async function idsOf(
  context: CommandContext,
  directory: string,
  names: readonly string[],
): Promise<string[]> {
  const found = await findAllNamed(context, directory, names);
  return found.flatMap((named) => pointsOf(named).map(({ id }) => id));
}

function brokenLine({ agent, name, sequence, left }: BrokenGroupView): string {
  const group = nameOf({ agent, device: name, sequence });
  return `${group}: not whole any more; ${left.map(nameOf).join(', ')} ${left.length === 1 ? 'stays as a point of its own' : 'stay as points of their own'}`;
}
