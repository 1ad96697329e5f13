import { join } from 'node:path';
import type { DeviceSettings } from '../../../src/config/agent-config.js';

/** A device of that name in the directory, as a configuration without further keys gives it. */
export const deviceNamed = (
  directory: string,
  name: string,
  changes: Partial<DeviceSettings> = {},
): DeviceSettings => ({
  ...{ name, path: join(directory, name), origin: { file: 'agent.toml', line: 1 }, pattern: null },
  ...{ enabled: true, schedule: null, randomDelayMs: 0, retriesMax: 5, fullEveryMs: null, staleAfterMs: 0 },
  ...{ receiver: null, store: null, orders: true, provider: null, blockSize: null, compressionLevel: 1 },
  ...{ patch: 'auto', limitRate: null, fuzzy: false, hooks: [], freeze: 'auto' },
  ...{ freezeDeadlineMs: null, hookDeadlineMs: null, quiet: null, announce: null },
  exclusion: { partitions: null, excludePartitions: [], excludeSwap: false },
  ...changes,
});
