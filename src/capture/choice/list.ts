/** The providers, best first: `inspect` shows them in this order, and a backup takes the first that can take its device. */
import type { Provider } from '../ports.js';
import { offlineEntry } from '../providers/offline/entry.js';
import { tapEntry } from '../providers/tap/entry.js';

export const PROVIDERS = [tapEntry, offlineEntry] as const satisfies readonly Provider[];

export type ProviderName = (typeof PROVIDERS)[number]['name'];
export const PROVIDER_NAMES: readonly ProviderName[] = PROVIDERS.map(({ name }) => name);
