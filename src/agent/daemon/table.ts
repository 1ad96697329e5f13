/** The jobs of a daemon: what is configured, what matches wildcards, what is remembered of each. */
import type { Logger } from 'pino';
import type { ConfiguredDevice, DeviceSettings, ExpandedDevices } from '../../config/agent-config.js';
import type { GroupSettings } from '../../config/groups.js';
import { OFFERS_MAX } from '../../domain/base/limits.js';
import { newRecord } from '../../domain/order/run-plan.js';
import { type Job, jobOfDevice, jobOfGroup } from './jobs.js';
import { type Running, unknownJob } from './running.js';
import type { DaemonMemory, DeviceMemory, JobMemory } from './state.js';

/** Images come and go for years. */
const VANISHED_MAX = 2 * OFFERS_MAX;

export interface Entry {
  job: Job;
  memory: JobMemory;
  running: Running | null;
  /** The names of its devices that were not there at the last look. */
  missing: readonly string[];
  /** They are not looked for before. */
  lookAtMs: number;
  /** Since when scheduled runs have met another command that works on it; null: the last one did not. */
  busySinceMs: number | null;
}

interface Configured {
  readonly devices: readonly ConfiguredDevice[];
  readonly groups: readonly GroupSettings[];
}

type Remembered = Pick<DaemonMemory, 'devices' | 'groups'>;

export class JobTable {
  readonly #log: Logger;
  #entries = new Map<string, Entry>();
  /** Groups that a receiver has ordered: they are jobs while they run. */
  readonly guests = new Set<Entry>();
  /** Matches of wildcards that are gone, by name. */
  vanished = new Map<string, DeviceMemory>();
  /** Of matches that can't be backed up, as sentences. */
  problems: readonly string[] = [];

  constructor(log: Logger) {
    this.#log = log;
  }

  get entries(): Entry[] {
    return [...this.#entries.values()];
  }

  /** In the order of their names' first mention; without groups. */
  get devices(): DeviceSettings[] {
    return this.entries.flatMap(({ job }) => (job.group === null ? job.devices : []));
  }

  /** @throws StillpointError `device-unknown` */
  entry(name: string): Entry {
    const entry = this.find(name);
    if (entry === undefined) throw unknownJob(name, 'no device or group of this name is configured');
    return entry;
  }

  find(name: string): Entry | undefined {
    return this.#entries.get(name);
  }

  /** The ordered group of this name that runs. */
  guest(name: string): Entry | undefined {
    return [...this.guests].find(({ job, running }) => job.name === name && running !== null);
  }

  /** The one that runs and keeps it from running: itself, or another that has one of its devices. */
  occupantOf(entry: Entry): Entry | null {
    const names = entry.job.devices.map(({ name }) => name);
    const occupies = (other: Entry) =>
      other.running !== null &&
      (other === entry || names.some((name) => other.running?.devices.includes(name)));
    return [...this.entries, ...this.guests].find(occupies) ?? null;
  }

  /** Devices without those that have vanished. */
  present(): DeviceMemory[] {
    return this.entries.flatMap(({ job, memory }) => {
      if (job.group !== null) return [];
      const [{ path, pattern }] = job.devices;
      return [{ ...memory, path, pattern }];
    });
  }

  /** Those that have vanished come last, the latest first. */
  memories(): Remembered {
    const groups = this.entries.flatMap(({ job, memory }) => (job.group === null ? [] : [memory]));
    return { devices: [...this.present(), ...this.vanished.values()], groups };
  }

  /** @param remembered of the last process; default: of this one, as it is now */
  apply(
    { devices: configured, groups }: Configured,
    found: ExpandedDevices,
    nowMs: number,
    remembered: Remembered = this.memories(),
  ): void {
    const { devices, problems } = withoutGroupNames(found, groups);
    const known = new Map(remembered.devices.map((memory) => [memory.name, memory]));
    const knownGroups = new Map(remembered.groups.map((memory) => [memory.name, memory]));
    const entries = new Map<string, Entry>();
    const add = (job: Job, memory: JobMemory | undefined) => {
      const { name } = job;
      const present = this.#entries.get(name);
      // A name may go over from a device to a group: once what runs has ended.
      const isSame = (present?.job.group === null) === (job.group === null);
      if (present !== undefined && (isSame || present.running !== null)) {
        if (isSame) present.job = job;
        entries.set(name, present);
        return;
      }
      entries.set(name, entryOf(job, nowMs, memory));
    };
    for (const device of devices) add(jobOfDevice(device), known.get(device.name));
    for (const group of groups) add(jobOfGroup(group, devices), knownGroups.get(group.name));
    // One that runs stays until it has ended.
    for (const [name, entry] of this.#entries)
      if (entry.running !== null && !entries.has(name)) entries.set(name, entry);
    const patterns = new Set(configured.map(({ path }) => path));
    const vanished = [...known].filter(
      ([name, { pattern }]) => pattern !== null && patterns.has(pattern) && !entries.has(name),
    );
    for (const [name, { path, pattern }] of vanished)
      if (!this.vanished.has(name))
        this.#log.warn({ device: name, path, pattern }, 'the device has vanished');
    for (const text of problems)
      if (!this.problems.includes(text)) this.#log.warn({ reason: text }, 'a match is not backed up');
    this.#entries = entries;
    const seenAt = ({ last }: DeviceMemory) => last?.startedAt ?? '';
    vanished.sort(([, a], [, b]) => (seenAt(a) < seenAt(b) ? 1 : -1));
    this.vanished = new Map(vanished.slice(0, VANISHED_MAX));
    this.problems = problems;
  }
}

/** @param memory default: nothing is remembered */
export function entryOf(job: Job, nowMs: number, memory?: JobMemory): Entry {
  const { name } = job;
  return {
    ...{ job, running: null, missing: [], lookAtMs: 0, busySinceMs: null },
    memory: memory ?? { name, record: newRecord(nowMs), last: null, lastGood: null },
  };
}

/** A reference to a point could mean either. */
function withoutGroupNames(
  { devices, problems }: ExpandedDevices,
  groups: readonly GroupSettings[],
): ExpandedDevices {
  const names = new Set(groups.map(({ name }) => name));
  const clashing = devices.filter(({ name }) => names.has(name));
  return {
    devices: devices.filter(({ name }) => !names.has(name)),
    problems: [
      ...problems,
      ...clashing.map(({ path, name }) => `${path}: its name would be ${name}, which is that of a group`),
    ],
  };
}
