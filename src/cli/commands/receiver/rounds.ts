/** `stillpoint receiver round | schedule`: the receiver that serves the directory carries rounds out. */
import { type Command, InvalidArgumentError, Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { ROUND_PARALLEL_MAX } from '../../../domain/base/limits.js';
import { checkName } from '../../../domain/base/names.js';
import { itemName, type RoundItem, type RoundSummary } from '../../../domain/order/round.js';
import type { RoundChoice } from '../../../domain/order/round-choice.js';
import { describeSchedule, dueAfter, parseEvery, parseSchedule } from '../../../domain/order/schedule.js';
import type { CommandContext, Run } from '../../common/context.js';
import { recorded } from '../../common/recorded.js';
import { reload } from '../../common/served.js';
import { EXIT_FAILED, EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatBytes, formatDuration, formatInstant } from '../../output/format.js';

interface StoreChoice {
  readonly store?: string;
}

interface RoundOptions extends StoreChoice {
  readonly agents?: string[];
  readonly groups?: string[];
  readonly parallel: number;
  readonly wait: number;
}

interface ScheduleOptions extends RoundOptions {
  readonly at?: string;
  readonly every?: string;
  readonly name: string;
  readonly retries: string;
}

interface Options {
  readonly directoryOf: (context: CommandContext, dir: string | undefined) => Promise<string>;
  readonly store: () => Option;
  readonly wait: () => Option;
}

export function addReceiverRounds(receiver: Command, run: Run, { directoryOf, store, wait }: Options): void {
  const names = (kind: string) => (text: string) =>
    text.split(',').map((name) => checkName(kind, name.trim()));
  const agents = () =>
    new Option(
      '--agents <names>',
      'only these, separated by commas; then groups only with --groups (default: all enrolled agents)',
    ).argParser(names('agent name'));
  const groups = () =>
    new Option(
      '--groups <names>',
      'only these groups, separated by commas; with --agents, beside those (default: all)',
    ).argParser(names('group name'));
  receiver
    .command('round')
    .description(
      'have all agents back up all groups, and alone what is in none; unreachable ones are skipped and reported',
    )
    .addOption(store())
    .addOption(agents())
    .addOption(groups())
    .addOption(parallelOption())
    .addOption(wait())
    .action((options: RoundOptions) =>
      run(async (context) => round(context, await directoryOf(context, options.store), options)),
    );

  const schedule = receiver.command('schedule').description('rounds that the receiver starts by itself');
  schedule
    .command('set')
    .description('start rounds at these times')
    .option('--at <times>', 'times of day or a calendar expression: 02:00,14:30 or "Mon..Fri 02:00"')
    .option('--every <interval>', '30m, 6h, 1d')
    .option('--name <name>', 'one schedule of several', 'default')
    .option('--retries <number>', 'how often a round goes back to what failed', '2')
    .addOption(store())
    .addOption(agents())
    .addOption(groups())
    .addOption(parallelOption())
    .addOption(wait())
    .action((options: ScheduleOptions) =>
      run(async (context) => setSchedule(context, await directoryOf(context, options.store), options)),
    );
  schedule
    .command('show')
    .description('show the schedule, and how its last round ended')
    .addOption(store())
    .action((options: StoreChoice) =>
      run(async (context) => showSchedule(context, await directoryOf(context, options.store))),
    );
  schedule
    .command('clear')
    .description('remove the schedules, or one of them')
    .option('--name <name>', 'only this one')
    .addOption(store())
    .action((options: StoreChoice & { name?: string }) =>
      run(async (context) =>
        clearSchedule(context, await directoryOf(context, options.store), options.name ?? null),
      ),
    );
}

function parallelOption(): Option {
  return new Option('--parallel <number>', 'how many backups at once').default(1).argParser((text) => {
    const value = /^\d{1,3}$/.test(text) ? Number(text) : 0;
    if (value >= 1 && value <= ROUND_PARALLEL_MAX) return value;
    throw new InvalidArgumentError(`It is not a number from 1 to ${ROUND_PARALLEL_MAX}.`);
  });
}

async function round(
  { output, signal }: CommandContext,
  dir: string,
  options: RoundOptions,
): Promise<number> {
  const { askReceiver } = await import('../../../receiver/control/client.js');
  const { itemEventSchema, summarySchema } = await import('../../../receiver/control/messages.js');
  const { parallel, wait } = options;
  const answer = await askReceiver(
    dir,
    { op: 'round', ...choiceOf(options), parallel, waitMs: wait * 1000 },
    { signal, onEvent: (event) => output.note(describeItem(itemEventSchema.parse(event))) },
  );
  const summary = summarySchema.parse(answer);
  output.result({ ...summary }, describeSummary(summary), true);
  return exitCodeOfRound(summary);
}

function choiceOf({ agents, groups }: RoundOptions) {
  return { agents: agents ?? null, groups: groups ?? null };
}

function describeChoice({ agents, groups }: RoundChoice): string {
  if (agents === null && groups === null) return 'all agents and groups';
  const named = groups === null ? [] : [`group${groups.length === 1 ? '' : 's'} ${groups.join(', ')}`];
  return [...(agents === null ? [] : [agents.join(', ')]), ...named].join(' and ');
}

function describeItem(item: RoundItem): string {
  const { state, point, reason, wireBytes, durationMs } = item;
  const name = itemName(item);
  if (state === 'running') return `${name}: ordered`;
  if (state === 'done') {
    return `${name}: ${point}, ${formatBytes(wireBytes)} on the wire, ${formatDuration(durationMs)}`;
  }
  return `${name}: ${state}: ${reason}`;
}

function describeSummary(summary: RoundSummary): string[] {
  const { done, failed, skipped, withWarnings, wireBytes, durationMs, items } = summary;
  const warned = withWarnings === 0 ? '' : ` (${withWarnings} with warnings)`;
  return [
    `${done} done${warned}, ${failed} failed, ${skipped} skipped; ${formatBytes(wireBytes)} on the wire in ${formatDuration(durationMs)}`,
    ...items.filter(({ state }) => state !== 'done').map((item) => `  ${describeItem(item)}`),
  ];
}

function exitCodeOfRound({ done, failed, skipped, withWarnings }: RoundSummary): number {
  if (failed > 0 || done === 0) return EXIT_FAILED;
  return skipped > 0 || withWarnings > 0 ? EXIT_WARNINGS : EXIT_OK;
}

async function setSchedule(context: CommandContext, dir: string, options: ScheduleOptions): Promise<number> {
  const { at, every, parallel, wait } = options;
  if ((at === undefined) === (every === undefined)) {
    throw new StillpointError('usage', {
      thing: 'schedule',
      reason: 'it needs either --at or --every',
      remedy: 'Write for example --at 02:00, or --every 6h.',
    });
  }
  const timing = at === undefined ? parseEvery(every ?? '') : parseSchedule(at);
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { findGroup } = await import('../../../receiver/orders/group-settings.js');
  const { ROUND_RETRIES_MAX } = await import('../../../receiver/orders/remote-settings.js');
  const { roundsOf } = await import('../../common/receiver-settings.js');
  const retries = /^\d{1,2}$/.test(options.retries) ? Number(options.retries) : ROUND_RETRIES_MAX + 1;
  if (retries > ROUND_RETRIES_MAX) {
    throw new StillpointError('usage', {
      thing: `--retries ${options.retries}`,
      reason: `it is not a number from 0 to ${ROUND_RETRIES_MAX}`,
    });
  }
  await readSettings(dir);
  const schedule = {
    ...{ name: checkName('schedule name', options.name), at: timing.text, parallel, retries },
    ...{ ...choiceOf(options), waitMs: wait * 1000, setAt: new Date().toISOString() },
  };
  const rounds = await roundsOf(context, dir, (told) => context.output.note(told));
  const known = await rounds.groups();
  for (const name of schedule.groups ?? []) findGroup(known, name);
  const detail = `${schedule.name}: rounds begin ${describeSchedule(timing)}`;
  await recorded(dir, { what: 'setting', detail }, () => rounds.setSchedule(schedule));
  const isServed = await reload(context, dir);
  context.output.result({ schedule, isServed }, [
    `Rounds begin ${describeSchedule(timing)}`,
    ...(isServed ? [] : ['  as soon as a receiver serves this directory: none does now']),
  ]);
  return EXIT_OK;
}

async function showSchedule(context: CommandContext, dir: string): Promise<number> {
  const { output } = context;
  const { roundsOf } = await import('../../common/receiver-settings.js');
  const { readLastRound, timingOf } = await import('../../../receiver/orders/remote-settings.js');
  const { readSettings } = await import('../../../receiver/access/identity.js');
  await readSettings(dir);
  const rounds = await roundsOf(context, dir, (told) => output.note(told));
  const lines: string[] = [];
  const schedules: object[] = [];
  for (const schedule of await rounds.schedules()) {
    const lastRound = await readLastRound(dir, schedule.name);
    const { name, parallel, setAt } = schedule;
    const sinceMs = Math.max(Date.parse(setAt), Date.parse(lastRound?.startedAt ?? setAt));
    const nextMs = dueAfter(timingOf(schedule), sinceMs);
    const nextAt = nextMs === null ? null : new Date(nextMs).toISOString();
    lines.push(
      `${name}: rounds begin ${describeSchedule(timingOf(schedule))}, ${parallel} at once, of ${describeChoice(schedule)}`,
      `  next  ${nextAt === null ? 'never again' : formatInstant(nextAt)}`,
    );
    if (lastRound !== null) {
      const { startedAt, summary } = lastRound;
      lines.push(`  last  ${formatInstant(startedAt)}${summary === null ? ': it has not ended' : ''}`);
      if (summary !== null) lines.push(...describeSummary(summary).map((line) => `  ${line}`));
    }
    schedules.push({ ...schedule, nextAt, lastRound });
  }
  output.result({ schedules }, lines.length === 0 ? ['No rounds are scheduled.'] : lines, true);
  return EXIT_OK;
}

async function clearSchedule(context: CommandContext, dir: string, name: string | null): Promise<number> {
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { roundsOf } = await import('../../common/receiver-settings.js');
  await readSettings(dir);
  const rounds = await roundsOf(context, dir, (told) => context.output.note(told));
  if (name !== null && !(await rounds.schedules()).some((schedule) => schedule.name === name)) {
    throw new StillpointError('usage', {
      thing: `schedule ${name}`,
      reason: 'there is none of this name',
      remedy: 'See "stillpoint receiver schedule show".',
    });
  }
  const detail = name === null ? 'rounds are no longer scheduled' : `schedule ${name} is removed`;
  const removed = await recorded(dir, { what: 'setting', detail }, () => rounds.clearSchedules(name));
  const isServed = await reload(context, dir);
  const lines = [name === null ? 'Rounds are no longer scheduled' : `Schedule ${name} is removed`];
  context.output.result({ removed, isServed }, lines);
  return EXIT_OK;
}
