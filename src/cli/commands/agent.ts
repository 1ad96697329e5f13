/**
 * `stillpoint agent add | list | remove`: what receivers may order backups of; `agent run | listen`: the
 * process that waits for their orders.
 */
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { defaultName } from '../../config/default-name.js';
import { onDevice } from '../../devices/system/device-error.js';
import { isStillpointError } from '../../domain/base/errors.js';
import { checkName } from '../../domain/base/names.js';
import { parseSchedule } from '../../domain/order/schedule.js';
import type { CommandContext, Run } from '../common/context.js';
import { notEmpty } from '../common/open-receiver.js';
import { addCaptureOptions, type CaptureOptions, restOptions } from '../options/capture.js';
import { exclusionWish } from '../options/partitions.js';
import { EXIT_OK } from '../output/exit-codes.js';
import { formatTable } from '../output/format.js';

export const AGENT_LISTEN_DEFAULT = '0.0.0.0:8441';
const PARALLEL_MAX = 64;

interface WaitOptions {
  readonly store?: string;
  readonly parallel?: number;
}

interface AddOptions extends CaptureOptions {
  readonly schedule?: string;
}

export function addAgent(program: Command, run: Run): void {
  const agent = program.command('agent').description('let the receiver start backups of this machine');
  addCaptureOptions(
    agent
      .command('add')
      .description('offer a device: receivers that this machine is enrolled with may start its backups')
      .argument('<device>', 'same as for backup')
      .option('--schedule <when>', 'back it up by schedule, too: daily, "Mon..Fri 02:00", every 6h'),
  ).action((device: string, options: AddOptions, command: Command) =>
    run((context) => add(context, device, options, (key) => command.getOptionValueSource(key) === 'cli')),
  );
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
    .description('run schedules, and wait for orders, until stopped; SIGHUP applies a changed configuration')
    .addOption(storeOption('URL of the receiver to take orders from (default: all enrolled with)'))
    .addOption(parallelOption())
    .action((options: WaitOptions) =>
      run(async (context) => (await import('../service/run-agent.js')).runAgent(context, options)),
    );
  agent
    .command('listen')
    .description('wait for the receiver to connect, if only it can open connections')
    .option('--listen <host:port>', 'where to listen', AGENT_LISTEN_DEFAULT)
    .addOption(storeOption('URL of the receiver (default: the one enrolled with)'))
    .option('--enroll <code>', 'first enroll with the receiver that connects, with its one-time code')
    .addOption(parallelOption())
    .action((options: WaitOptions & { listen: string; enroll?: string }) =>
      run(async (context) => (await import('../service/run-agent.js')).listenAsAgent(context, options)),
    );
}

function storeOption(description: string): Option {
  return new Option('--store <url>', description).argParser(notEmpty);
}

export function parallelOption(): Option {
  return new Option(
    '--parallel <number>',
    'how many backups at once (default: as agent.toml says, else 4)',
  ).argParser((text) => {
    const value = /^\d{1,3}$/.test(text) ? Number(text) : 0;
    if (value >= 1 && value <= PARALLEL_MAX) return value;
    throw new InvalidArgumentError(`It is not a number from 1 to ${PARALLEL_MAX}.`);
  });
}

/** @param isGiven what is not is left to `[defaults]` */
async function add(
  context: CommandContext,
  device: string,
  options: AddOptions,
  isGiven: (key: keyof AddOptions) => boolean,
): Promise<number> {
  const path = resolve(device);
  await onDevice(path, () => stat(path));
  const name = checkName('device name', options.name ?? defaultName(path));
  const { provider = null, blockSize = null, limitRate = null, fuzzy = false } = options;
  const {
    hooks,
    freeze,
    freezeDeadlineMs = null,
    hookDeadlineMs = null,
    quiet = null,
    announce = null,
  } = restOptions(name, options);
  const exclusion = exclusionWish(options);
  const schedule = options.schedule === undefined ? null : parseSchedule(options.schedule).text;
  const offer = {
    ...{
      name,
      path,
      schedule,
      provider,
      blockSize,
      limitRate,
      fuzzy,
      hooks,
    },
    ...(isGiven('compressionLevel') ? { compressionLevel: options.compressionLevel } : {}),
    ...(isGiven('patch') ? { patch: options.patch } : {}),
    ...(isGiven('freeze') ? { freeze } : {}),
    ...{ freezeDeadlineMs, hookDeadlineMs, quiet, announce, exclusion },
  };
  const { agentConfig } = await import('../common/agent-config.js');
  const { addDevice } = await import('../../config/offered-devices.js');
  await addDevice(await agentConfig(context), offer);
  context.output.result({ offer }, [
    `${name}: ${path} is offered${schedule === null ? '' : `, and backed up ${schedule}`}`,
    '  wait for orders, and run schedules:  stillpoint agent run',
  ]);
  return EXIT_OK;
}

async function list(context: CommandContext): Promise<number> {
  const { agentConfig } = await import('../common/agent-config.js');
  const { expandDevices } = await import('../../config/agent-config.js');
  const { devices, problems } = await expandDevices((await agentConfig(context)).devices);
  const offers = devices.map(({ origin, schedule, ...device }) => ({
    ...device,
    schedule: schedule?.text ?? null,
    origin: `${origin.file}:${origin.line}`,
  }));
  const rows = offers.map(({ name, path, provider, hooks, schedule, enabled }) => [
    name,
    path,
    enabled ? (schedule ?? 'on demand') : 'disabled',
    provider ?? 'best',
    hooks.length === 0 ? '-' : hooks.join(', '),
  ]);
  const titles = ['NAME', 'DEVICE', 'SCHEDULE', 'PROVIDER', 'HOOKS'].map((title) => ({ title }));
  for (const problem of problems) context.output.warn(problem);
  const lines = rows.length === 0 ? ['No device is offered.'] : formatTable(titles, rows);
  context.output.result({ offers, problems }, lines, true);
  return EXIT_OK;
}

async function remove(context: CommandContext, name: string): Promise<number> {
  const { agentConfig } = await import('../common/agent-config.js');
  const { removeDevice } = await import('../../config/offered-devices.js');
  try {
    await removeDevice(await agentConfig(context), name);
  } catch (error) {
    if (!isStillpointError(error, 'device-unknown') || !(await forgetVanished(context, name))) throw error;
    context.output.result({ name }, [`${name}: forgotten; its points stay`]);
    return EXIT_OK;
  }
  context.output.result({ name }, [`${name}: no longer offered; its points stay`]);
  return EXIT_OK;
}

/** A match of wildcards that is gone, which the daemon remembers. @returns false if there is none */
async function forgetVanished(context: CommandContext, name: string): Promise<boolean> {
  const { stateDirectory, environment, userId, signal } = context;
  const { askAgent } = await import('../../agent/control/client.js');
  const { agentSocketPath } = await import('../../agent/control/messages.js');
  try {
    const path = `devices/${checkName('device name', name)}/forget`;
    await askAgent(agentSocketPath(stateDirectory, environment, userId), { method: 'POST', path, signal });
    return true;
  } catch (error) {
    if (isStillpointError(error, 'device-unknown')) return false;
    if (!isStillpointError(error, 'unreachable')) throw error;
  }
  const { readMemory, writeMemory } = await import('../../agent/daemon/state.js');
  const memory = await readMemory(stateDirectory);
  const isGone = (path: string) =>
    stat(path).then(
      () => false,
      () => true,
    );
  const found = memory.devices.find((device) => device.name === name);
  if (found === undefined || found.pattern === null || !(await isGone(found.path))) return false;
  const devices = memory.devices.filter((device) => device !== found);
  await writeMemory(stateDirectory, { ...memory, devices });
  return true;
}
