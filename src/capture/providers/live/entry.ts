/** `live` among the providers. */
import { onDevice } from '../../../devices/system/device-error.js';
import { findUses } from '../../../devices/system/in-use.js';
import { isStillpointError, StillpointError } from '../../../domain/base/errors.js';
import { findTrackPlace, type TrackPlace } from '../../../track/place.js';
import { checkTracking, readTrackState, type TrackState } from '../../../track/tracked.js';
import type { Probe, ProbeRequest, ProviderGain } from '../../ports.js';
import { FREEZE_BUDGET_MS, prepareLive } from './live.js';

const GAIN: ProviderGain = {
  kinds: ['application', 'filesystem', 'crash', 'idle'],
  changes: 'programs in the kernel mark what is written; only what they name is read',
  cost: `a freeze of up to ${FREEZE_BUDGET_MS} ms, and memory of the kernel for the marks`,
};

export const liveEntry = {
  name: 'live',
  takesDevicesInUse: true,
  probe: ({ path, fuzzy }: ProbeRequest): Promise<Probe> =>
    onDevice(path, async () => {
      const gain = { ...GAIN, kinds: fuzzy ? ([...GAIN.kinds, 'fuzzy'] as const) : GAIN.kinds, seenAs: [] };
      let place: TrackPlace;
      let state: TrackState;
      try {
        place = await findTrackPlace(path);
        await checkTracking(path);
        state = await readTrackState(place);
      } catch (error) {
        if (!isStillpointError(error, 'usage')) throw error;
        return { ...gain, possible: false, refusal: error, isSetUp: false };
      }
      const writer = (await findUses(path, 'writers')).find(({ writable }) => writable);
      if (writer === undefined && state.state === 'none')
        return { ...gain, possible: false, refusal: unused(path), isSetUp: false };
      return {
        ...gain,
        possible: true,
        reason: describeState(state),
        prepare: (options) => prepareLive(path, options),
      };
    }),
} as const;

/** @returns a clause. */
export function describeState(state: TrackState): string {
  if (state.state === 'none') return 'writes to it will be tracked from its first backup on';
  if (state.state === 'void') return `it has to be read once more: ${state.reason}`;
  const { record, doubt } = state;
  if (doubt !== null) return `it has to be read once more: ${doubt}`;
  return `writes to it are tracked since ${record.since}`;
}

function unused(path: string): StillpointError {
  return new StillpointError('usage', {
    thing: path,
    reason: 'nobody can write to it, and writes to it are not tracked',
    remedy: 'Track it first, if later backups shall only read what changed: stillpoint track add DEVICE',
  });
}
