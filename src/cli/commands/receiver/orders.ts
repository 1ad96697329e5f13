/**
 * `stillpoint receiver backup | dial | round | schedule`: the jobs that the receiver starts. The
 * receiver that serves the directory does them.
 */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { parseHostPort } from '../../../domain/base/addresses.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { checkName } from '../../../domain/base/names.js';
import type { RoundItem, RoundSummary } from '../../../domain/order/round.js';
import { describeSchedule, dueAfter, parseEvery, parseSchedule } from '../../../domain/order/schedule.js';
import { pointLabel } from '../../../domain/point/point.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { recorded } from '../../common/recorded.js';
import { askReceiverOr } from '../../common/served.js';
import { seconds } from '../../options/capture.js';
import { EXIT_FAILED, EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatBytes, formatDuration, formatInstant } from '../../output/format.js';
import { orderProgress } from '../../output/order-progress.js';
import { addReceiverCompare } from './compare-order.js';
import { addReceiverGroups } from './groups.js';

const STORE_HELP = 'the directory of the store (default: "receiver" in the state directory)';
const WAIT_DEFAULT_S = 30;
const PARALLEL_MAX = 64;

type DirectoryOf = (context: CommandContext, dir: string | undefined) => Promise<string>;

interface StoreChoice {
  readonly store?: string;
}

interface RoundChoice extends StoreChoice {
  readonly agents?: readonly string[];
  readonly parallel: number;
  readonly wait: number;
}

interface ScheduleChoice extends RoundChoice {
  readonly at?: string;
  readonly every?: string;
  readonly name: string;
  readonly retries: string;
}

export function addReceiverOrders(receiver: Command, run: Run, directoryOf: DirectoryOf): void {
  const store = () => new Option('--store <dir>', STORE_HELP).argParser(notEmpty);
  const wait = () =>
    seconds('--wait <seconds>', 'how long to wait for agents that are not connected').default(WAIT_DEFAULT_S);
  const agents = () =>
    new Option(
      '--agents <names>',
      'only these, separated by commas (default: all enrolled agents)',
    ).argParser((text: string) => text.split(',').map((name) => checkName('agent name', name.trim())));

  receiver
    .command('backup')
    .description('have an agent back up a device that it offers, and wait for the point')
    .argument('<agent>', "the agent's name")
    .argument('<device>', 'name under which it is offered')
    .addOption(store())
    .option('--full', 'read everything, even if the agent knows what changed')
    .addOption(wait())
    .action((agent: string, device: string, options: StoreChoice & { full?: boolean; wait: number }) =>
      run(async (context) =>
        backup(context, await directoryOf(context, options.store), { agent, device, ...options }),
      ),
    );
  addReceiverCompare(receiver, run, { directoryOf, store, wait });
  addReceiverGroups(receiver, run, { directoryOf, store, wait });
  receiver
    .command('dial')
    .description('open connections to an agent that listens, or stop doing so')
    .argument('<agent>', "the agent's name")
    .argument('<address>', 'HOST:PORT, or "none"')
    .addOption(store())
    .action((agent: string, address: string, options: StoreChoice) =>
      run(async (context) => dial(context, await directoryOf(context, options.store), agent, address)),
    );
  receiver
    .command('round')
    .description(
      'have all agents back up everything that they offer; unreachable ones are skipped and reported',
    )
    .addOption(store())
    .addOption(agents())
    .addOption(parallelOption())
    .addOption(wait())
    .action((options: RoundChoice) =>
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
    .addOption(parallelOption())
    .addOption(wait())
    .action((options: ScheduleChoice) =>
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
    if (value >= 1 && value <= PARALLEL_MAX) return value;
    throw new InvalidArgumentError(`It is not a number from 1 to ${PARALLEL_MAX}.`);
  });
}

async function backup(
  { output, signal }: CommandContext,
  dir: string,
  options: {
    readonly agent: string;
    readonly device: string;
    readonly full?: boolean;
    readonly wait: number;
  },
): Promise<number> {
  const agent = checkName('agent name', options.agent);
  const device = checkName('device name', options.device);
  const { askReceiver } = await import('../../../receiver/control/client.js');
  const { orderEventSchema, orderResultSchema } = await import('../../../receiver/control/messages.js');
  const progress = orderProgress(output, agent);
  const answer = await askReceiver(
    dir,
    { op: 'backup', agent, device, full: options.full === true, waitMs: options.wait * 1000 },
    { signal, onEvent: (event) => progress.onChange(orderEventSchema.parse(event)) },
  ).finally(progress.end);
  const { point, warnings } = orderResultSchema.parse(answer);
  for (const text of warnings) output.warn(text);
  const { changedBytes, wireBytes, durationMs } = point.statistics;
  output.result({ agent, point, warnings }, [
    `${agent}: ${pointLabel(point)}: committed, ${point.kind}, ${formatInstant(point.instant)}`,
    `  size     ${formatBytes(point.geometry.sizeBytes)} in ${formatDuration(durationMs)}`,
    `  changed  ${formatBytes(changedBytes)}, on the wire ${formatBytes(wireBytes)}, stored ${formatBytes(point.storedBytes)}`,
  ]);
  return warnings.length === 0 ? EXIT_OK : EXIT_WARNINGS;
}

async function dial(context: CommandContext, dir: string, agentName: string, text: string): Promise<number> {
  const agent = checkName('agent name', agentName);
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { roundsOf } = await import('../../common/receiver-settings.js');
  const address = text === 'none' ? null : parseHostPort(text);
  if (address?.port === 0) {
    throw new StillpointError('usage', {
      thing: `address ${JSON.stringify(text)}`,
      reason: "port 0 can't be dialled",
      remedy: 'Name the port that "stillpoint agent listen" listens on.',
    });
  }
  await readSettings(dir);
  const rounds = await roundsOf(context, dir, (told) => context.output.note(told));
  const detail = address === null ? 'it is no longer dialled' : `it is dialled at ${text}`;
  await recorded(dir, { what: 'setting', agent, detail }, () => rounds.setAddress(agent, address));
  const isServed = await reload(context, dir);
  context.output.result({ agent, address: address === null ? null : text, isServed }, [
    address === null ? `${agent} is no longer dialled` : `${agent} is dialled at ${text}`,
    ...(isServed ? [] : ['  as soon as a receiver serves this directory: none does now']),
  ]);
  return EXIT_OK;
}

/** Has the receiver that serves, if there is one, read what was written. */
export function reload(context: CommandContext, dir: string): Promise<boolean> {
  const asking = { wish: { op: 'reload' }, parse: () => true } as const;
  return askReceiverOr(context, dir, asking, async () => false);
}

async function round({ output, signal }: CommandContext, dir: string, options: RoundChoice): Promise<number> {
  const { askReceiver } = await import('../../../receiver/control/client.js');
  const { itemEventSchema, summarySchema } = await import('../../../receiver/control/messages.js');
  const { agents = null, parallel, wait } = options;
  const answer = await askReceiver(
    dir,
    { op: 'round', agents: agents === null ? null : [...agents], parallel, waitMs: wait * 1000 },
    { signal, onEvent: (event) => output.note(describeItem(itemEventSchema.parse(event))) },
  );
  const summary = summarySchema.parse(answer);
  output.result({ ...summary }, describeSummary(summary), true);
  return exitCodeOfRound(summary);
}

function describeItem({ agent, device, state, point, reason, wireBytes, durationMs }: RoundItem): string {
  const name = device === null ? agent : `${agent} ${device}`;
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

async function setSchedule(context: CommandContext, dir: string, options: ScheduleChoice): Promise<number> {
  const { at, every, agents = null, parallel, wait } = options;
  if ((at === undefined) === (every === undefined)) {
    throw new StillpointError('usage', {
      thing: 'schedule',
      reason: 'it needs either --at or --every',
      remedy: 'Write for example --at 02:00, or --every 6h.',
    });
  }
  const timing = at === undefined ? parseEvery(every ?? '') : parseSchedule(at);
  const { readSettings } = await import('../../../receiver/access/identity.js');
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
    ...{ name: checkName('schedule name', options.name), at: timing.text, agents, parallel, retries },
    ...{ waitMs: wait * 1000, setAt: new Date().toISOString() },
  };
  const rounds = await roundsOf(context, dir, (told) => context.output.note(told));
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
    const { name, parallel, agents, setAt } = schedule;
    const sinceMs = Math.max(Date.parse(setAt), Date.parse(lastRound?.startedAt ?? setAt));
    const nextMs = dueAfter(timingOf(schedule), sinceMs);
    const nextAt = nextMs === null ? null : new Date(nextMs).toISOString();
    lines.push(
      `${name}: rounds begin ${describeSchedule(timingOf(schedule))}, ${parallel} at once, of ${agents === null ? 'all agents' : agents.join(', ')}`,
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
