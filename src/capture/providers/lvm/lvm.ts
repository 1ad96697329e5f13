/**
 * The provider `lvm`: the static view is a snapshot that LVM takes, of a thick or a thin volume. What changed
 * since the last point is known where the snapshot of that point was kept (snapshots.ts, changes.ts).
 *
 * | step    | thick                                        | thin                                          |
 * |---------|----------------------------------------------|-----------------------------------------------|
 * | prepare | the volume's lock; leftovers removed; room in the group or the pool; a trial by LVM itself   |
 * | cut     | lvcreate: suspend, which freezes; the snapshot; resume. Nothing is closed before it          |
 * | view    | the exception store of the kept snapshot     | thin_delta from the kept snapshot to this one |
 * | reading | it grows, or overflows: no point             | given up before the pool is full: no point    |
 * | commit  | kept if its owner wants that, or removed     | kept if the pool has room for that            |
 *
 * A dead session leaves its snapshot, which its tag tells, and its lock, which is free then.
 */
import type { FileHandle } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { readDeviceIdentity } from '../../../devices/facts/device-identity.js';
import { StillpointError } from '../../../domain/base/errors.js';
import { type ConsistencyKind, worstKind } from '../../../domain/point/point.js';
import { snapshotName } from '../../../domain/volume/snapshot-tags.js';
import { type Device, native } from '../../../native/index.js';
import type { Cut, HoldOptions, Member, Snapshot } from '../../ports.js';
import { randomBlocks, withSample } from '../../sample.js';
import { inSteps } from '../../steps.js';
import { changesSince, Unknown } from './changes.js';
import { hasUnfrozenJournal, type Worth, worthOf, worthOfBoth } from './filesystems.js';
import { type Held, type LvmSource, mayKeep } from './held.js';
import { lockVolume } from './locks.js';
import {
  inherit,
  isObstacle,
  lvmError,
  removeSnapshot,
  roomFor,
  takeSnapshot,
  tryWithout,
} from './snapshots.js';
import { LvmTracking } from './tracking.js';
import { hideFromUdev } from './udev.js';
import { readVolume, volumeUuid } from './volumes.js';
import { SnapshotWatch } from './watch.js';

/** LVM reads and writes much before and after the moment in which the volume is suspended. */
const CUT_MS = 60_000;
const FLUSH_MS = 120_000;

export async function prepareLvm(source: LvmSource, options: HoldOptions): Promise<Member> {
  const { host, path } = source;
  try {
    const uuid = volumeUuid((await host.mapping(path))?.uuid ?? '');
    if (uuid === null) throw notAVolume(path);
    const lock = await lockVolume(host, path, uuid.volume);
    try {
      return memberOf(await prepareLocked(source, uuid, options, lock));
    } catch (error) {
      await lock.close();
      throw error;
    }
  } catch (error) {
    throw lvmError(path, error);
  }
}

async function prepareLocked(
  source: LvmSource,
  uuid: Held['uuid'],
  options: HoldOptions,
  lock: FileHandle,
): Promise<Held> {
  const { host, path } = source;
  const { signal } = options;
  await hideFromUdev(host);
  const found = await readVolume(host, uuid, { signal });
  const inherited = await inherit(host, found, mayKeep(found), options);
  // Some room may be free again.
  const state = await readVolume(host, uuid, { signal });
  const room = await roomFor(host, state);
  if (isObstacle(room)) throw new StillpointError('device-io', { thing: path, ...room, permanent: false });
  await tryWithout(host, state, room);
  // What is flushed now is not flushed while the volume is suspended.
  for (const mountPoint of (await worthOf(path)).mountPoints) {
    const flush = host.run('sync', ['--file-system', mountPoint], { deadlineMs: FLUSH_MS, signal });
    await flush.catch(() => undefined);
  }
  return { source, uuid, state, room, inherited, options, lock };
}

function memberOf(held: Held): Member {
  const { source, options, state, lock } = held;
  const { host, path } = source;
  const snapshotPath = `${state.group.name}/${snapshotName(options.sessionId)}`;
  let isTaken = false;
  const release = async (): Promise<void> => {
    if (isTaken) await removeSnapshot(host, snapshotPath);
    await lock.close();
  };
  return inSteps({
    path,
    shownAt: [],
    barrier: 'cut',
    ...(host.writesBeside === null ? {} : { writesBeside: host.writesBeside }),
    cutMs: CUT_MS,
    close: async () => null,
    open: async () => undefined,
    cut: async (): Promise<Cut> => {
      const before = await worthOf(path);
      isTaken = true;
      const { sessionId, signal } = options;
      const isMapping = state.volume.thin !== null && held.inherited.base !== null;
      const wish = { sessionId, isMapping };
      const took = takeSnapshot(host, state, held.room, wish, { deadlineMs: CUT_MS, signal });
      const { instant, suspendedMs } = await whileSuspended(held, took).catch((error) => {
        throw lvmError(path, error);
      });
      const worth = worthOfBoth(before, await worthOf(path));
      return {
        ...{ instant, kind: worth.kind, closedMs: null },
        view: (kind) =>
          viewOf(held, { kind, worth, instant, suspendedMs }, snapshotPath).catch((error) => {
            throw lvmError(path, error);
          }),
      };
    },
    release,
  });
}

const POLL_MS = 3;

/** The instant is in the moment in which the volume is suspended; how long that is, is seen from outside. */
async function whileSuspended(
  { source: { host, path } }: Held,
  work: Promise<void>,
): Promise<Pick<Taken, 'instant' | 'suspendedMs'>> {
  const over = { is: false };
  const done = work.finally(() => {
    over.is = true;
  });
  done.catch(() => undefined);
  let instant: Date | null = null;
  let sinceMs = 0;
  let untilMs = 0;
  while (!over.is) {
    if ((await host.mapping(path).catch(() => null))?.isSuspended === true) {
      untilMs = performance.now();
      if (instant === null) [instant, sinceMs] = [new Date(), untilMs];
    }
    await sleep(POLL_MS);
  }
  await done;
  if (instant === null) return { instant: new Date(), suspendedMs: null };
  return { instant, suspendedMs: Math.round(untilMs - sinceMs) };
}

interface Taken {
  readonly kind: ConsistencyKind;
  readonly worth: Worth;
  readonly instant: Date;
  /** Null: it was too short to be seen. */
  readonly suspendedMs: number | null;
}

async function viewOf(held: Held, taken: Taken, snapshotPath: string): Promise<Snapshot> {
  const { host } = held.source;
  const state = await readVolume(host, held.uuid);
  const ours = state.ours.find(({ volume }) => volume.path === snapshotPath);
  if (ours === undefined)
    throw new StillpointError('snapshot-lost', {
      thing: `snapshot ${snapshotPath}`,
      reason: 'somebody removed it',
      permanent: false,
    });
  const snapshot = ours.volume;
  const device = await native.openDevice(snapshot.devicePath, { exclusive: true });
  const watched = { host, uuid: held.uuid, state, snapshot, room: held.room };
  const watch = new SnapshotWatch(watched, async () => {
    await device.close();
    await removeSnapshot(host, snapshotPath);
  });
  try {
    return await snapshotOf({ ...held, state }, taken, device, watch, snapshotPath);
  } catch (error) {
    await watch.stop();
    await device.close();
    throw (await watch.whyLost()) ?? error;
  }
}

async function snapshotOf(
  held: Held,
  { kind, worth, instant, suspendedMs }: Taken,
  device: Device,
  watch: SnapshotWatch,
  snapshotPath: string,
): Promise<Snapshot> {
  const { source, state, inherited, options, lock } = held;
  const { host, path } = source;
  const sizes = { sizeBytes: device.sizeBytes, blockSize: options.blockSize };
  const isUnfrozen = kind === 'filesystem' && (await hasUnfrozenJournal(device));
  const reached: ConsistencyKind = isUnfrozen ? worstKind([kind, 'crash']) : kind;
  const warnings = isUnfrozen ? [...worth.warnings, unfrozen(path)] : worth.warnings;
  let { reason } = inherited;
  let changes = null;
  if (inherited.base !== null) {
    try {
      const snapshot = state.ours.find(({ volume }) => volume.path === snapshotPath)?.volume;
      if (snapshot === undefined) throw new Unknown('LVM does not show the snapshot');
      const ranges = await changesSince(host, state, inherited.base, snapshot, sizes);
      const blockCount = Math.ceil(sizes.sizeBytes / sizes.blockSize);
      const candidates = randomBlocks(blockCount, source.random ?? Math.random);
      changes = withSample(ranges, candidates);
    } catch (error) {
      if (!(error instanceof Unknown)) throw error;
      reason = error.message;
    }
  }
  const end = { isKept: false };
  const stop = async (): Promise<void> => {
    await watch.stop();
    await device.close();
  };
  const tracking = new LvmTracking(held, snapshotPath, { changes, reason }, async (isKept) => {
    await stop();
    end.isKept = isKept;
  });
  let isReleased = false;
  return {
    ...{ device, instant, warnings, kind: reached },
    identity: await readDeviceIdentity(path, device.logicalSectorSize),
    ...(mayKeep(state) ? { tracking } : {}),
    lost: () => watch.whyLost(),
    conclude: async () => {
      const lost = await watch.whyLost();
      if (lost !== null) throw lost;
      const volume = state.volume.thin === null ? 'thick' : 'thin';
      const seen = suspendedMs === null ? {} : { suspendedMs };
      return { kind: reached, warnings: [], facts: { volume, mapUsed: changes !== null, ...seen } };
    },
    release: async () => {
      if (isReleased) return;
      isReleased = true;
      await stop();
      try {
        if (!end.isKept) await removeSnapshot(host, snapshotPath);
      } finally {
        await lock.close();
      }
    },
  };
}

const unfrozen = (path: string): string =>
  `${path} was not frozen, though LVM was to: its journal is not empty; if a program has frozen it while LVM took a snapshot, that lasts until the volume is made active anew`;

function notAVolume(path: string): StillpointError {
  return new StillpointError('device-changed', {
    thing: path,
    reason: 'it is not a logical volume any more',
    permanent: false,
  });
}
