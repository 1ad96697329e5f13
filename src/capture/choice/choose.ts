/**
 * Which provider takes a device: the first of the list that can take it now, or the one asked for by name.
 */
import { StillpointError } from '../../domain/base/errors.js';
import type { ProviderName } from '../../domain/device/provider-names.js';
import { snapshotsOf } from '../instant.js';
import type { Probe, Provider, SnapshotProvider } from '../ports.js';
import type { RestOptions } from '../quiesce/rest.js';
import { PROVIDERS } from './list.js';

export interface ChooseOptions {
  readonly stateDirectory: string;
  readonly path: string;
  readonly wanted?: ProviderName | undefined;
  readonly fuzzy?: boolean | undefined;
  readonly rest: RestOptions;
}

export interface ChosenProvider {
  readonly provider: SnapshotProvider;
  /** What the user should know of the choice, as a sentence; null if it goes without saying. */
  readonly note: string | null;
}

type Refused = Extract<Probe, { possible: false }>;

/**
 * @throws StillpointError `device-not-found`; `usage`: a way of bringing it to rest was asked for that there
 * is not; or the refusal of the provider that was asked for, or of the last one
 */
export async function chooseProvider(
  options: ChooseOptions,
  providers: readonly Provider[] = PROVIDERS,
): Promise<ChosenProvider> {
  const { path, stateDirectory, wanted, fuzzy = false, rest } = options;
  const candidates = wanted === undefined ? providers : providers.filter(({ name }) => name === wanted);
  const refused: Refused[] = [];
  for (const provider of candidates) {
    if (asksForRest(rest) && !provider.takesDevicesInUse) throw noRest(path, provider, refused);
    const probe = await provider.probe({ path, stateDirectory, fuzzy, isNamed: wanted !== undefined });
    if (probe.possible) {
      if (provider.freezesItself === true && Array.isArray(rest.freeze)) throw freezesItself(path, provider);
      const { name } = provider;
      const { freezeDeadlineMs } = rest;
      const snapshots = snapshotsOf(
        name,
        (_path, hold) => probe.prepare({ ...hold, freezeDeadlineMs }),
        rest,
      );
      return { provider: snapshots, note: noteOf(path, name, refused) };
    }
    refused.push(probe);
  }
  throw refused.at(-1)?.refusal ?? new Error(`no provider has the name ${wanted}`);
}

function asksForRest({ hooks, freeze, quiet }: RestOptions): boolean {
  return hooks.length > 0 || Array.isArray(freeze) || quiet !== undefined;
}

/** All that come after it are of its kind: those that hold an instant of a device in use are preferred. */
function noRest(path: string, { name }: Provider, refused: readonly Refused[]): StillpointError {
  const why = refused[0]?.refusal;
  return new StillpointError('usage', {
    thing: path,
    reason: `hooks, freezing and waiting for quiet need a snapshot, and ${why?.reason ?? `"${name}" holds none`}`,
    remedy: why?.remedy ?? `Omit "--provider ${name}".`,
  });
}

function freezesItself(path: string, { name }: Provider): StillpointError {
  return new StillpointError('usage', {
    thing: path,
    reason: `"${name}" freezes what is on it by itself, and fails if it is frozen already`,
    remedy: 'Omit the mount points of "--freeze".',
  });
}

function noteOf(path: string, chosen: string, refused: readonly Refused[]): string | null {
  const reasons = refused.filter(({ isSetUp }) => isSetUp).map(({ refusal }) => refusal.reason);
  const how = chosen === 'offline' ? 'it is read as it is' : `it is backed up with "${chosen}"`;
  return reasons.length === 0 ? null : `${path}: ${reasons.join('; ')}; ${how}`;
}
