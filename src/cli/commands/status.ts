/** `stillpoint status | pause | resume`: the agent's daemon of this machine. */
import { type Command, Option } from 'commander';
import type { DaemonView, DeviceView } from '../../agent/daemon/view.js';
import type { JournalView } from '../../agent/journal/view.js';
import { isStillpointError } from '../../domain/base/errors.js';
import { parsePeriod } from '../../domain/base/quantities.js';
import type { CommandContext, Run } from '../common/context.js';
import { EXIT_OK, EXIT_WARNINGS } from '../output/exit-codes.js';
import { formatBytes, formatDuration, formatInstant, formatTable } from '../output/format.js';

const PAUSE_MS_MIN = 60_000;

export function addStatus(program: Command, run: Run): void {
  program
    .command('status')
    .description('show the devices and groups of this machine: last point, next run, and what is wrong')
    .addHelpText('after', '\nThe exit code is 3 if anything is wrong.')
    .action(() => run(status));
  program
    .command('pause')
    .description('begin no scheduled backups for a while; what runs goes on')
    .argument('[name]', 'only of this device or group (default: of all)')
    .addOption(
      new Option('--for <period>', 'how long: 90m, 2h, 7d (default: until "resume")').argParser((text) =>
        parsePeriod('period', text, PAUSE_MS_MIN),
      ),
    )
    .action((name: string | undefined, options: { for?: number }) =>
      run((context) => pause(context, name ?? null, options.for ?? null)),
    );
  program
    .command('resume')
    .description('end a pause; what was due meanwhile begins')
    .argument('[name]', 'only of this device or group (default: of all)')
    .action((name: string | undefined) => run((context) => resume(context, name ?? null)));
}

async function ask(context: CommandContext, path: string, body?: object): Promise<unknown> {
  const { askAgent } = await import('../../agent/control/client.js');
  const { agentSocketPath } = await import('../../agent/control/messages.js');
  const { stateDirectory, environment, userId, signal } = context;
  return askAgent(agentSocketPath(stateDirectory, environment, userId), {
    ...{ method: body === undefined ? 'GET' : 'POST', path, signal },
    ...(body === undefined ? {} : { body }),
  });
}

/** Of the daemon, or what its files say while none runs. */
async function readStatus(context: CommandContext): Promise<{ isRunning: boolean; view: DaemonView }> {
  const { daemonViewSchema } = await import('../../agent/daemon/view.js');
  try {
    return { isRunning: true, view: daemonViewSchema.parse(await ask(context, 'status')) };
  } catch (error) {
    if (!isStillpointError(error, 'unreachable')) throw error;
  }
  const { viewAtRest } = await import('../../agent/daemon/at-rest.js');
  const { agentConfig } = await import('../common/agent-config.js');
  const { settings, devices, groups } = await agentConfig(context);
  const { parallel } = settings;
  const view = await viewAtRest(context.stateDirectory, { parallel, devices, groups }, Date.now());
  return { isRunning: false, view };
}

async function status(context: CommandContext): Promise<number> {
  const { isRunning, view } = await readStatus(context);
  const nowMs = Date.now();
  const { devices, receivers, journals, problems } = view;
  const isWaitedFor = devices.some(({ schedule }) => schedule !== null);
  const lines = [
    isRunning
      ? `The agent runs since ${formatInstant(view.startedAt)}${paused(view.isPaused, view.pausedUntil)}.`
      : `The agent does not run${isWaitedFor ? ': nothing is backed up by schedule' : ''}.`,
    ...receivers.flatMap(({ url, problem, rounds }) => [
      `${url}: ${problem ?? 'connected'}`,
      ...rounds.map(
        (round) =>
          `  round ${round.name}, ${round.schedule}: next ${round.nextAt === null ? 'never' : formatInstant(round.nextAt)}`,
      ),
    ]),
    '',
    ...(devices.length === 0
      ? ['No device is configured. Add one with "stillpoint agent add DEVICE", or in agent.toml.']
      : formatTable(
          ['DEVICE', 'STATE', 'LAST POINT', 'AGE', 'LAST RUN', 'NEXT RUN'].map((title) => ({ title })),
          devices.map((device) => row(device, isRunning, nowMs)),
        )),
    ...groupsOf(devices),
    ...journalLines(journals),
  ];
  const wrong = [
    ...devices.flatMap(({ name, problem }) => (problem === null ? [] : [`${name}: ${problem}`])),
    ...receivers.flatMap(({ url, problem }) => (problem === null ? [] : [`${url}: ${problem}`])),
    ...journals.flatMap(({ device, problem }) =>
      problem === null ? [] : [`journal of ${device}: ${problem}`],
    ),
    ...problems,
    ...(!isRunning && isWaitedFor ? ['the agent does not run'] : []),
  ];
  if (wrong.length > 0) lines.push('', 'What is wrong:', ...wrong.map((text) => `  ${text}`));
  const { startedAt, ...rest } = view;
  context.output.result({ isRunning, startedAt: isRunning ? startedAt : null, ...rest, wrong }, lines, true);
  return wrong.length === 0 ? EXIT_OK : EXIT_WARNINGS;
}

function groupsOf(devices: readonly DeviceView[]): string[] {
  const groups = devices.flatMap(({ name, members }) =>
    members === null ? [] : [`  ${name}: ${members.join(', ')}`],
  );
  return groups.length === 0 ? [] : ['', 'Groups, each with one instant:', ...groups];
}

function journalLines(journals: readonly JournalView[]): string[] {
  if (journals.length === 0) return [];
  const titles = ['JOURNAL OF', 'TAP', 'STATE', 'SHIPPED UP TO', 'BEHIND', 'RECEIVER'];
  const rows = journals.map(({ device, tap, state, shippedThrough, lagMs, brokenAt, receiver }) => [
    ...[device, tap, JOURNAL_STATES[state] + (brokenAt === null ? '' : ` since ${formatInstant(brokenAt)}`)],
    shippedThrough === null ? '-' : formatInstant(shippedThrough),
    lagMs === null ? '-' : formatDuration(lagMs),
    receiver ?? '-',
  ]);
  return [
    '',
    ...formatTable(
      titles.map((title) => ({ title })),
      rows,
    ),
  ];
}

const JOURNAL_STATES: Readonly<Record<JournalView['state'], string>> = {
  shipped: 'shipped',
  behind: 'waiting',
  broken: 'broken',
  none: 'begins with the next point',
  refused: 'not shipped',
};

function paused(isPaused: boolean, untilIso: string | null): string {
  if (!isPaused) return '';
  return untilIso === null ? ', paused until it is resumed' : `, paused until ${formatInstant(untilIso)}`;
}

function row(device: DeviceView, isRunning: boolean, nowMs: number): string[] {
  const { name, state, running, last, lastGood, nextAt, pausedUntil } = device;
  const age = lastGood === null ? '-' : formatDuration(Math.max(0, nowMs - Date.parse(lastGood.instant)));
  return [
    name,
    running === null
      ? state
      : `${running.why === 'asked' ? 'running' : `running (${running.why})`}${part(running)}`,
    lastGood?.point ?? '-',
    age,
    last === null ? '-' : `${last.state} ${formatInstant(last.startedAt)}${cost(last)}`,
    state === 'paused'
      ? `paused${pausedUntil === null ? '' : ` until ${formatInstant(pausedUntil)}`}`
      : nextAt === null
        ? '-'
        : Date.parse(nextAt) <= nowMs
          ? isRunning
            ? 'now'
            : 'due'
          : formatInstant(nextAt),
  ];
}

function part({ doneBytes, totalBytes }: NonNullable<DeviceView['running']>): string {
  return totalBytes === 0 ? '' : `, ${Math.floor((100 * doneBytes) / totalBytes)} %`;
}

function cost({ state, wireBytes, startedAt, endedAt }: NonNullable<DeviceView['last']>): string {
  if (state !== 'done' || endedAt === null) return '';
  const durationMs = Math.max(0, Date.parse(endedAt) - Date.parse(startedAt));
  return `, ${formatBytes(wireBytes)} in ${formatDuration(durationMs)}`;
}

async function pause(context: CommandContext, name: string | null, forMs: number | null): Promise<number> {
  await ask(context, 'pause', { name, forMs });
  const what = name ?? 'All scheduled backups';
  const until = forMs === null ? null : new Date(Date.now() + forMs).toISOString();
  const how = until === null ? 'until "stillpoint resume"' : `until ${formatInstant(until)}`;
  context.output.result({ name, until }, [`${what}: paused ${how}; what runs goes on`]);
  return EXIT_OK;
}

async function resume(context: CommandContext, name: string | null): Promise<number> {
  await ask(context, 'resume', { name });
  context.output.result({ name }, [`${name ?? 'All scheduled backups'}: resumed`]);
  return EXIT_OK;
}
