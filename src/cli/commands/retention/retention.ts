/** `stillpoint retention show | set | confirm-clock | reset`: what is kept in a store, and for how long. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { checkName } from '../../../domain/base/names.js';
import {
  COUNT_RULES,
  checkPolicy,
  countsPointsOnly,
  describePolicy,
  formatLongPeriod,
  KEEP_COUNT_MAX,
  parseLongPeriod,
  type RetentionPolicy,
  scopeName,
} from '../../../domain/retention/policy.js';
import type { PinView, RetentionView } from '../../../receiver/retention/messages.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { EXIT_DAMAGED, EXIT_OK } from '../../output/exit-codes.js';
import { formatInstant, formatTable } from '../../output/format.js';
import {
  askRetention,
  deviceArgument,
  nameOf,
  type StoreChoice,
  storeDirectoryOption,
  storeOf,
} from './ask.js';

type Rules = Omit<RetentionPolicy, 'keepWithinMs' | 'keepAll'>;

interface SetChoice extends StoreChoice, Rules {
  readonly device?: string;
  readonly agent?: string;
  readonly keepWithin?: number;
  readonly keepAll?: boolean;
  readonly journalKeep?: number;
  readonly clear?: boolean;
  readonly minAge?: number;
  readonly timeZone?: string;
}

const PERIODS: Readonly<Record<string, string>> = {
  ...{
    keepHourly: 'hours',
    keepDaily: 'days',
    keepWeekly: 'weeks',
    keepMonthly: 'months',
    keepYearly: 'years',
  },
};

export function addRetention(program: Command, run: Run): void {
  const retention = program.command('retention').description('which points are kept, and for how long');
  retention
    .command('show')
    .description('show policies, minimum age, pins, and whether the clock is believed')
    .addOption(storeDirectoryOption())
    .action((options: StoreChoice) => run((context) => ask(context, options, 'show')));
  const set = retention
    .command('set')
    .description(
      'set the policy of all devices, of an agent or of a device; it replaces the one that was set there',
    )
    .option('--device <device>', 'only for this device; AGENT/DEVICE of an agent', notEmpty)
    .addOption(
      new Option('--agent <name>', "only for this agent's devices that have no policy of their own")
        .argParser((text) => checkName('agent name', text))
        .conflicts('device'),
    );
  for (const [key, name] of COUNT_RULES) {
    const what = PERIODS[key];
    const help =
      what === undefined
        ? 'keep the last N points'
        : `keep the last point of each of the last N ${what} with points`;
    set.addOption(new Option(`--${name} <n>`, help).argParser(parseCount));
  }
  set
    .addOption(
      new Option('--keep-within <period>', 'keep all points younger than this: 36h, 30d, 8w, 2y').argParser(
        parsePeriod,
      ),
    )
    .option('--keep-all', 'keep everything')
    .addOption(
      new Option(
        '--journal-keep <period>',
        'every second of this time can be restored, if the device has a journal (default: 24h)',
      ).argParser(parsePeriod),
    )
    .option('--clear', 'remove what was set there')
    .addOption(
      new Option(
        '--min-age <period>',
        'nobody can remove points younger than this; lowering it counts only after the present period',
      ).argParser(parsePeriod),
    )
    .option(
      '--time-zone <zone>',
      "whose hours, days and weeks count (default: this machine's, at the first set)",
      notEmpty,
    )
    .addOption(storeDirectoryOption())
    .addHelpText(
      'after',
      `
Rules add up: a point stays if one of them keeps it. The policy of the device counts, otherwise that of its agent,
otherwise that of all others. Without any, everything is kept. --journal-keep applies in the same way. "prune --dry-run" shows what a policy means.`,
    )
    .action((options: SetChoice) => run((context) => setRetention(context, options)));
  retention
    .command('confirm-clock')
    .description("say that the receiver's clock is right, after it jumped")
    .addOption(storeDirectoryOption())
    .action((options: StoreChoice) => run((context) => ask(context, options, 'confirm-clock')));
  retention
    .command('reset')
    .description('begin anew without policies, minimum age and pins, if the files that had them are damaged')
    .addOption(storeDirectoryOption())
    .action((options: StoreChoice) => run((context) => ask(context, options, 'reset')));
}

const parsePeriod = (text: string) => parseLongPeriod('period', text);

function parseCount(text: string): number {
  const value = /^\d{1,6}$/.test(text) ? Number(text) : 0;
  if (value >= 1 && value <= KEEP_COUNT_MAX) return value;
  throw new InvalidArgumentError(`It is not a number from 1 to ${KEEP_COUNT_MAX}.`);
}

async function setRetention(context: CommandContext, options: SetChoice): Promise<number> {
  const { device, agent, minAge, timeZone } = options;
  const policy = policyOf(options);
  const journalKeepMs = options.clear === true ? null : options.journalKeep;
  const isOfScope = policy !== undefined || journalKeepMs !== undefined;
  if (!isOfScope && minAge === undefined && timeZone === undefined) {
    throw new StillpointError('usage', {
      thing: 'retention set',
      reason: 'it is not said what is to be kept',
      remedy:
        'Give rules, such as --keep-daily 7 --keep-weekly 8, or --keep-all, --clear, --journal-keep, --min-age or --time-zone.',
    });
  }
  const scope = device === undefined ? { agent: agent ?? null, device: null } : deviceArgument(device);
  if (!isOfScope && scope.agent !== null) {
    throw new StillpointError('usage', {
      thing: 'retention set',
      reason: 'minimum age and time zone are for all of the store, not for a device or an agent',
      remedy: 'Set them without --device and --agent.',
    });
  }
  const directory = await storeOf(context, options);
  const view = await askRetention(context, directory, {
    ...{ to: 'set', scope },
    ...(policy === undefined ? {} : { policy }),
    ...(journalKeepMs === undefined ? {} : { journalKeepMs }),
    ...(minAge === undefined ? {} : { minAgeMs: minAge }),
    ...(timeZone === undefined ? {} : { timeZone }),
  });
  if (policy != null && countsPointsOnly(policy) && view.minAgeMs === 0) {
    context.output.note(
      'keep-last alone counts points: an agent that commits very many pushes the earlier ones out. Add --keep-daily, --keep-within or --min-age.',
    );
  }
  context.output.result(view, describe(view));
  return EXIT_OK;
}

/** Undefined: nothing is said of a policy. Null: it is to go. */
function policyOf({
  keepWithin,
  keepAll,
  clear,
  journalKeep,
  ...options
}: SetChoice): RetentionPolicy | null | undefined {
  const rules = COUNT_RULES.flatMap(([key]) =>
    options[key] === undefined ? [] : [[key, options[key]] as const],
  );
  const policy: RetentionPolicy = {
    ...Object.fromEntries(rules),
    ...(keepWithin === undefined ? {} : { keepWithinMs: keepWithin }),
    ...(keepAll === true ? { keepAll } : {}),
  };
  const isGiven = Object.keys(policy).length > 0;
  if (clear === true && (isGiven || journalKeep !== undefined)) {
    throw new StillpointError('usage', {
      thing: '--clear',
      reason: 'it is given with rules',
      remedy: 'Omit one of them: rules replace the policy that was set before.',
    });
  }
  if (clear === true) return null;
  return isGiven ? checkPolicy('policy', policy) : undefined;
}

async function ask(
  context: CommandContext,
  options: StoreChoice,
  to: 'show' | 'confirm-clock' | 'reset',
): Promise<number> {
  const view = await askRetention(context, await storeOf(context, options), { to });
  context.output.result(view, describe(view), true);
  return view.fault === null ? EXIT_OK : EXIT_DAMAGED;
}

function describe(view: RetentionView): string[] {
  const { fault, policies, timeZone, minAgeMs, lowering, managedBy, clock, pins } = view;
  const { journalKeep, journalKeepDefaultMs } = view;
  if (fault !== null) {
    return [
      `Policies, minimum age and pins are lost: ${fault}`,
      '  Nothing is removed until they are set again: "stillpoint retention reset", then "retention set" and "pin".',
    ];
  }
  const lines = policies.map((entry) => `  ${scopeName(entry)}: ${describePolicy(entry.policy)}`);
  const lowered =
    lowering === null
      ? ''
      : `, from ${formatInstant(lowering.at)} on ${lowering.minAgeMs === 0 ? 'none' : formatLongPeriod(lowering.minAgeMs)}`;
  return [
    ...(policies.length === 0
      ? ['No policy is set: everything is kept.']
      : ['Kept is what one of the rules keeps:']),
    ...lines,
    ...journalLines(journalKeep, journalKeepDefaultMs),
    ...(timeZone === null ? [] : [`Time zone: ${timeZone}`]),
    `Minimum age: ${minAgeMs === 0 ? 'none' : formatLongPeriod(minAgeMs)}${lowered}`,
    ...(managedBy === null ? [] : [`Set by ${managedBy}`]),
    ...(clock.isBelieved
      ? []
      : [
          `The clock is not believed, so no point goes by its time: ${clock.reason}`,
          '  "stillpoint retention confirm-clock" confirms it',
        ]),
    ...pinLines(pins),
  ];
}

function journalLines(journalKeep: RetentionView['journalKeep'], defaultMs: number): string[] {
  if (journalKeep.length === 0) return [];
  const all = { agent: null, device: null, keepMs: defaultMs };
  const entries = journalKeep.some(({ agent }) => agent === null) ? journalKeep : [all, ...journalKeep];
  return [
    'Journals are kept for:',
    ...entries.map((entry) => `  ${scopeName(entry)}: ${formatLongPeriod(entry.keepMs)}`),
  ];
}

function pinLines(pins: readonly PinView[]): string[] {
  if (pins.length === 0) return [];
  const columns = ['PINNED', 'UNTIL', 'REASON'].map((title) => ({ title }));
  return formatTable(
    columns,
    pins.map(({ until, reason, isInForce, ...point }) => [
      nameOf(point),
      until === null ? '-' : `${formatInstant(until)}${isInForce ? '' : ' (over)'}`,
      reason,
    ]),
  );
}
