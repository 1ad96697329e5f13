/** `stillpoint forget POINT...`, `forget --device`: removes points whatever the rules say. */
import type { Command } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import type { PlannedPointView, RetentionWish } from '../../../receiver/retention/messages.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { formatCount } from '../../output/format.js';
import {
  askRetention,
  deviceArgument,
  findPoints,
  nameOf,
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
    .argument('[points...]', 'DEVICE@SEQUENCE, DEVICE@TIME or an id; AGENT/DEVICE@... of an agent')
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
the next backup builds on. Only --device removes that one, with all others. If one point is refused, none is removed.
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
      ? { to: 'forget', pointIds: (await findPoints(context, directory, names)).map(({ id }) => id) }
      : { to: 'forget-device', ...deviceArgument(device) };
  const removed: PlannedPointView[] = [];
  const { output } = context;
  await askRetention(context, directory, wish, (point) => {
    removed.push(point);
    output.part('removed', point, [`${nameOf(point)}: removed`]);
  });
  output.stands('The points are removed.');
  output.result({ removed }, [`${formatCount(removed.length, 'point')} removed.`], true);
  return EXIT_OK;
}
