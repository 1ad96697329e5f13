/**
 * The agent's configuration: agent.toml and agent.d/, and the devices that it names. `stillpoint agent add`
 * writes drop-ins: there is no other list of devices.
 */
import { realpath } from 'node:fs/promises';
import { isStillpointError } from '../domain/base/errors.js';
import { OFFERS_MAX } from '../domain/base/limits.js';
import { checkName, NAME_CHARS_MAX } from '../domain/base/names.js';
import type { ExclusionWish } from '../domain/device/exclusion.js';
import type { ProviderName } from '../domain/device/provider-names.js';
import type { PatchMode } from '../domain/session/patching.js';
import { defaultName } from './default-name.js';
import { expandGlob, isGlob, isValidGlob, matchesGlob } from './glob.js';
import { faultsOfGroup, type GroupSettings, groupOf } from './groups.js';
import { type JobSettings, jobSettings } from './job-settings.js';
import { type ConfigFault, configError, faultAt } from './load/faults.js';
import { configFiles, readTree } from './load/read.js';
import { type Checked, check, type EffectiveValue } from './load/validate.js';
import { type AgentSettings, agentFields } from './schema/agent.js';
import type { DeviceEntry, deviceDefaults } from './schema/device.js';
import type { Origin } from './toml/parse.js';

/** One device, with all that applies to it. */
export interface DeviceSettings extends JobSettings {
  readonly name: string;
  /** Absolute. */
  readonly path: string;
  /** The path with wildcards that it matches; null: it is named itself. */
  readonly pattern: string | null;
  readonly orders: boolean;
  readonly provider: ProviderName | null;
  /** In bytes; null: that of the last point. */
  readonly blockSize: number | null;
  readonly compressionLevel: number | 'auto';
  readonly patch: PatchMode;
  readonly fuzzy: boolean;
  /** What is left out of it. */
  readonly exclusion: ExclusionWish;
}

/** A `[[device]]` as it is written: its path may have wildcards, its name may be a template. */
export interface ConfiguredDevice extends Omit<DeviceSettings, 'name' | 'pattern'> {
  readonly name: string | null;
  readonly exclude: readonly string[];
}

export interface AgentConfig {
  readonly directory: string;
  readonly files: readonly string[];
  readonly settings: AgentSettings;
  readonly devices: readonly ConfiguredDevice[];
  readonly groups: readonly GroupSettings[];
  readonly values: readonly EffectiveValue[];
  readonly faults: readonly ConfigFault[];
}

/** With its faults. @param files default: those of the directory */
export async function checkAgentConfig(directory: string, files?: readonly string[]): Promise<AgentConfig> {
  const tree = await readTree(files ?? (await configFiles(directory, 'agent')));
  const checked = check(tree.root, agentFields);
  const { settings, origins } = checked;
  const root = { file: tree.files[0] ?? directory, line: 1 };
  const devices = settings.device.map((entry, at) => {
    const isWritten = (key: string) => origins.has(`device[${at}].${key}`);
    return deviceOf(entry, settings, isWritten, origins.get(`device[${at}]`) ?? root);
  });
  const { groups, faults: groupFaults } = groupsOf(checked, devices, { root, isAll: files === undefined });
  return {
    ...{ directory, files: tree.files, settings, devices, groups },
    values: withDefaults(checked.values),
    faults: [
      ...tree.faults,
      ...checked.faults,
      ...twoPlaces(settings, origins),
      ...settings.device.flatMap((entry, at) => {
        const origin = origins.get(`device[${at}]`) ?? root;
        return faultsOfDevice(entry, origin);
      }),
      ...sameNames(devices),
      ...groupFaults,
    ],
  };
}

function groupsOf(
  { settings, origins }: Pick<Checked<typeof agentFields>, 'settings' | 'origins'>,
  devices: readonly ConfiguredDevice[],
  { root, isAll }: { readonly root: Origin; readonly isAll: boolean },
): { readonly groups: readonly GroupSettings[]; readonly faults: readonly ConfigFault[] } {
  const groups: GroupSettings[] = [];
  const faults: ConfigFault[] = [];
  const named = devices
    .filter(({ path }) => path !== '' && !isGlob(path))
    .map((device) => ({ ...device, name: nameOf(device) }));
  for (const [at, entry] of settings.group.entries()) {
    const itself = origins.get(`group[${at}]`) ?? root;
    const originOf = (key: string | null) => origins.get(`group[${at}].${key}`) ?? itself;
    faults.push(...faultsOfGroup(entry, { named, isAll }, groups, originOf));
    groups.push(groupOf(entry, { named, isAll }, originOf));
  }
  return { groups, faults };
}

/** @throws StillpointError `config` if anything is wrong */
export async function loadAgentConfig(directory: string): Promise<AgentConfig> {
  const config = await checkAgentConfig(directory);
  if (config.faults.length > 0) throw configError(config.faults);
  return config;
}

function deviceOf(
  entry: DeviceEntry,
  { defaults, store }: AgentSettings,
  isWritten: (key: string) => boolean,
  origin: Origin,
): ConfiguredDevice {
  const of = <K extends keyof typeof deviceDefaults>(key: K) => (isWritten(key) ? entry[key] : defaults[key]);
  // What the device itself says counts before what applies to all, whichever of the two it is.
  const saysWhere = isWritten('receiver') || isWritten('store');
  const where = saysWhere ? entry : defaults;
  return {
    ...{ name: entry.name, path: entry.path ?? '', exclude: entry.exclude ?? [], origin },
    ...jobSettings(of),
    receiver: where.receiver,
    store: where.store ?? (where.receiver === null ? store : null),
    orders: of('orders'),
    provider: of('provider'),
    blockSize: of('block-size'),
    compressionLevel: of('compression'),
    patch: of('patch'),
    limitRate: of('limit-rate'),
    fuzzy: of('fuzzy'),
    exclusion: {
      partitions: of('partitions'),
      excludePartitions: of('exclude-partitions'),
      excludeSwap: of('exclude-swap'),
    },
  };
}

/** A device's values that are those of `[defaults]` are told to be from there. */
function withDefaults(values: readonly EffectiveValue[]): EffectiveValue[] {
  const defaults = new Map(values.map((value) => [value.key, value]));
  return values.map((value) => {
    const [, name] = /^device\[\d+\]\.(.*)$/.exec(value.key) ?? [];
    const standing = name === undefined ? undefined : defaults.get(`defaults.${name}`);
    if (value.origin !== null || standing === undefined || standing.origin === null) return value;
    return { ...standing, key: value.key };
  });
}

function faultsOfDevice(
  { name, path, exclude, receiver, store }: DeviceEntry,
  origin: Origin,
): ConfigFault[] {
  const faults: ConfigFault[] = [];
  const say = (key: string, reason: string, remedy: string | null = null) =>
    faults.push(faultAt(origin, key, reason, remedy));
  if (receiver !== null && store !== null)
    say('device.store', 'it has a receiver, too', 'Keep one of the two.');
  for (const [key, patterns] of Object.entries({ path: [path ?? ''], exclude: exclude ?? [] }))
    for (const pattern of patterns)
      if (!isValidGlob(pattern))
        say(`device.${key}`, `${JSON.stringify(pattern)} has brackets with a range that runs backwards`);
  if (path === null || name === null) return faults;
  if (isGlob(path)) {
    if (!name.includes('{}'))
      say('device.name', 'its path has wildcards, so the name needs {}', `Write for example "${name}-{}".`);
    else if (!isName(name.replaceAll('{}', '0')))
      say('device.name', `${JSON.stringify(name)} gives no names`);
  } else if (!isName(name))
    say(
      'device.name',
      `${JSON.stringify(name)} is not a name of 1 to ${NAME_CHARS_MAX} letters, digits, dots, dashes or underscores, the first a letter or digit`,
    );
  return faults;
}

/** A receiver and a store, for all devices that do not say otherwise. */
function twoPlaces(
  { defaults: { receiver, store } }: AgentSettings,
  origins: ReadonlyMap<string, Origin>,
): ConfigFault[] {
  const origin = origins.get('defaults.store');
  if (receiver === null || store === null || origin === undefined) return [];
  return [faultAt(origin, 'defaults.store', 'there is a receiver, too', 'Keep one of the two.')];
}

function isName(text: string): boolean {
  try {
    checkName('device name', text);
    return true;
  } catch (error) {
    if (isStillpointError(error)) return false;
    throw error;
  }
}

function sameNames(devices: readonly ConfiguredDevice[]): ConfigFault[] {
  const seen = new Map<string, Origin>();
  return devices.flatMap((device) => {
    if (device.path === '' || isGlob(device.path)) return [];
    const name = nameOf(device);
    const before = seen.get(name);
    if (before === undefined) seen.set(name, device.origin);
    return before === undefined
      ? []
      : [
          faultAt(
            device.origin,
            'device.name',
            `${name} is the name of the device in ${before.file}:${before.line}, too`,
          ),
        ];
  });
}

export function nameOf({ name, path }: Pick<ConfiguredDevice, 'name' | 'path'>): string {
  return name ?? defaultName(path);
}

export interface ExpandedDevices {
  readonly devices: readonly DeviceSettings[];
  /** Of what matches and can't be a device of its own, as sentences. */
  readonly problems: readonly string[];
}

export type KnownMatch = Pick<DeviceSettings, 'name' | 'path' | 'pattern'>;

/**
 * Looks for what matches wildcards now. Devices that are named are given, present or not.
 * @param known matches, which count in place of a look
 */
export async function expandDevices(
  configured: readonly ConfiguredDevice[],
  known?: readonly KnownMatch[],
): Promise<ExpandedDevices> {
  const devices = new Map<string, DeviceSettings>();
  const problems: string[] = [];
  const add = (
    { exclude: _, ...device }: ConfiguredDevice,
    name: string,
    path: string,
    pattern: string | null,
  ) => {
    const before = devices.get(name);
    if (before !== undefined)
      problems.push(`${path}: its name would be ${name}, which is that of ${before.path}`);
    else if (devices.size >= OFFERS_MAX) problems.push(`${path}: ${OFFERS_MAX} devices is the limit`);
    else devices.set(name, { ...device, name, path, pattern });
  };
  for (const device of configured.filter(({ path }) => !isGlob(path)))
    add(device, nameOf(device), device.path, null);
  for (const device of configured.filter(({ path }) => isGlob(path))) {
    for (const { name, path } of known?.filter(({ pattern }) => pattern === device.path) ?? [])
      add(device, name, path, device.path);
    if (known !== undefined) continue;
    const places = new Map<string, string>();
    for (const { path, parts } of await expandGlob(device.path)) {
      if (device.exclude.some((pattern) => matchesGlob(pattern, path))) continue;
      const place = await realpath(path).catch(() => path);
      const before = places.get(place);
      // Links under several names to one device, as /dev/disk/by-id has them: the first counts.
      if (before !== undefined) continue;
      places.set(place, path);
      const filled = parts.join('-').replace(/[^A-Za-z0-9._-]+/g, '-');
      const name = device.name === null ? defaultName(path) : device.name.replaceAll('{}', filled);
      if (isName(name)) add(device, name, path, device.path);
      else problems.push(`${path}: ${JSON.stringify(name)}, made from ${device.name}, is not a name`);
    }
  }
  return { devices: [...devices.values()], problems };
}
