import { join } from 'node:path';
import type { Offer } from '../../../src/agent/orders/offers.js';

/** Of a device of that name in the directory, as `agent add` makes it without options. */
export const offerOf = (directory: string, name: string, changes: Partial<Offer> = {}): Offer => ({
  ...{
    name,
    path: join(directory, name),
    provider: null,
    blockSize: null,
    compressionLevel: 1,
    patch: 'auto',
    limitRate: null,
    fuzzy: false,
  },
  ...{ hooks: [], freeze: 'auto', freezeDeadlineMs: null, hookDeadlineMs: null, quiet: null },
  addedAt: '2026-01-01T00:00:00.000Z',
  ...changes,
});
