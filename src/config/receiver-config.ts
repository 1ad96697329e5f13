/** The receiver's configuration: receiver.toml and receiver.d/. It applies to the store that it names. */
import { join } from 'node:path';
import { faultOfMembers } from '../domain/order/receiver-group.js';
import { type ConfigFault, configError, faultAt } from './load/faults.js';
import { configFiles, readTree } from './load/read.js';
import { check, type EffectiveValue } from './load/validate.js';
import { type ReceiverFileSettings, receiverFields } from './schema/receiver.js';
import { policyFault, scopeFault } from './schema/retention.js';
import type { Origin } from './toml/parse.js';

export interface ReceiverConfig {
  readonly directory: string;
  readonly files: readonly string[];
  readonly settings: ReceiverFileSettings;
  readonly values: readonly EffectiveValue[];
  readonly faults: readonly ConfigFault[];
  /** Of what is written, by key. */
  readonly origins: ReadonlyMap<string, Origin>;
}

/** With its faults. @param files default: those of the directory */
export async function checkReceiverConfig(
  directory: string,
  files?: readonly string[],
): Promise<ReceiverConfig> {
  const tree = await readTree(files ?? (await configFiles(directory, 'receiver')));
  const { settings, values, faults, origins } = check(tree.root, receiverFields);
  const faultsOfNamed = (['schedule', 'group'] as const).flatMap((kind) =>
    sameNames(
      kind,
      settings[kind].map(({ name }) => name),
      origins,
    ),
  );
  return {
    ...{ directory, files: tree.files, settings, values, origins },
    faults: [
      ...tree.faults,
      ...faults,
      ...faultsOfNamed,
      ...groupFaults(settings, origins),
      ...policyFaults(settings, origins, faults),
    ],
  };
}

/** @param all of that kind, in their order; null: it has a fault of its own */
function sameNames(
  kind: 'schedule' | 'group',
  all: readonly (string | null)[],
  origins: ReadonlyMap<string, Origin>,
): ConfigFault[] {
  const names = new Map<string, Origin>();
  return all.flatMap((name, at): ConfigFault[] => {
    const origin = origins.get(`${kind}[${at}]`);
    if (origin === undefined || name === null) return [];
    const before = names.get(name);
    names.set(name, before ?? origin);
    return before === undefined
      ? []
      : [
          faultAt(
            origin,
            `${kind}.name`,
            `${name} is the name of the ${kind} in ${before.file}:${before.line}, too`,
          ),
        ];
  });
}

function groupFaults({ group }: ReceiverFileSettings, origins: ReadonlyMap<string, Origin>): ConfigFault[] {
  return group.flatMap((entry, at) => {
    const origin = origins.get(`group[${at}].members`);
    // A key with a fault of its own has no value.
    if (origin === undefined || entry.name === null || entry.members === null) return [];
    const fault = faultOfMembers(entry);
    return fault === null ? [] : [faultAt(origin, 'group.members', fault.reason, fault.remedy)];
  });
}

function policyFaults(
  { retention: { policy, journal } }: ReceiverFileSettings,
  origins: ReadonlyMap<string, Origin>,
  known: readonly ConfigFault[],
): ConfigFault[] {
  return [
    ...entryFaults('retention.policy', policy, policyFault, origins, known),
    ...entryFaults('retention.journal', journal, scopeFault, origins, known),
  ];
}

/** Of an entry with a fault in one of its keys nothing more is said. */
function entryFaults<T>(
  key: string,
  entries: readonly T[],
  faultOf: (entry: T, before: readonly T[]) => string | null,
  origins: ReadonlyMap<string, Origin>,
  known: readonly ConfigFault[],
): ConfigFault[] {
  const places = entries.map((_, at) => origins.get(`${key}[${at}]`));
  return entries.flatMap((written, at) => {
    const origin = places[at];
    const fault = faultOf(written, entries.slice(0, at));
    if (origin === undefined || fault === null) return [];
    const next = places.slice(at + 1).find((place) => place?.file === origin.file);
    const isInside = ({ file, line }: ConfigFault) =>
      file === origin.file && line !== null && line > origin.line && (next === undefined || line < next.line);
    return known.some(isInside) ? [] : [faultAt(origin, key, fault)];
  });
}

/** Which store it applies to. @param stateDirectory where that of a receiver is by default */
export function storeOfConfig({ settings }: ReceiverConfig, stateDirectory: string): string {
  return settings.store ?? join(stateDirectory, 'receiver');
}

/** The file that says something about retention; null: none does. */
export function retentionFile({ origins }: ReceiverConfig): string | null {
  for (const [key, { file }] of origins) if (key.startsWith('retention.')) return file;
  return null;
}

/** @throws StillpointError `config` if anything is wrong */
export async function loadReceiverConfig(directory: string): Promise<ReceiverConfig> {
  const config = await checkReceiverConfig(directory);
  if (config.faults.length > 0) throw configError(config.faults);
  return config;
}
