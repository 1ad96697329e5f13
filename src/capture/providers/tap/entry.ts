/** `tap` among the providers. */
import { onDevice } from '../../../devices/system/device-error.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { attachedDevice } from '../../../tap/attach.js';
import { findTap } from '../../../tap/find.js';
import type { Probe, ProbeRequest, ProviderGain } from '../../ports.js';
import { prepareTap } from './tap.js';

const GAIN: ProviderGain = {
  kinds: ['application', 'filesystem', 'crash', 'idle'],
  changes: 'the map of the tap; only what it names is read',
  cost: 'all that reads and writes it goes through the tap',
};

export const tapEntry = {
  name: 'tap',
  takesDevicesInUse: true,
  probe: async ({ path, stateDirectory }: ProbeRequest): Promise<Probe> => {
    // Without a state directory there is no tap either.
    const found =
      stateDirectory === null
        ? null
        : await onDevice(path, () => findTap(stateDirectory, path), { stateDirectory });
    const refuse = (reason: string, remedy: string): Omit<Extract<Probe, { possible: false }>, 'seenAs'> => ({
      ...GAIN,
      possible: false,
      refusal: new StillpointError('usage', { thing: path, reason, remedy }),
      isSetUp: found !== null,
    });
    if (found === null)
      return { ...refuse('no tap serves it', 'Put one on it with "stillpoint tap add".'), seenAs: [] };
    const { tap } = found;
    const { name, sourcePath } = tap.settings;
    const attached = await attachedDevice(tap);
    const seenAs = attached === null ? [sourcePath] : [sourcePath, attached];
    if (!found.running)
      return {
        ...refuse(`its tap ${name} does not run`, `Start it: stillpoint tap start ${name}`),
        seenAs,
      };
    return {
      ...GAIN,
      seenAs,
      possible: true,
      reason: `the tap ${name} knows what changes, and holds an instant while others write`,
      prepare: (options) => prepareTap(tap, options),
    };
  },
} as const;
