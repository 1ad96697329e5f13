/**
 * The provider `tap`: a process in the path of reads and writes keeps writes out for a moment, holds the
 * instant, and knows what changed (src/tap, native/core/tap/export.h). The snapshot is read over a socket of
 * the tap.
 *
 * A prepared or held instant belongs to the control connection: if this process dies, the tap releases it and
 * keeps its maps.
 */
import { readDeviceIdentity } from '../../../devices/facts/device-identity.js';
import { isStillpointError, StillpointError } from '../../../domain/base/errors.js';
import { type BlockRange, mergeRanges } from '../../../domain/blocks/block-ranges.js';
import type { ConsistencyKind, DeviceIdentity } from '../../../domain/point/point.js';
import { native, type SnapshotDevice } from '../../../native/index.js';
import { connectTap, type TapControl } from '../../../tap/control/client.js';
import type { ControlHold, ControlHoldOptions, TapReport } from '../../../tap/control/messages.js';
import type { RegisteredTap } from '../../../tap/registry/registry.js';
import { sourceProblem } from '../../../tap/source/source-state.js';
import { snapshotsOf } from '../../instant.js';
import type { HoldOptions, Member, Snapshot, SnapshotProvider, Tracking } from '../../ports.js';
import type { RestOptions } from '../../quiesce/rest.js';
import { randomBlocks, withSample } from '../../sample.js';
import { inSteps } from '../../steps.js';

/** How long new writes may be held back for those in flight. */
const BARRIER_MS = 3_000;

export interface TapProviderOptions {
  readonly tap: RegisteredTap;
  readonly rest: RestOptions;
  /** In [0, 1), for the sample. */
  readonly random?: () => number;
}

export function tapProvider({ tap, rest, random }: TapProviderOptions): SnapshotProvider {
  return snapshotsOf('tap', (_path, options) => prepareTap(tap, options, random), rest);
}

/** @param random in [0, 1), for the sample. */
export async function prepareTap(
  tap: RegisteredTap,
  options: HoldOptions,
  random: () => number = Math.random,
): Promise<Member> {
  const control = await connectTap(tap.controlPath);
  try {
    return await prepareWith(control, tap, options, random);
  } catch (error) {
    control.close();
    throw error;
  }
}

async function prepareWith(
  control: TapControl,
  tap: RegisteredTap,
  options: HoldOptions,
  random: () => number,
): Promise<Member> {
  const { sourcePath } = tap.settings;
  const report = await control.status(options.signal);
  const warnings = refuseOrWarn(tap, report);
  const identity = await identityOf(sourcePath);
  if (options.doubt !== null) await control.voidMap(options.doubt);
  const { sizeBytes, blockSize: tapBlockSize } = report.status;
  const sample = randomBlocks(Math.ceil(sizeBytes / options.blockSize), random);
  const { sessionId, basePointId, full, blockSize: readBlockSize, signal } = options;
  const sampleBlocks = sample.map((block) => Math.floor((block * readBlockSize) / tapBlockSize));
  await prepareHold(
    control,
    { sessionId, basePointId, full, readBlockSize, sampleBlocks },
    tap.settings.name,
    signal,
  );
  const attached = report.attachment.device;
  // Of the map before this session.
  const { pointIds } = report.status.map;
  const view = async (hold: ControlHold, kind: ConsistencyKind): Promise<Snapshot> => {
    const device = await native.openSnapshot(hold.snapshotAddress, hold.exportName);
    try {
      const changes = hold.mapUsed ? withSample(await device.changedRanges(options.blockSize), sample) : null;
      const knows = (pointId: string) => pointIds?.includes(pointId) ?? false;
      const tracked = { changes, reason: hold.reason, knows };
      const sizes = { blockSize: readBlockSize, tapBlockSize };
      return { identity, warnings, ...snapshotOf(tap, control, device, tracked, hold, kind, sizes) };
    } catch (error) {
      await device.close();
      throw (await whyLost(tap, control)) ?? error;
    }
  };
  return inSteps({
    path: sourcePath,
    shownAt: attached === null ? [sourcePath] : [sourcePath, attached],
    barrier: 'gate',
    quietMs: async () => {
      const { status, startedAt } = await control.status(signal);
      // Before the start somebody else may have written.
      return status.counters.quietMs ?? Date.now() - Date.parse(startedAt);
    },
    close: ({ closedMs }) => control.closeGate({ barrierMs: BARRIER_MS, closedMs }, signal),
    open: () => control.openGate(),
    cut: async () => {
      const hold = await control.cut(signal);
      return {
        instant: new Date(hold.instantMs),
        kind: null,
        closedMs: hold.closedMs,
        view: (kind) => view(hold, kind),
      };
    },
    release: async () => {
      await control.abort().catch(() => undefined);
      control.close();
    },
  });
}

/** @throws StillpointError also `version`: it runs since a release that knew no such steps */
async function prepareHold(
  control: TapControl,
  options: ControlHoldOptions,
  name: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  try {
    await control.prepare(options, signal);
  } catch (cause) {
    if (!isStillpointError(cause, 'bad-message')) throw cause;
    throw new StillpointError('version', {
      thing: `tap ${name}`,
      reason: 'it runs since an older release, which takes no instants in steps',
      remedy: `When its users can do without it: stillpoint tap stop ${name}; stillpoint tap start ${name}`,
      cause,
    });
  }
}

/**
 * @returns what the point is to say of the source.
 * @throws StillpointError `device-changed`: it is not what the tap was put on
 */
function refuseOrWarn(
  { settings: { name, sourcePath } }: RegisteredTap,
  { status, source }: TapReport,
): string[] {
  const problem = sourceProblem({ name, sizeBytes: status.sizeBytes }, source);
  if (problem === null) return [];
  const { reason, remedy, refused } = problem;
  if (refused) {
    throw new StillpointError('device-changed', { thing: sourcePath, reason, remedy, permanent: false });
  }
  return [`${sourcePath}: ${reason}. ${remedy}`];
}

async function identityOf(path: string): Promise<DeviceIdentity> {
  const device = await native.openDevice(path, { direct: false });
  await device.close();
  return readDeviceIdentity(path, device.logicalSectorSize);
}

function snapshotOf(
  tap: RegisteredTap,
  control: TapControl,
  device: SnapshotDevice,
  tracked: Pick<Tracking, 'changes' | 'reason' | 'knows'>,
  hold: ControlHold,
  kind: ConsistencyKind,
  { blockSize, tapBlockSize }: { readonly blockSize: number; readonly tapBlockSize: number },
): Omit<Snapshot, 'identity' | 'warnings'> {
  let ended = false;
  return {
    device,
    instant: new Date(hold.instantMs),
    kind,
    lost: () => whyLost(tap, control),
    // The tap checks each read after it. This is the check of all that was not read: holes,
    // and what the map left out.
    conclude: async () => {
      const lost = await whyLost(tap, control);
      if (lost !== null) throw lost;
      const facts = { tap: tap.settings.name, mapUsed: hold.mapUsed };
      return { kind, warnings: [], facts, journal: hold.journal };
    },
    tracking: {
      ...tracked,
      committed: async () => {
        await device.close();
        await control.commit();
        ended = true;
      },
      adopt: async (pointId, ranges, complete) => {
        await control.mark(inBlocksOf(tapBlockSize, ranges, blockSize, device.sizeBytes));
        await device.close();
        await control.adopt(pointId, complete);
        ended = true;
      },
    },
    release: async () => {
      await device.close();
      if (!ended) await control.abort().catch(() => undefined);
      control.close();
    },
  };
}

/** The same bytes in blocks of the tap's size, which may be more. */
function inBlocksOf(
  tapBlockSize: number,
  ranges: readonly BlockRange[],
  blockSize: number,
  sizeBytes: number,
): BlockRange[] {
  const tapBlocks = Math.ceil(sizeBytes / tapBlockSize);
  const scaled = ranges.map(
    ([start, end]): BlockRange => [
      Math.floor((start * blockSize) / tapBlockSize),
      Math.min(Math.ceil((end * blockSize) / tapBlockSize), tapBlocks),
    ],
  );
  return mergeRanges(
    scaled.filter(([start, end]) => start < end),
    [],
  );
}

async function whyLost(tap: RegisteredTap, control: TapControl): Promise<StillpointError | null> {
  const about = { thing: `snapshot of tap ${tap.settings.name}`, permanent: false };
  let report: TapReport;
  try {
    report = await control.status();
  } catch (cause) {
    return new StillpointError('snapshot-lost', {
      ...about,
      reason: 'the tap has stopped',
      remedy: `See its log ("stillpoint tap status ${tap.settings.name}"), and back up again when it runs.`,
      cause,
    });
  }
  const { hold, blockSize } = report.status;
  try {
    refuseOrWarn(tap, report);
  } catch (error) {
    if (error instanceof StillpointError) return error;
    throw error;
  }
  if (hold?.state === 'held') return null;
  if (hold === null)
    return new StillpointError('snapshot-lost', { ...about, reason: 'it is not held any more' });
  return new StillpointError('snapshot-lost', {
    ...about,
    reason: `it was given up so that no writes had to wait: ${hold.reason}`,
    remedy:
      `The backup would have needed at most ${hold.neededBlocks * blockSize} bytes. Give the tap a larger area ` +
      '(tap add --preserve-max), let writes wait instead (--throttle), or back up when less is written.',
  });
}
