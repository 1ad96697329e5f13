/**
 * `stillpoint agent add | list | remove`: what receivers may order backups of; `agent run | listen`: the
 * process that waits for their orders.
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import type { Offer } from '../../agent/orders/offers.js';
import { onDevice } from '../../devices/system/device-error.js';
import { checkName } from '../../domain/base/names.js';
import { asksForExclusion } from '../../domain/device/exclusion.js';
import type { CommandContext, Run } from '../common/context.js';
import { defaultName } from '../common/default-name.js';
import { notEmpty } from '../common/open-receiver.js';
import { exclusionWish } from '../common/partition-options.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { formatTable } from '../output/format.js';
import { addCaptureOptions, type CaptureOptions, restOptions } from './backup.js';

export const AGENT_LISTEN_DEFAULT = '0.0.0.0:8441';
const PARALLEL_DEFAULT = 4;
const PARALLEL_MAX = 64;

interface WaitOptions {
  readonly store?: string;
  readonly parallel: number;
}

export function addAgent(program: Command, run: Run): void {
  const agent = program.command('agent').description('let the receiver start backups of this machine');
  addCaptureOptions(
    agent
      .command('add')
      .description('offer a device: receivers that this machine is enrolled with may start its backups')
      .argument('<device>', 'same as for backup'),
  ).action((device: string, options: CaptureOptions) => run((context) => add(context, device, options)));
  agent
    .command('list')
    .description('list the devices that are offered')
    .action(() => run(list));
  agent
    .command('remove')
    .description('stop offering a device')
    .argument('<name>', 'name under which it is offered')
    .action((name: string) => run((context) => remove(context, name)));
  agent
    .command('run')
    .description('wait for orders until stopped: holds a connection open to each receiver')
    .addOption(storeOption('URL of the receiver to take orders from (default: all enrolled with)'))
    .addOption(parallelOption())
    .action((options: WaitOptions) =>
      run(async (context) => (await import('../common/run-agent.js')).runAgent(context, options)),
    );
  agent
    .command('listen')
    .description('wait for the receiver to connect, if only it can open connections')
    .option('--listen <host:port>', 'where to listen', AGENT_LISTEN_DEFAULT)
    .addOption(storeOption('URL of the receiver (default: the one enrolled with)'))
    .option('--enroll <code>', 'first enroll with the receiver that connects, with its one-time code')
    .addOption(parallelOption())
    .action((options: WaitOptions & { listen: string; enroll?: string }) =>
      run(async (context) => (await import('../common/run-agent.js')).listenAsAgent(context, options)),
    );
}

function storeOption(description: string): Option {
  return new Option('--store <url>', description).argParser(notEmpty);
}

export function parallelOption(): Option {
  return new Option('--parallel <number>', 'how many backups at once')
    .default(PARALLEL_DEFAULT)
    .argParser((text) => {
      const value = /^\d{1,3}$/.test(text) ? Number(text) : 0;
      if (value >= 1 && value <= PARALLEL_MAX) return value;
      throw new InvalidArgumentError(`It is not a number from 1 to ${PARALLEL_MAX}.`);
    });
}

async function add(context: CommandContext, device: string, options: CaptureOptions): Promise<number> {
  const path = resolve(device);
  await onDevice(path, () => stat(path));
  const name = checkName('device name', options.name ?? defaultName(path));
  const { provider = null, blockSize = null, limitRate = null, fuzzy = false } = options;
  const { compressionLevel, patch } = options;
  const {
    hooks,
    freeze,
    freezeDeadlineMs = null,
    hookDeadlineMs = null,
    quiet = null,
    announce,
  } = restOptions(name, options);
  const exclusion = exclusionWish(options);
  const offer: Offer = {
    ...{ name, path, provider, blockSize, compressionLevel, patch, limitRate, fuzzy, hooks, freeze },
    ...(asksForExclusion(exclusion) ? { exclusion } : {}),
    ...(announce === undefined ? {} : { announce }),
    ...{ freezeDeadlineMs, hookDeadlineMs, quiet, addedAt: new Date().toISOString() },
  };
  const { addOffer } = await import('../../agent/orders/offers.js');
  await addOffer(context.stateDirectory, offer);
  context.output.result({ offer }, [
    `${name}: ${path} is offered`,
    '  wait for orders:  stillpoint agent run',
  ]);
  return EXIT_OK;
}

async function list({ stateDirectory, output }: CommandContext): Promise<number> {
  const { listOffers } = await import('../../agent/orders/offers.js');
  const offers = await listOffers(stateDirectory);
  const rows = offers.map(({ name, path, provider, hooks }) => [
    name,
    path,
    provider ?? 'best',
    hooks.length === 0 ? '-' : hooks.join(', '),
  ]);
  const titles = [{ title: 'NAME' }, { title: 'DEVICE' }, { title: 'PROVIDER' }, { title: 'HOOKS' }];
  output.result({ offers }, rows.length === 0 ? ['No device is offered.'] : formatTable(titles, rows), true);
  return EXIT_OK;
}

async function remove({ stateDirectory, output }: CommandContext, name: string): Promise<number> {
  const { removeOffer } = await import('../../agent/orders/offers.js');
  await removeOffer(stateDirectory, name);
  output.result({ name }, [`${name}: no longer offered; its points stay`]);
  return EXIT_OK;
}
