/** `stillpoint receiver agents | revoke | agent rename | agent remove | quota`: the agents of a receiver. */
import { createInterface } from 'node:readline/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { z } from 'zod';
import { StillpointError } from '../../../domain/base/errors.js';
import { checkName } from '../../../domain/base/names.js';
import { parseSize } from '../../../domain/base/quantities.js';
import type { Quota, QuotaChange } from '../../../receiver/access/quota.js';
import type { AgentView } from '../../../receiver/orders/remote.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { recorded } from '../../common/recorded.js';
import { reload, withAgentCommands } from '../../common/served.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { formatBytes, formatCount, formatInstant, formatTable } from '../../output/format.js';

const STORE_HELP = 'the directory of the store (default: "receiver" in the state directory)';
const AGENT_HELP = "the agent's name";

type DirectoryOf = (context: CommandContext, dir: string | undefined) => Promise<string>;

interface StoreChoice {
  readonly store?: string;
}

export function addReceiverAgents(receiver: Command, run: Run, directoryOf: DirectoryOf): void {
  const store = () => new Option('--store <dir>', STORE_HELP).argParser(notEmpty);
  receiver
    .command('agents')
    .description('list agents: their state, what they offer, their last points, when certificates expire')
    .addOption(store())
    .action((options: StoreChoice) =>
      run(async (context) => listAgents(context, await directoryOf(context, options.store))),
    );
  receiver
    .command('revoke')
    .description('shut an agent out at once: its connections end, its points stay; a new invite lets it in')
    .argument('<agent>', AGENT_HELP)
    .option('--reason <text>', 'for the audit log, and told to the agent')
    .addOption(store())
    .action((agent: string, options: StoreChoice & { reason?: string }) =>
      run(async (context) =>
        revoke(context, await directoryOf(context, options.store), agent, options.reason ?? null),
      ),
    );
  const agent = receiver.command('agent').description('change or remove an agent');
  agent
    .command('rename')
    .description('give an agent another name; its points, settings and certificate go on under it')
    .argument('<old>', 'its present name')
    .argument('<new>', 'a name that no agent has')
    .addOption(store())
    .action((from: string, to: string, options: StoreChoice) =>
      run(async (context) => rename(context, await directoryOf(context, options.store), from, to)),
    );
  agent
    .command('remove')
    .description('shut an agent out, and remove its points; asks first')
    .argument('<agent>', AGENT_HELP)
    .option('--keep-points', 'its points stay restorable under its name')
    .option('--yes', 'do not ask')
    .addOption(store())
    .action((name: string, options: StoreChoice & { keepPoints?: boolean; yes?: boolean }) =>
      run(async (context) => remove(context, await directoryOf(context, options.store), name, options)),
    );
  addQuota(receiver, run, directoryOf, store);
}

function addQuota(receiver: Command, run: Run, directoryOf: DirectoryOf, store: () => Option): void {
  const quota = receiver.command('quota').description('what agents may take of the receiver');
  const whom = (command: Command) =>
    command
      .argument('[agent]', AGENT_HELP)
      .option('--default', 'of all agents that have no setting of their own')
      .addOption(store());
  whom(quota.command('set').description('limit what an agent may take; what is not named stays as it is'))
    .option('--bytes <size>', 'bytes in the store: 500G, 2T; "none": no limit', sizeOrNone('bytes'))
    .option('--points <number>', 'points', numberOrNone)
    .option('--devices <number>', 'names of devices', numberOrNone)
    .option('--sessions <number>', 'backups at once', numberOrNone)
    .option('--rate <size>', 'bytes that it may send in a second: 10M', sizeOrNone('rate'))
    .option('--requests <number>', 'requests in a second', numberOrNone)
    .action((agent: string | undefined, options: QuotaOptions) =>
      run(async (context) => setQuota(context, await directoryOf(context, options.store), agent, options)),
    );
  whom(quota.command('show').description('show the limits of an agent, and what it has taken')).action(
    (agent: string | undefined, options: QuotaOptions) =>
      run(async (context) => showQuota(context, await directoryOf(context, options.store), agent, options)),
  );
  whom(quota.command('clear').description('forget the settings of an agent: those for all count')).action(
    (agent: string | undefined, options: QuotaOptions) =>
      run(async (context) => clearQuota(context, await directoryOf(context, options.store), agent, options)),
  );
}

interface QuotaOptions extends StoreChoice {
  readonly default?: boolean;
  readonly bytes?: number | null;
  readonly points?: number | null;
  readonly devices?: number | null;
  readonly sessions?: number | null;
  readonly rate?: number | null;
  readonly requests?: number | null;
}

function sizeOrNone(what: string): (text: string) => number | null {
  return (text) => (text === 'none' ? null : parseSize(what, text));
}

function numberOrNone(text: string): number | null {
  if (text === 'none') return null;
  if (/^[1-9]\d{0,8}$/.test(text)) return Number(text);
  throw new InvalidArgumentError('It is neither a number from 1 nor "none".');
}

async function listAgents({ output, signal }: CommandContext, dir: string): Promise<number> {
  const { askReceiver } = await import('../../../receiver/control/client.js');
  const { agentViewsSchema } = await import('../../../receiver/control/messages.js');
  const agents = agentViewsSchema.parse(await askReceiver(dir, { op: 'agents' }, { signal }));
  const titles = [
    'AGENT',
    'STATE',
    'DEVICES',
    'LAST SEEN',
    'LAST POINT',
    'NEXT BY ITSELF',
    'CERTIFICATE UNTIL',
  ];
  const lines =
    agents.length === 0
      ? ['No agent is enrolled yet.']
      : formatTable(
          titles.map((title) => ({ title })),
          agents.map(agentRow),
        );
  const problems = agents.flatMap(({ agent, problem, revoked, plans }) => [
    ...plans.flatMap(({ device, failures, isPaused }) => [
      ...(failures === 0 ? [] : [`${agent} ${device}: ${formatCount(failures, 'failure')} in a row`]),
      ...(isPaused ? [`${agent} ${device}: paused`] : []),
    ]),
    ...(problem === null ? [] : [`${agent}: ${problem}`]),
    ...(revoked?.reason == null ? [] : [`${agent}: revoked: ${revoked.reason}`]),
  ]);
  for (const { agent, certificateExpiresAt } of agents.filter(({ isRenewalLate }) => isRenewalLate)) {
    const until = formatInstant(certificateExpiresAt ?? '');
    output.warn(
      `${agent} has not renewed its certificate, which is good until ${until}: update Stillpoint there, or invite it again ("stillpoint receiver invite ${agent}")`,
    );
  }
  output.result({ agents }, [...lines, ...problems], true);
  return EXIT_OK;
}

function agentRow(view: AgentView): string[] {
  const { agent, isConnected, address, devices, lastSeenAt, lastPoint, state, certificateExpiresAt } = view;
  const [next] = view.plans
    .flatMap(({ device, nextAt }) => (nextAt === null ? [] : [{ device, nextAt }]))
    .sort((a, b) => Date.parse(a.nextAt) - Date.parse(b.nextAt));
  const dialled = address === null ? '' : `, dialled at ${address}`;
  const connection = isConnected ? 'connected' : 'not connected';
  return [
    agent,
    `${state === 'enrolled' ? connection : state}${dialled}`,
    devices.length === 0 ? '-' : devices.join(', '),
    lastSeenAt === null ? '-' : formatInstant(lastSeenAt),
    lastPoint === null ? '-' : `${lastPoint.point}, ${formatInstant(lastPoint.committedAt)}`,
    next === undefined ? '-' : `${next.device}, ${formatInstant(next.nextAt)}`,
    certificateExpiresAt === null ? '-' : formatInstant(certificateExpiresAt).slice(0, 10),
  ];
}

async function revoke(
  context: CommandContext,
  dir: string,
  name: string,
  reason: string | null,
): Promise<number> {
  const agent = checkName('agent name', name);
  const { revokedAt } = await withAgentCommands(
    context,
    dir,
    { op: 'revoke', agent, reason },
    (answer) => z.object({ revokedAt: z.string() }).parse(answer),
    (commands) => commands.revoke(agent, reason),
  );
  context.output.result({ agent, revokedAt, reason }, [
    `${agent} is shut out since ${formatInstant(revokedAt)}; its points stay`,
    `  let it in again:  stillpoint receiver invite ${agent} --store ${dir}`,
  ]);
  return EXIT_OK;
}

const pointsSchema = z.object({ points: z.number() });

async function rename(context: CommandContext, dir: string, from: string, to: string): Promise<number> {
  const agent = checkName('agent name', from);
  checkName('agent name', to);
  const { points } = await withAgentCommands(
    context,
    dir,
    { op: 'rename', agent, to },
    (answer) => pointsSchema.parse(answer),
    (commands) => commands.rename(agent, to),
  );
  context.output.result({ agent: to, former: agent, points }, [
    `${agent} is ${to} now, with ${formatCount(points, 'point')}; the machine goes on with its certificate`,
  ]);
  return EXIT_OK;
}

async function remove(
  context: CommandContext,
  dir: string,
  name: string,
  options: { readonly keepPoints?: boolean; readonly yes?: boolean },
): Promise<number> {
  const agent = checkName('agent name', name);
  const keepPoints = options.keepPoints === true;
  if (options.yes !== true) await confirm(agent, keepPoints);
  const { points } = await withAgentCommands(
    context,
    dir,
    { op: 'remove', agent, keepPoints },
    (answer) => pointsSchema.parse(answer),
    (commands) => commands.remove(agent, keepPoints),
  );
  context.output.result({ agent, points, keptPoints: keepPoints }, [
    keepPoints
      ? `${agent} is removed; its points stay`
      : `${agent} is removed, and ${formatCount(points, 'point')} of it; their room is free after the next collection`,
  ]);
  return EXIT_OK;
}

async function confirm(agent: string, keepPoints: boolean): Promise<void> {
  const refuse = (reason: string) =>
    new StillpointError('usage', {
      thing: `removal of ${agent}`,
      reason,
      remedy: 'Type the name when you are asked, or say --yes.',
    });
  if (!process.stdin.isTTY) throw refuse('there is nobody to confirm it');
  const asking = createInterface({ input: process.stdin, output: process.stderr });
  const what = keepPoints ? 'shuts it out' : 'shuts it out and removes all of its points';
  const answer = await asking.question(`This ${what}. Type the name of the agent to go on: `);
  asking.close();
  if (answer.trim() !== agent) throw refuse('the name that was typed is another one');
}

/** Null: of all. @throws StillpointError `usage` */
function whose(agent: string | undefined, { default: isDefault = false }: QuotaOptions): string | null {
  if ((agent === undefined) === isDefault) return agent === undefined ? null : checkName('agent name', agent);
  throw new StillpointError('usage', {
    thing: 'quota',
    reason: 'it needs either the name of an agent or --default',
  });
}

async function setQuota(
  context: CommandContext,
  dir: string,
  name: string | undefined,
  options: QuotaOptions,
): Promise<number> {
  const agent = whose(name, options);
  const { bytes, points, devices, sessions, rate, requests } = options;
  const changes: QuotaChange = {
    ...{ storedBytes: bytes, points, devices, sessions },
    ...{ bytesPerSecond: rate, requestsPerSecond: requests },
  };
  const named = Object.entries(changes).filter(([, value]) => value !== undefined);
  if (named.length === 0) {
    throw new StillpointError('usage', {
      thing: 'quota',
      reason: 'no limit is named',
      remedy: 'See --help.',
    });
  }
  const { checkQuotaChange, writeQuota } = await import('../../../receiver/access/quotas.js');
  checkQuotaChange(changes);
  const detail = `quota: ${named.map(([what, value]) => `${what} ${value ?? 'none'}`).join(', ')}`;
  const whom = agent === null ? {} : { agent };
  await recorded(dir, { what: 'setting', ...whom, detail }, () => writeQuota(dir, agent, changes));
  await reload(context, dir);
  return showQuota(context, dir, name, options);
}

async function clearQuota(
  context: CommandContext,
  dir: string,
  name: string | undefined,
  options: QuotaOptions,
): Promise<number> {
  const agent = whose(name, options);
  const { writeQuota } = await import('../../../receiver/access/quotas.js');
  const whom = agent === null ? {} : { agent };
  await recorded(dir, { what: 'setting', ...whom, detail: 'quota: none set' }, () =>
    writeQuota(dir, agent, null),
  );
  await reload(context, dir);
  return showQuota(context, dir, name, options);
}

const useSchema = z.object({
  storedBytes: z.number(),
  points: z.number(),
  devices: z.number(),
  sessions: z.number(),
});

async function showQuota(
  context: CommandContext,
  dir: string,
  name: string | undefined,
  options: QuotaOptions,
): Promise<number> {
  const agent = whose(name, options);
  const { Quotas } = await import('../../../receiver/access/quotas.js');
  const quota = (await Quotas.load(dir)).of(agent);
  const used =
    agent === null
      ? null
      : await withAgentCommands(
          context,
          dir,
          { op: 'use', agent },
          (answer) => useSchema.parse(answer),
          (commands) => commands.use(agent),
        );
  const most = (value: number | null, show: (value: number) => string) =>
    value === null ? 'no limit' : show(value);
  const row = (what: string, limit: string, taken: string) => [what, limit, taken];
  const { storedBytes, points, devices, sessions, bytesPerSecond, requestsPerSecond }: Quota = quota;
  const rows = [
    row('bytes stored', most(storedBytes, formatBytes), used === null ? '' : formatBytes(used.storedBytes)),
    row('points', most(points, String), String(used?.points ?? '')),
    row('devices', most(devices, String), String(used?.devices ?? '')),
    row('sessions', most(sessions, String), String(used?.sessions ?? '')),
    row('bytes a second', most(bytesPerSecond, formatBytes), ''),
    row('requests a second', most(requestsPerSecond, String), ''),
  ];
  const titles = [
    { title: agent ?? 'ALL OTHERS' },
    { title: 'LIMIT' },
    { title: agent === null ? '' : 'TAKEN' },
  ];
  context.output.result({ agent, quota, used }, formatTable(titles, rows), true);
  return EXIT_OK;
}
