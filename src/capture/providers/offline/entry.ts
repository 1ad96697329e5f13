/** `offline` among the providers. */
import { onDevice } from '../../../devices/system/device-error.js';
import { findUses } from '../../../devices/system/in-use.js';
import type { Probe, ProbeRequest } from '../../ports.js';
import { checkIsDevice, inUse, prepareOffline } from './offline.js';
import { whyUnproven } from './proof.js';

export const offlineEntry = {
  name: 'offline',
  takesDevicesInUse: false,
  probe: ({ path, fuzzy }: ProbeRequest): Promise<Probe> =>
    onDevice(path, async () => {
      await checkIsDevice(path);
      const writer = (await findUses(path, 'writers')).find(({ writable }) => writable);
      const gain = {
        kinds: fuzzy ? (['idle', 'fuzzy'] as const) : (['idle'] as const),
        changes: 'all of it is read and compared with the last point',
        cost: 'nobody may write to it while it is read',
        seenAs: [],
      };
      if (writer !== undefined && !fuzzy)
        return { ...gain, possible: false, refusal: inUse(path, writer), isSetUp: false };
      return {
        ...gain,
        possible: true,
        reason: writer === undefined ? await whyItStands(path) : `it is ${writer.how}; the point is fuzzy`,
        prepare: (options) => prepareOffline(path, options),
      };
    }),
} as const;

async function whyItStands(path: string): Promise<string> {
  const unproven = await whyUnproven(path);
  const proof = unproven === null ? '' : ` as far as this kernel knows; ${unproven}, so it is read twice`;
  return `nobody can write to it${proof}`;
}
