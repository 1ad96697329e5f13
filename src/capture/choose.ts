/** Which provider takes a device: the best that can be used now, or the one asked for by name. */
import { StillpointError } from '../domain/base/errors.js';
import { findTap } from '../tap/find.js';
import { readSource } from '../tap/source/source.js';
import { offlineProvider } from './offline.js';
import type { SnapshotProvider } from './ports.js';
import { type TapProviderOptions, tapProvider } from './tap.js';

export const PROVIDER_NAMES = ['tap', 'offline'] as const;
export type ProviderName = (typeof PROVIDER_NAMES)[number];

export interface ChooseOptions {
  readonly stateDirectory: string;
  readonly path: string;
  readonly wanted?: ProviderName | undefined;
  readonly quiesce: TapProviderOptions['quiesce'];
}

export interface ChosenProvider {
  readonly provider: SnapshotProvider;
  /** What the user should know of the choice, as a sentence; null if it goes without saying. */
  readonly note: string | null;
}

/** @throws StillpointError `device-not-found`, `usage` (a tap or a way of quiescing was asked for that there is not) */
export async function chooseProvider(options: ChooseOptions): Promise<ChosenProvider> {
  const { stateDirectory, path, wanted, quiesce } = options;
  // Before a store is made: a mistyped path is no first use of it.
  if (wanted === 'offline') await readSource(path);
  const found = wanted === 'offline' ? null : await findTap(stateDirectory, path);
  if (found?.running === true) return { provider: tapProvider({ tap: found.tap, quiesce }), note: null };
  const why = found === null ? 'no tap serves it' : `its tap ${found.tap.settings.name} does not run`;
  const remedy =
    found === null
      ? 'Put one on it with "stillpoint tap add".'
      : `Start it: stillpoint tap start ${found.tap.settings.name}`;
  const asksForTap = quiesce.hooks.length > 0 || Array.isArray(quiesce.freeze) || quiesce.quiet !== undefined;
  if (wanted === 'tap' || asksForTap) {
    throw new StillpointError('usage', {
      thing: path,
      reason: wanted === 'tap' ? why : `hooks, freezing and waiting for quiet need a snapshot, and ${why}`,
      remedy,
    });
  }
  return { provider: offlineProvider, note: found === null ? null : `${path}: ${why}; it is read as it is` };
}
