/**
 * The provider `live`: a device that others write to, on a kernel as it is. Programs in the kernel mark what
 * is written (src/track, native/core/track). What may differ from the base is read while the device changes;
 * what is written meanwhile is read again, pass after pass; then a short freeze, in which the rest is read,
 * makes it one instant. The protocol of the marks, and why it misses nothing: docs/live.md.
 *
 * | state    | next                            | cut                                        | release   |
 * |----------|---------------------------------|--------------------------------------------|-----------|
 * | passing  | ships, or stages until a cut is | → taken; or it is refused, and `again` says | gives all |
 * |          | short enough                    | whether more passes may help               | back      |
 * | taken    | -                               | -                                          | the same  |
 *
 * Marks are only forgotten when a point was made of them. Whatever dies when, the next session finds each
 * change since the last point marked.
 */
import { readFileSync } from 'node:fs';
import type { FileHandle } from 'node:fs/promises';
import { readDeviceIdentity } from '../../../devices/facts/device-identity.js';
import { lockSource } from '../../../devices/locks/source-lock.js';
import { onDevice } from '../../../devices/system/device-error.js';
import { findUses } from '../../../devices/system/in-use.js';
import {
  KiB,
  LIVE_CUT_BYTES_MAX,
  LIVE_STAGING_BYTES,
  LIVE_STAGING_SHARE,
} from '../../../domain/base/limits.js';
import { LivePlan, type LivePlanOptions } from '../../../domain/live/plan.js';
import { native } from '../../../native/index.js';
import { findTrackPlace } from '../../../track/place.js';
import { type Tracked, takeTracked } from '../../../track/tracked.js';
import type { HoldOptions, Member } from '../../ports.js';
import { randomBlocks } from '../../sample.js';
import { inSteps } from '../../steps.js';
import { cutHasEnded } from './cut-end.js';
import { Marks } from './marks.js';
import { LiveMember } from './member.js';
import type { LiveParts } from './parts.js';

/** Everybody waits so long at most, unless the user says otherwise. */
export const FREEZE_BUDGET_MS = 500;

/** Who cancels does not wait for a process that waits for a disk. */
const RELEASE_MS = 2_000;

export interface LiveOptions {
  /** In [0, 1), for the sample. */
  readonly random?: () => number;
}

/** @throws StillpointError `usage`: it can't be tracked; `session-busy`, `device-in-use`, `device-io` */
export async function prepareLive(
  path: string,
  options: HoldOptions,
  { random = Math.random }: LiveOptions = {},
): Promise<Member> {
  const place = await onDevice(path, () => findTrackPlace(path));
  const writer = (await onDevice(path, () => findUses(path, 'writers'))).find(({ writable }) => writable);
  const acquired: (() => Promise<unknown>)[] = [];
  const release = async (): Promise<void> => {
    for (const free of acquired.splice(0).reverse()) await free().catch(() => undefined);
  };
  try {
    const lock: FileHandle | null = await onDevice(path, () => lockSource(path));
    acquired.push(async () => lock?.close());
    const tracked = await takeTracked(place);
    acquired.push(() => tracked.close());
    const marks = new Marks(tracked);
    const { isFull, reason } = whatToRead(tracked, options);
    const device = await onDevice(path, () => native.openDevice(path, { direct: true }));
    acquired.push(() => device.close());
    const limits: LivePlanOptions = {
      stagingMaxBytes: Math.floor(Math.max(LIVE_STAGING_BYTES, availableBytes() * LIVE_STAGING_SHARE)),
      cutMaxBytes: LIVE_CUT_BYTES_MAX,
      freezeBudgetMs: options.freezeDeadlineMs ?? FREEZE_BUDGET_MS,
    };
    const { blockSize } = options;
    const copy = await native.createLiveCopy(device, tracked.tracker, { blockSize, ...limits });
    acquired.push(() => copy.close());
    // It has the lock on the marks: whoever comes next at once would find it taken.
    acquired.push(() => cutHasEnded(copy, RELEASE_MS));
    // Before the first mark is taken: from here on the marks are also good for this session.
    marks.announce(options.sessionId, options.doubt ?? tracked.doubt);
    const blocks = Math.ceil(device.sizeBytes / blockSize);
    await copy.begin({ everything: isFull, sampleBlocks: isFull ? [] : randomBlocks(blocks, random) });
    const identity = await onDevice(path, () => readDeviceIdentity(path, device.logicalSectorSize));
    const parts: LiveParts = {
      ...{ place, identity, device, copy, marks, limits, isFull, reason, release },
      ...{ writer: writer ?? null, plan: new LivePlan(limits), lockDescriptor: tracked.lockDescriptor },
    };
    return inSteps(new LiveMember(parts, options).member());
  } catch (error) {
    await release();
    throw error;
  }
}

/** Without harm to others, as the kernel estimates it. */
function availableBytes(): number {
  const text = readFileSync('/proc/meminfo', 'utf8');
  return Number(/^MemAvailable:\s+(\d+) kB$/m.exec(text)?.[1] ?? 0) * KiB;
}

function whatToRead(
  { record, doubt }: Tracked,
  options: HoldOptions,
): { readonly isFull: boolean; readonly reason: string } {
  const since = `writes are tracked since ${record.since}`;
  const why =
    options.doubt ??
    doubt ??
    (options.full ? 'it was asked for' : null) ??
    (options.basePointId === null ? 'there is no point to compare with' : null) ??
    (record.points.includes(options.basePointId ?? '') ? null : 'the marks are not since the last point');
  return { isFull: why !== null, reason: why ?? since };
}
