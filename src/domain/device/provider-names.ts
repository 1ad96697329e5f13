/**
 * The providers' names, best first. They are separate from the providers, because the command line names them
 * and most commands use none.
 */
export const PROVIDER_NAMES = ['tap', 'live', 'lvm', 'reflink', 'offline'] as const;

export type ProviderName = (typeof PROVIDER_NAMES)[number];
