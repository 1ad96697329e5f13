/** Which devices of the configuration each tap serves: as a backup finds its tap (src/tap/find.ts). */
import { resolve } from 'node:path';
import type { DeviceSettings } from '../../config/agent-config.js';
import { keysOfTap } from '../../tap/find.js';
import type { RegisteredTap } from '../../tap/registry/registry.js';
import { readSource } from '../../tap/source/source.js';

/** One path after the other: those that hang keep no more than one thread from reading files. */
export async function devicesOfTaps(
  taps: readonly RegisteredTap[],
  devices: readonly DeviceSettings[],
): Promise<Map<string, DeviceSettings[]>> {
  const found = new Map<string, DeviceSettings[]>(taps.map(({ settings }) => [settings.name, []]));
  const keys = new Map<string, readonly string[]>();
  for (const tap of taps) keys.set(tap.settings.name, await keysOfTap(tap));
  for (const device of taps.length === 0 ? [] : devices) {
    const key = await readSource(device.path).then(
      (source) => source.key,
      () => null,
    );
    const tap = taps.find(({ settings }) =>
      // A device that is gone is what its tap still has open, as is what it leaves in the spool.
      key === null
        ? settings.sourcePath === resolve(device.path)
        : keys.get(settings.name)?.includes(key) === true,
    );
    if (tap !== undefined) found.get(tap.settings.name)?.push(device);
  }
  return found;
}
