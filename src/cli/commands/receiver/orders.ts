/**
 * `stillpoint receiver backup | dial | round | schedule`: the jobs that the receiver starts. The
 * receiver that serves the directory does them.
 */

import { type Command, InvalidArgumentError, Option } from 'commander';
import { isStillpointError, StillpointError } from '../../../domain/base/errors.js';
import { checkName } from '../../../domain/base/names.js';
import type { RoundItem, RoundSummary } from '../../../domain/order/round.js';
import { describeTiming, parseEvery, parseTimes } from '../../../domain/order/schedule.js';
import { pointLabel } from '../../../domain/point/point.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { recorded } from '../../common/recorded.js';
import { EXIT_FAILED, EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatBytes, formatDuration, formatInstant } from '../../output/format.js';
import { orderProgress } from '../../output/order-progress.js';
import { seconds } from '../backup.js';
import { addReceiverCompare } from './compare-order.js';

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
    .option('--at <times>', 'times of day, local: 02:00 or 02:00,14:30')
    .option('--every <interval>', '30m, 6h, 1d')
    .addOption(store())
    .addOption(agents())
    .addOption(parallelOption())
    .addOption(wait())
    .action((options: RoundChoice & { at?: string; every?: string }) =>
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
    .description('remove the schedule')
    .addOption(store())
    .action((options: StoreChoice) =>
      run(async (context) => clearSchedule(context, await directoryOf(context, options.store))),
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
  const { parseHostPort } = await import('../../../protocol/certificates/enrolment.js');
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { writeAddress } = await import('../../../receiver/orders/remote-settings.js');
  const address = text === 'none' ? null : parseHostPort(text);
  if (address?.port === 0) {
    throw new StillpointError('usage', {
      thing: `address ${JSON.stringify(text)}`,
      reason: "port 0 can't be dialled",
      remedy: 'Name the port that "stillpoint agent listen" listens on.',
    });
  }
  await readSettings(dir);
  const detail = address === null ? 'it is no longer dialled' : `it is dialled at ${text}`;
  await recorded(dir, { what: 'setting', agent, detail }, () => writeAddress(dir, agent, address));
  const isServed = await reload(context, dir);
  context.output.result({ agent, address: address === null ? null : text, isServed }, [
    address === null ? `${agent} is no longer dialled` : `${agent} is dialled at ${text}`,
    ...(isServed ? [] : ['  as soon as a receiver serves this directory: none does now']),
  ]);
  return EXIT_OK;
}

/** Has the receiver that serves, if there is one, read what was written. */
export async function reload({ signal }: CommandContext, dir: string): Promise<boolean> {
  const { askReceiver } = await import('../../../receiver/control/client.js');
  try {
    await askReceiver(dir, { op: 'reload' }, { signal });
    return true;
  } catch (error) {
    if (isStillpointError(error, 'unreachable')) return false;
    throw error;
  }
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

async function setSchedule(
  context: CommandContext,
  dir: string,
  options: RoundChoice & { readonly at?: string; readonly every?: string },
): Promise<number> {
  const { at, every, agents = null, parallel, wait } = options;
  if ((at === undefined) === (every === undefined)) {
    throw new StillpointError('usage', {
      thing: 'schedule',
      reason: 'it needs either --at or --every',
      remedy: 'Write for example --at 02:00, or --every 6h.',
    });
  }
  const timing = at === undefined ? parseEvery(every ?? '') : parseTimes(at);
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { writeSchedule } = await import('../../../receiver/orders/remote-settings.js');
  await readSettings(dir);
  const schedule = { timing, agents, parallel, waitMs: wait * 1000, setAt: new Date().toISOString() };
  const detail = `rounds begin ${describeTiming(timing)}`;
  await recorded(dir, { what: 'setting', detail }, () => writeSchedule(dir, schedule));
  const isServed = await reload(context, dir);
  context.output.result({ schedule, isServed }, [
    `Rounds begin ${describeTiming(timing)}`,
    ...(isServed ? [] : ['  as soon as a receiver serves this directory: none does now']),
  ]);
  return EXIT_OK;
}

async function showSchedule({ output }: CommandContext, dir: string): Promise<number> {
  const { readLastRound, readSchedule } = await import('../../../receiver/orders/remote-settings.js');
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { LOCAL_CALENDAR } = await import('../../../receiver/orders/scheduler.js');
  const { dueAfter } = await import('../../../domain/order/schedule.js');
  await readSettings(dir);
  const [schedule, lastRound] = [await readSchedule(dir), await readLastRound(dir)];
  const lines: string[] = [];
  let nextAt: string | null = null;
  if (schedule === null) lines.push('No rounds are scheduled.');
  else {
    const { timing, parallel, agents, setAt } = schedule;
    const sinceMs = Math.max(Date.parse(setAt), Date.parse(lastRound?.startedAt ?? setAt));
    nextAt = new Date(dueAfter(timing, sinceMs, LOCAL_CALENDAR)).toISOString();
    lines.push(
      `Rounds begin ${describeTiming(timing)}, ${parallel} at once, of ${agents === null ? 'all agents' : agents.join(', ')}`,
      `  next  ${formatInstant(nextAt)}`,
    );
  }
  if (lastRound !== null) {
    const { startedAt, summary } = lastRound;
    lines.push(`  last  ${formatInstant(startedAt)}${summary === null ? ': it has not ended' : ''}`);
    if (summary !== null) lines.push(...describeSummary(summary).map((line) => `  ${line}`));
  }
  output.result({ schedule, nextAt, lastRound }, lines, true);
  return EXIT_OK;
}

async function clearSchedule(context: CommandContext, dir: string): Promise<number> {
  const { readSettings } = await import('../../../receiver/access/identity.js');
  const { writeSchedule } = await import('../../../receiver/orders/remote-settings.js');
  await readSettings(dir);
  const detail = 'rounds are no longer scheduled';
  await recorded(dir, { what: 'setting', detail }, () => writeSchedule(dir, null));
  const isServed = await reload(context, dir);
  context.output.result({ schedule: null, isServed }, ['Rounds are no longer scheduled']);
  return EXIT_OK;
}
