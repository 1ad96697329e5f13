/**
 * The providers' names, best first. They are separate from the providers, because the command line names them
 * and most commands use none.
 */
export const PROVIDER_NAMES = ['tap', 'lvm', 'reflink', 'live', 'offline'] as const;

export type ProviderName = (typeof PROVIDER_NAMES)[number];
