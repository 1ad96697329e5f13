/** `stillpoint pin POINT`, `unpin POINT`: points that stay whatever the rules say. */
import { type Command, Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { asNamed } from '../../../domain/point/group.js';
import type { Named } from '../../../domain/point/named.js';
import { parsePointTime } from '../../../domain/point/point-time.js';
import { parseLongPeriod } from '../../../domain/retention/policy.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { formatInstant } from '../../output/format.js';
import { groupView } from '../../output/group-points.js';
import {
  askRetention,
  findAllNamed,
  nameOf,
  pointsOf,
  type StoreChoice,
  storeDirectoryOption,
  storeOf,
} from './ask.js';

const POINT_HELP =
  'DEVICE@latest, DEVICE@SEQUENCE, DEVICE@TIME or an id, also of a group; AGENT/DEVICE@... of an agent';

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
  const named = await findOne(context, directory, name);
  const endMs = options.for === undefined ? untilMs : Date.now() + options.for;
  const { reason } = options;
  // One pin holds the group point already: if a later one fails, nothing is lost.
  for (const { id } of pointsOf(named))
    await askRetention(context, directory, { to: 'pin', pointId: id, reason, untilMs: endMs });
  const until = endMs === null ? null : new Date(endMs).toISOString();
  context.output.result({ ...viewOf(named), reason, until }, [
    `${whatOf(named)}: pinned${until === null ? '' : ` until ${formatInstant(until)}`}`,
  ]);
  return EXIT_OK;
}

async function findOne(context: CommandContext, directory: string, name: string): Promise<Named> {
  const [named] = await findAllNamed(context, directory, [name]);
  if (named === undefined) throw new Error('a point is found or refused');
  return named;
}

function viewOf(named: Named): object {
  return named.kind === 'point' ? { point: named.point } : { group: groupView(named.group) };
}

function whatOf(named: Named): string {
  if (named.kind === 'point') return nameOf(named.point);
  return `${nameOf(asNamed(named.group))} (${named.group.points.map(nameOf).join(', ')})`;
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
  const named = await findOne(context, directory, name);
  const points = pointsOf(named);
  const { pins } = await askRetention(context, directory, { to: 'show' });
  const pinned = points.filter(({ id }) => pins.some(({ pointId }) => pointId === id));
  // Where none is, the receiver refuses the first one.
  for (const { id } of pinned.length === 0 ? points : pinned)
    await askRetention(context, directory, { to: 'unpin', pointId: id });
  context.output.result(viewOf(named), [`${whatOf(named)}: no longer pinned`]);
  return EXIT_OK;
}
