/**
 * `stillpoint usage [NAME]`: what the points take. In a receiver's directory all is seen; over the network an
 * agent sees what its own points' manifests say. It is not told what it shares with others, or how much room
 * the receiver has: neither is its business.
 */
import type { Command } from 'commander';
import { unlessAborted } from '../../../agent/common/cancel.js';
import { StillpointError } from '../../../domain/base/errors.js';
import type { Point } from '../../../domain/point/point.js';
import { parseDeviceRef } from '../../../domain/point/point-ref.js';
import type { PartialSet } from '../../../domain/session/messages.js';
import { usageByDevice } from '../../../domain/usage/devices.js';
import { daysLeft, growthBy, growthRate } from '../../../domain/usage/growth.js';
import type { StoreToRead } from '../../../store/reading/reader-store.js';
import type { NeededBytes } from '../../../store/usage/needed.js';
import type { StoreSizes } from '../../../store/usage/sizes.js';
import type { CommandContext, Run } from '../../common/context.js';
import {
  agentOption,
  type ReceiverChoice,
  storeDirectory,
  storeOption,
  withReceiver,
} from '../../common/open-receiver.js';
import { EXIT_OK } from '../../output/exit-codes.js';
import { type Usage, usageLines } from './usage-view.js';

const WEEK_DAYS = 7;
const MONTH_DAYS = 30;
const PERIODS_MAX = 12;

interface UsageOptions extends ReceiverChoice {
  readonly exact?: boolean;
  readonly months?: boolean;
}

export function addUsage(program: Command, run: Run): void {
  program
    .command('usage')
    .description('show what the points take in the store, how it grows, and how long the disk will last')
    .argument('[name]', 'only this agent, or DEVICE, or AGENT/DEVICE (default: all)')
    .addOption(storeOption())
    .addOption(agentOption())
    .option(
      '--exact',
      'with --store DIR: also what would be freed if a device or an agent were forgotten; reads all trees',
    )
    .option('--months', 'growth by periods of 30 days instead of weeks')
    .action((name: string | undefined, options: UsageOptions) =>
      run((context) => usage(context, name, options)),
    );
}

async function usage(
  context: CommandContext,
  name: string | undefined,
  options: UsageOptions,
): Promise<number> {
  const directory = storeDirectory(options.store);
  if (options.exact === true && directory === undefined) {
    throw new StillpointError('usage', {
      thing: '--exact',
      reason: 'an agent is not told what its points share with those of others',
      remedy: "Use it with --store DIR, on the receiver's machine.",
    });
  }
  const found =
    directory === undefined
      ? await overNetwork(context, options)
      : await inDirectory(context, directory, options);
  const shown = summarize(found, chooser(found.points, name, options.agent), options, Date.now());
  context.output.result(shown, usageLines(shown), true);
  return EXIT_OK;
}

interface Found {
  readonly points: readonly Point[];
  readonly partialSets: readonly PartialSet[];
  readonly sizes: StoreSizes | null;
  readonly needed: NeededBytes | null;
}

async function overNetwork(context: CommandContext, options: UsageOptions): Promise<Found> {
  return withReceiver(context, options, async (receiver) => ({
    points: await unlessAborted(context.signal, receiver.points()),
    partialSets: await unlessAborted(context.signal, receiver.partialSets()),
    ...{ sizes: null, needed: null },
  }));
}

/** Beside a receiver that serves the directory, or without one. */
async function inDirectory(
  context: CommandContext,
  directory: string,
  { exact = false }: UsageOptions,
): Promise<Found> {
  const { placeToRead } = await import('../../common/store-place.js');
  const { openStoreToRead } = await import('../../common/open-store.js');
  await placeToRead(context.stateDirectoryIfAny, directory);
  const store = await openStoreToRead(context.output, directory);
  try {
    return {
      points: await store.points({}),
      partialSets: await store.partialSets({}),
      sizes: await unlessAborted(context.signal, store.sizes()),
      needed: exact ? await unlessAborted(context.signal, neededBytes(context, store)) : null,
    };
  } finally {
    await store.close();
  }
}

async function neededBytes(
  { output, signal }: CommandContext,
  store: StoreToRead,
): Promise<NeededBytes | null> {
  const progress = output.progress('usage', 'reading trees');
  try {
    for await (const event of store.needed()) {
      if (event.type === 'needed') return withoutType(event);
      signal.throwIfAborted();
      // Points take different times: as a measure of what is left they are better than nothing.
      progress.update({ doneBytes: event.donePoints, totalBytes: event.totalPoints });
    }
    return null;
  } finally {
    progress.end();
  }
}

function withoutType({ type: _, ...needed }: { readonly type: 'needed' } & NeededBytes): NeededBytes {
  return needed;
}

interface Chosen {
  readonly name: string | null;
  readonly has: (of: { readonly agent: string; readonly device: string }) => boolean;
}

/**
 * A name that an agent has means the agent.
 * @throws StillpointError `device-unknown`
 */
function chooser(points: readonly Point[], name: string | undefined, agent: string | undefined): Chosen {
  const isOfAgent = (of: { readonly agent: string }) => agent === undefined || of.agent === agent;
  if (name === undefined) return { name: agent ?? null, has: isOfAgent };
  const asked = parseDeviceRef(name);
  const isAgent = asked.agent === undefined && points.some((point) => point.agent === name);
  const has: Chosen['has'] = (of) =>
    isOfAgent(of) &&
    (isAgent
      ? of.agent === name
      : of.device === asked.device && (asked.agent === undefined || of.agent === asked.agent));
  if (points.some(has)) return { name, has };
  const known = [...new Set(points.map((point) => `${point.agent}/${point.device}`))].sort();
  throw new StillpointError('device-unknown', {
    thing: name,
    reason: 'no agent or device with points has this name',
    remedy: known.length === 0 ? 'There are no points yet.' : `Devices with points: ${known.join(', ')}.`,
  });
}

function summarize(
  { points, partialSets, sizes, needed }: Found,
  chosen: Chosen,
  { months = false }: UsageOptions,
  nowMs: number,
): Usage {
  const shown = points.filter(chosen.has);
  const periodDays = months ? MONTH_DAYS : WEEK_DAYS;
  const storeRate = growthRate(points, nowMs);
  return {
    name: chosen.name,
    devices: usageByDevice(shown, nowMs),
    growth: { periodDays, periods: growthBy(shown, nowMs, periodDays, PERIODS_MAX) },
    rate: growthRate(shown, nowMs),
    partialBytes: partialSets.reduce((sum, { durableBytes }) => sum + durableBytes, 0),
    store: sizes && {
      ...sizes,
      fullBytes: points.reduce((sum, { geometry }) => sum + geometry.sizeBytes, 0),
      rate: storeRate,
      daysLeft: storeRate && daysLeft(storeRate, sizes.freeBytes - sizes.reserveBytes),
    },
    needed: needed && {
      ...needed,
      devices: needed.devices.filter(chosen.has),
      agents: needed.agents.filter(({ agent }) => shown.some((point) => point.agent === agent)),
    },
  };
}
