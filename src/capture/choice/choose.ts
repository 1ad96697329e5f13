/**
 * Which provider takes a device: the first of the list that can take it now, or the one asked for by name.
 */
import { StillpointError } from '../../domain/base/errors.js';
import type { ProviderName } from '../../domain/device/provider-names.js';
import { snapshotsOf } from '../instant.js';
import type { HoldOptions, Member, Probe, Provider, SnapshotProvider } from '../ports.js';
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

/** One of the list, before it is known how the device is brought to rest. */
export interface ChosenMember extends Pick<ChosenProvider, 'note'> {
  /** Of the provider. */
  readonly name: string;
  readonly takesDevicesInUse: boolean;
  readonly prepare: (options: HoldOptions) => Promise<Member>;
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
  const { rest } = options;
  const { name, note, prepare } = await choose(options, providers, asksForRest(rest));
  return { provider: snapshotsOf(name, (_path, hold) => prepare(hold), rest), note };
}

/**
 * For one of several devices, whose instant is led by others. The rest is that of all: a device that nobody
 * uses needs none, and `checkRestOfAll` checks that another one can have it.
 * @throws StillpointError as `chooseProvider`
 */
export function chooseMember(
  options: ChooseOptions,
  providers: readonly Provider[] = PROVIDERS,
): Promise<ChosenMember> {
  return choose(options, providers, false);
}

/** @throws StillpointError `usage` */
export function checkRestOfAll(
  thing: string,
  rest: RestOptions,
  members: readonly Pick<ChosenMember, 'takesDevicesInUse'>[],
): void {
  if (!asksForRest(rest) || members.some(({ takesDevicesInUse }) => takesDevicesInUse)) return;
  throw new StillpointError('usage', {
    thing,
    reason:
      'hooks, freezing and waiting for quiet need a snapshot of one device at least, and all are read as they are',
    remedy: 'Omit them, or put a tap on a device ("stillpoint tap add").',
  });
}

async function choose(
  { path, stateDirectory, wanted, fuzzy = false, rest }: ChooseOptions,
  providers: readonly Provider[],
  mustRest: boolean,
): Promise<ChosenMember> {
  const candidates = wanted === undefined ? providers : providers.filter(({ name }) => name === wanted);
  const refused: Refused[] = [];
  for (const provider of candidates) {
    const { name, takesDevicesInUse } = provider;
    if (mustRest && !takesDevicesInUse) throw noRest(path, provider, refused);
    const probe = await provider.probe({ path, stateDirectory, fuzzy, isNamed: wanted !== undefined });
    if (probe.possible) {
      if (provider.freezesItself === true && Array.isArray(rest.freeze)) throw freezesItself(path, provider);
      const { freezeDeadlineMs } = rest;
      const prepare = (hold: HoldOptions) => probe.prepare({ ...hold, freezeDeadlineMs });
      return { name, takesDevicesInUse, prepare, note: noteOf(path, name, refused) };
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
