/** `live` among the providers. */
import { setTimeout as sleep } from 'node:timers/promises';
import { readBlockFamily, sectorsChanged } from '../../../devices/system/block-sysfs.js';
import { onDevice } from '../../../devices/system/device-error.js';
import { findUses } from '../../../devices/system/in-use.js';
import { isStillpointError, StillpointError } from '../../../domain/base/errors.js';
import { expectedFreezeMs } from '../../../domain/live/plan.js';
import { findTrackPlace, type TrackPlace } from '../../../track/place.js';
import { checkTracking, readTrackState, type TrackState } from '../../../track/tracked.js';
import type { Probe, ProbeRequest, ProviderGain } from '../../ports.js';
import { FREEZE_BUDGET_MS, prepareLive } from './live.js';

/** For the present rate of writes. */
const SAMPLE_MS = 500;
const SECTOR_BYTES = 512;

const GAIN: ProviderGain = {
  kinds: ['application', 'filesystem', 'crash', 'idle'],
  changes: 'programs in the kernel mark what is written; only what they name is read',
  cost: `a freeze of up to ${FREEZE_BUDGET_MS} ms, and memory of the kernel for the marks`,
};

export const liveEntry = {
  name: 'live',
  takesDevicesInUse: true,
  probe: ({ path, fuzzy, isForPeople = false }: ProbeRequest): Promise<Probe> =>
    onDevice(path, async () => {
      const gain = { ...GAIN, kinds: fuzzy ? ([...GAIN.kinds, 'fuzzy'] as const) : GAIN.kinds, seenAs: [] };
      let place: TrackPlace;
      let state: TrackState;
      try {
        place = await findTrackPlace(path);
        state = await readTrackState(place, false).catch(async (error: unknown) => {
          // It says best what is missing.
          await checkTracking(path);
          throw error;
        });
        // What is tracked shows that it can be.
        if (state.state !== 'tracked') await checkTracking(path);
      } catch (error) {
        if (!isStillpointError(error, 'usage')) throw error;
        return { ...gain, possible: false, refusal: error, isSetUp: false };
      }
      const writer = (await findUses(path, 'writers')).find(({ writable }) => writable);
      if (writer === undefined && state.state === 'none')
        return { ...gain, possible: false, refusal: unused(path), isSetUp: false };
      return {
        ...gain,
        cost: writer === undefined || !isForPeople ? gain.cost : await presentCost(place),
        possible: true,
        reason: describeState(state),
        prepare: (options) => prepareLive(path, options),
      };
    }),
} as const;

/** At the rate at which it is written to now. @returns a clause. */
async function presentCost({ number }: TrackPlace): Promise<string> {
  const family = await readBlockFamily(number);
  if (family === null) return GAIN.cost;
  const sample = async (): Promise<number> => (await sectorsChanged(family.self)) ?? 0;
  const before = await sample();
  await sleep(SAMPLE_MS);
  const bytesPerMs = (((await sample()) - before) * SECTOR_BYTES) / SAMPLE_MS;
  const rate = `${(bytesPerMs / 1000).toFixed(1)} MB/s are written now`;
  const freezeMs = expectedFreezeMs(bytesPerMs);
  return freezeMs === null
    ? `${rate}, which may be more than can be copied; and memory of the kernel for the marks`
    : `${rate}, for which the freeze takes about ${freezeMs} ms; and memory of the kernel for the marks`;
}

/** @returns a clause. */
function describeState(state: TrackState): string {
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
