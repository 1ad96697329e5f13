/** `agent add` and `agent remove`: devices as drop-ins of the agent's configuration. */
import { StillpointError } from '../domain/base/errors.js';
import { OFFERS_MAX } from '../domain/base/limits.js';
import { checkName } from '../domain/base/names.js';
import { formatRateLimit, type RateSchedule } from '../domain/session/rate-limit.js';
import { type AgentConfig, type DeviceSettings, nameOf } from './agent-config.js';
import { dropInPath, isDropIn, removeDropIn, writeDropIn } from './drop-ins.js';
import { isGlob } from './glob.js';
import { readTree } from './load/read.js';
import { tomlLines } from './toml/write.js';

/** What `agent add` is given; what is left out is as the configuration's defaults say. */
export type OfferedDevice = Pick<DeviceSettings, 'name' | 'path'> &
  Partial<Omit<DeviceSettings, 'name' | 'path' | 'origin' | 'pattern' | 'schedule' | 'limitRate'>> & {
    readonly schedule?: string | null;
    readonly limitRate?: RateSchedule | null;
  };

/** Durable when it resolves. @throws StillpointError `config`: the name is taken, or there are too many */
export async function addDevice(config: AgentConfig, device: OfferedDevice): Promise<void> {
  const name = checkName('device name', device.name);
  const same = config.devices.find((other) => !isGlob(other.path) && nameOf(other) === name);
  if (same !== undefined) {
    const { file, line } = same.origin;
    throw new StillpointError('config', {
      thing: `device ${name}`,
      reason: `${same.path} has this name, in ${file}:${line}`,
      remedy: (await isDropIn(file))
        ? `Remove it first, with "stillpoint agent remove ${name}".`
        : 'Choose another name, or change that file.',
    });
  }
  refuseGroupName(config, name);
  if (config.devices.length >= OFFERS_MAX) {
    throw new StillpointError('config', {
      thing: `device ${name}`,
      reason: `${config.devices.length} devices are configured, which is the limit`,
      remedy: 'Remove one first, with "stillpoint agent remove NAME".',
    });
  }
  await writeDropIn(
    dropInPath(config.directory, name),
    { writes: 'agent add', removes: `agent remove ${name}` },
    dropInLines(device),
  );
}

function refuseGroupName({ groups }: AgentConfig, name: string): void {
  const same = groups.find((group) => group.name === name);
  if (same === undefined) return;
  throw new StillpointError('config', {
    thing: `device ${name}`,
    reason: `a group has this name, in ${same.origin.file}:${same.origin.line}`,
    remedy: 'Choose another name.',
  });
}

export function dropInLines(device: OfferedDevice): string[] {
  const inSeconds = (ms: number | null | undefined) => (ms == null ? undefined : ms / 1000);
  const { hooks, limitRate, quiet } = device;
  return [
    '[[device]]',
    ...tomlLines({
      name: device.name,
      path: device.path,
      schedule: device.schedule ?? undefined,
      provider: device.provider ?? undefined,
      freeze: device.freeze,
      'freeze-deadline': inSeconds(device.freezeDeadlineMs),
      hooks: hooks === undefined || hooks.length === 0 ? undefined : hooks,
      'hook-deadline': inSeconds(device.hookDeadlineMs),
      quiet: inSeconds(quiet?.quietMs),
      'quiet-deadline': inSeconds(quiet?.deadlineMs),
      announce: device.announce?.program,
      grace: inSeconds(device.announce?.graceMs),
      'announce-required': device.announce?.isRequired === true ? true : undefined,
      partitions: device.exclusion?.partitions ?? undefined,
      'exclude-partitions':
        device.exclusion === undefined || device.exclusion.excludePartitions.length === 0
          ? undefined
          : device.exclusion.excludePartitions,
      'exclude-swap': device.exclusion?.excludeSwap === true ? true : undefined,
      'block-size': device.blockSize == null ? undefined : String(device.blockSize),
      compression: device.compressionLevel,
      patch: device.patch,
      'limit-rate': limitRate == null ? undefined : formatRateLimit(limitRate),
      fuzzy: device.fuzzy === true ? true : undefined,
    }),
  ];
}

/** Durable when it resolves. @throws StillpointError `device-unknown`, `config` for somebody's own file */
export async function removeDevice(config: AgentConfig, name: string): Promise<void> {
  const device = config.devices.find((other) => !isGlob(other.path) && nameOf(other) === name);
  if (device === undefined) {
    throw new StillpointError('device-unknown', {
      thing: `device ${name}`,
      reason: 'it is not offered',
      remedy: 'See "stillpoint agent list".',
    });
  }
  const group = config.groups.find(({ members }) => members.includes(name));
  if (group !== undefined) {
    throw new StillpointError('config', {
      thing: `device ${name}`,
      reason: `it is a member of group ${group.name}, in ${group.origin.file}:${group.origin.line}`,
      remedy: 'Remove it from the group first.',
    });
  }
  const { file, line } = device.origin;
  const devices = (await readTree([file])).root.entries.get('device');
  const isAlone = devices?.kind === 'list' && devices.items.length === 1;
  if (isAlone && (await isDropIn(file))) {
    await removeDropIn(file);
    return;
  }
  throw new StillpointError('config', {
    thing: `device ${name}`,
    reason: `it is in ${file}:${line}, which is not a file of "stillpoint agent add"`,
    remedy: 'Remove it there, or write enabled = false.',
  });
}
