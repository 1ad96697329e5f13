/** The devices of a daemon: what is configured, what matches wildcards, what is remembered of each. */
import type { Logger } from 'pino';
import type { ConfiguredDevice, DeviceSettings, ExpandedDevices } from '../../config/agent-config.js';
import { OFFERS_MAX } from '../../domain/base/limits.js';
import { newRecord } from '../../domain/order/run-plan.js';
import { type Running, unknownDevice } from './running.js';
import type { DeviceMemory } from './state.js';

/** Images come and go for years. */
const VANISHED_MAX = 2 * OFFERS_MAX;

export interface Entry {
  settings: DeviceSettings;
  memory: DeviceMemory;
  running: Running | null;
  isThere: boolean;
  /** It is not looked for before. */
  lookAtMs: number;
  /** Since when scheduled runs have met another command that works on it; null: the last one did not. */
  busySinceMs: number | null;
}

export class DeviceTable {
  readonly #log: Logger;
  #entries = new Map<string, Entry>();
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

  /** @throws StillpointError `device-unknown` */
  entry(name: string): Entry {
    const entry = this.#entries.get(name);
    if (entry === undefined) throw unknownDevice(name, 'no device of this name is configured');
    return entry;
  }

  /** Without those that have vanished. */
  present(): DeviceMemory[] {
    return this.entries.map(({ memory }) => memory);
  }

  /** Those that have vanished come last, the latest first. */
  memories(): DeviceMemory[] {
    return [...this.present(), ...this.vanished.values()];
  }

  /** @param remembered of the last process; default: of this one, as it is now */
  apply(
    configured: readonly ConfiguredDevice[],
    { devices, problems }: ExpandedDevices,
    nowMs: number,
    remembered: readonly DeviceMemory[] = this.memories(),
  ): void {
    const known = new Map(remembered.map((memory) => [memory.name, memory]));
    const entries = new Map<string, Entry>();
    for (const settings of devices) {
      const { name, path, pattern } = settings;
      const memory = this.#entries.get(name)?.memory ??
        known.get(name) ?? {
          ...{ name, path, pattern, record: newRecord(nowMs), last: null, lastGood: null },
        };
      const entry = this.#entries.get(name) ?? {
        ...{ settings, memory, running: null, isThere: true, lookAtMs: 0, busySinceMs: null },
      };
      entry.settings = settings;
      entry.memory = { ...memory, path, pattern };
      entries.set(name, entry);
    }
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
