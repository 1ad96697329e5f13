/**
 * `stillpoint receiver backup | dial`, and where the other jobs that the receiver starts are added. The
 * receiver that serves the directory does them.
 */
import { type Command, Option } from 'commander';
import { parseHostPort } from '../../../domain/base/addresses.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { checkName } from '../../../domain/base/names.js';
import { pointLabel } from '../../../domain/point/point.js';
import type { CommandContext, Run } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { recorded } from '../../common/recorded.js';
import { reload } from '../../common/served.js';
import { seconds } from '../../options/capture.js';
import { EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { formatBytes, formatDuration, formatInstant } from '../../output/format.js';
import { orderProgress } from '../../output/order-progress.js';
import { addReceiverCompare } from './compare-order.js';
import { addReceiverGroups } from './groups.js';
import { addReceiverRounds } from './rounds.js';

const STORE_HELP = 'the directory of the store (default: "receiver" in the state directory)';
const WAIT_DEFAULT_S = 30;

type DirectoryOf = (context: CommandContext, dir: string | undefined) => Promise<string>;

interface StoreChoice {
  readonly store?: string;
}

export function addReceiverOrders(receiver: Command, run: Run, directoryOf: DirectoryOf): void {
  const store = () => new Option('--store <dir>', STORE_HELP).argParser(notEmpty);
  const wait = () =>
    seconds('--wait <seconds>', 'how long to wait for agents that are not connected').default(WAIT_DEFAULT_S);

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
  addReceiverRounds(receiver, run, { directoryOf, store, wait });
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
