/** `lvm` among the providers. */
import { onDevice } from '../../../devices/system/device-error.js';
import { StillpointError } from '../../../domain/base/errors.js';
import type { ConsistencyKind } from '../../../domain/point/point.js';
import type { Probe, ProbeRequest, Provider, ProviderGain } from '../../ports.js';
import { hasBtrfs, worthOf } from './filesystems.js';
import { mayKeep } from './held.js';
import { CommandError, type LvmHost, realHost } from './host.js';
import { prepareLvm } from './lvm.js';
import { isObstacle, roomFor, tryWithout } from './snapshots.js';
import { type Obstacle, readVolume, type VolumeState, volumeUuid } from './volumes.js';

export const lvmEntry = lvmEntryOn(realHost);

/** @param random in [0, 1), for the sample. */
export function lvmEntryOn(host: LvmHost, random?: () => number): Provider & { readonly name: 'lvm' } {
  return {
    name: 'lvm',
    takesDevicesInUse: true,
    freezesItself: true,
    probe: ({ path }: ProbeRequest): Promise<Probe> =>
      onDevice(path, async () => {
        const found = await look(host, path);
        const { state } = found;
        const gain = { ...(state === null ? GAIN : gainOf(state)), seenAs: [] };
        if ('reason' in found) {
          const { reason, remedy } = found;
          const refusal = new StillpointError('usage', { thing: path, reason, remedy });
          const isSetUp =
            state !== null && (state.ours.some(({ isKept }) => isKept) || state.policy.keeps === true);
          return { ...gain, possible: false, refusal, isSetUp };
        }
        return {
          ...gain,
          kinds: kindsAbove(found.kind),
          possible: true,
          reason: `LVM takes a snapshot of ${found.state.volume.path} while others write`,
          prepare: (options) => prepareLvm({ host, path, random }, options),
        };
      }),
  };
}

type Look =
  | { readonly state: VolumeState; readonly kind: ConsistencyKind }
  | (Obstacle & { readonly state: VolumeState | null });

async function look(host: LvmHost, path: string): Promise<Look> {
  const mapping = await host.mapping(path);
  const uuid = volumeUuid(mapping?.uuid ?? '');
  const remedy = 'Name the logical volume itself.';
  if (uuid === null) return { state: null, reason: 'it is not a logical volume', remedy };
  let state: VolumeState | null = null;
  try {
    state = await readVolume(host, uuid);
    const room = await roomFor(host, state);
    if (isObstacle(room)) return { state, ...room };
    if (mapping?.isSuspended === true) return { state, ...suspended(mapping.name) };
    if (await hasBtrfs(path)) return { state, ...BTRFS };
    await tryWithout(host, state, room);
    return { state, kind: (await worthOf(path)).kind };
  } catch (error) {
    if (!(error instanceof CommandError)) throw error;
    const install = error.isMissing ? 'Install the package lvm2.' : 'See what "lvs -a" says of it.';
    return { state, reason: error.message, remedy: install };
  }
}

const suspended = (name: string): Obstacle => ({
  reason: 'device mapper has suspended it, and all that write to it wait',
  remedy: `If no LVM command is at work: dmsetup resume ${name}`,
});

const BTRFS: Obstacle = {
  reason: 'btrfs takes a snapshot of its device for another device of the same file system',
  remedy: 'Unmount it, or use another provider.',
};

function kindsAbove(kind: ConsistencyKind): ConsistencyKind[] {
  return kind === 'filesystem' || kind === 'idle' ? ['application', kind, 'crash'] : ['application', kind];
}

const GAIN: ProviderGain = {
  kinds: ['application', 'filesystem', 'crash', 'idle'],
  changes: 'where the snapshot of the last point was kept, only what was written since is read',
  cost: 'the first write to each place is slower while there is a snapshot',
};

function gainOf(state: VolumeState): ProviderGain {
  const isThin = state.volume.thin !== null;
  if (isThin)
    return {
      kinds: GAIN.kinds,
      changes: mayKeep(state)
        ? 'thin_delta compares the mappings with the snapshot kept of the last point'
        : 'all of it is read and compared with the last point, as the tag stillpoint-drop asks for',
      cost: `what is overwritten stays in the pool while there is a snapshot${mayKeep(state) ? ', which is until the next backup' : ''}`,
    };
  return {
    kinds: GAIN.kinds,
    changes: mayKeep(state)
      ? 'the exception store of the snapshot kept of the last point'
      : 'all of it is read and compared with the last point; with the tag stillpoint-keep a snapshot is kept that knows them',
    cost: `the first write to each place copies what is there to the snapshot${mayKeep(state) ? ', also between backups' : ' while the backup runs'}`,
  };
}
