/**
 * The providers, best first: `inspect` shows them in this order, and a backup takes the first
 * that can take its device.
 */

import type { PROVIDER_NAMES } from '../../domain/device/provider-names.js';
import type { Provider } from '../ports.js';
import { liveEntry } from '../providers/live/entry.js';
import { lvmEntry } from '../providers/lvm/entry.js';
import { offlineEntry } from '../providers/offline/entry.js';
import { reflinkEntry } from '../providers/reflink/entry.js';
import { tapEntry } from '../providers/tap/entry.js';

export const PROVIDERS = [
  tapEntry,
  liveEntry,
  lvmEntry,
  reflinkEntry,
  offlineEntry,
] as const satisfies InOrder<typeof PROVIDER_NAMES>;

/** One provider for each name, in their order. */
type InOrder<Names extends readonly string[]> = {
  readonly [Index in keyof Names]: Provider & { readonly name: Names[Index] };
};
