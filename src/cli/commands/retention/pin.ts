/** `stillpoint pin POINT`, `unpin POINT`: points that stay whatever the rules say. */
import { type Command, Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { parsePointTime } from '../../../domain/point/point-time.js';
import { parseLongPeriod } from '../../../domain/retention/policy.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { formatInstant } from '../../output/format.js';
import { askRetention, findPoints, nameOf, type StoreChoice, storeDirectoryOption, storeOf } from './ask.js';

const POINT_HELP = 'DEVICE@latest, DEVICE@SEQUENCE, DEVICE@TIME or an id; AGENT/DEVICE@... of an agent';

interface PinChoice extends StoreChoice {
  readonly reason: string;
  /** ISO 8601. */
  readonly until?: string;
  /** In ms. */
  readonly for?: number;
}

export function addPins(program: Command, run: Run): void {
  program
    .command('pin')
    .description('keep a point, whatever the rules say; a second pin of a point replaces the first')
    .argument('<point>', POINT_HELP)
    .requiredOption('--reason <text>', 'why; it is shown with the point', notEmpty)
    .addOption(
      new Option('--until <time>', 'the end, local time: 2027-01-31 or 2027-01-31T18:00').argParser(notEmpty),
    )
    .addOption(
      new Option(
        '--for <period>',
        'the same, from now on: 36h, 30d, 8w, 2y (default: until it is taken away)',
      )
        .argParser((text) => parseLongPeriod('period', text))
        .conflicts('until'),
    )
    .addOption(storeDirectoryOption())
    .action((point: string, options: PinChoice) => run((context) => pin(context, point, options)));
  program
    .command('unpin')
    .description('take the pin of a point away')
    .argument('<point>', POINT_HELP)
    .addOption(storeDirectoryOption())
    .action((point: string, options: StoreChoice) => run((context) => unpin(context, point, options)));
}

async function pin(context: CommandContext, name: string, options: PinChoice): Promise<number> {
  const untilMs = options.until === undefined ? null : endOf(options.until);
  const directory = await storeOf(context, options);
  const [point] = await findPoints(context, directory, [name]);
  if (point === undefined) throw new Error('a point is found or refused');
  const endMs = options.for === undefined ? untilMs : Date.now() + options.for;
  const { reason } = options;
  await askRetention(context, directory, { to: 'pin', pointId: point.id, reason, untilMs: endMs });
  const until = endMs === null ? null : new Date(endMs).toISOString();
  context.output.result({ point, reason, until }, [
    `${nameOf(point)}: pinned${until === null ? '' : ` until ${formatInstant(until)}`}`,
  ]);
  return EXIT_OK;
}

/** The end of the day, the minute or the second that is named. */
function endOf(text: string): number {
  const endMs = parsePointTime(text)?.spans.at(-1)?.endMs;
  if (endMs !== undefined) return endMs;
  throw new StillpointError('usage', {
    thing: `--until ${JSON.stringify(text.slice(0, 80))}`,
    reason: 'it is not a time',
    remedy: 'Write for example 2027-01-31 or 2027-01-31T18:00.',
  });
}

async function unpin(context: CommandContext, name: string, options: StoreChoice): Promise<number> {
  const directory = await storeOf(context, options);
  const [point] = await findPoints(context, directory, [name]);
  if (point === undefined) throw new Error('a point is found or refused');
  await askRetention(context, directory, { to: 'unpin', pointId: point.id });
  context.output.result({ point }, [`${nameOf(point)}: no longer pinned`]);
  return EXIT_OK;
}
