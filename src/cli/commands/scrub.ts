/**
 * `stillpoint verify --store DIR` with options of its own, and `--status`: the receiver that serves the
 * directory reads its store back; without one the command does it itself.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { SCRUB_PERIOD_MS } from '../../domain/base/limits.js';
import type { VerifyEvent } from '../../domain/session/messages.js';
import { parseRateLimit } from '../../domain/session/rate-limit.js';
import type { ScrubWish } from '../../receiver/control/messages.js';
import type { ScheduledScrub } from '../../receiver/upkeep/scrubbing.js';
import type { Upkeep } from '../../store/port/upkeep.js';
import type { CommandContext } from '../common/context.js';
import { askReceiverOr, withStore } from '../common/served.js';
import { EXIT_DAMAGED, EXIT_OK } from '../output/exit-codes.js';
import { formatBytes, formatCount, formatDuration, formatInstant } from '../output/format.js';

/** The events of a scrub. */
export async function* scrubEvents(
  context: CommandContext,
  directory: string,
  wish: ScrubWish,
): AsyncGenerator<VerifyEvent, void> {
  const { signal, output } = context;
  const { askReceiver } = await import('../../receiver/control/client.js');
  const waiting: VerifyEvent[] = [];
  let wake: () => void = () => undefined;
  let isOver = false;
  const { parseMessage, verifyEventSchema } = await import('../../protocol/schemas/messages.js');
  const take = (event: unknown) => {
    waiting.push(parseMessage("receiver's answer", verifyEventSchema, event));
    wake();
  };
  const asked = askReceiver(directory, { op: 'scrub', wish }, { signal, onEvent: take })
    .then(take)
    .finally(() => {
      isOver = true;
      wake();
    });
  asked.catch(() => undefined);
  while (!isOver || waiting.length > 0) {
    const event = waiting.shift();
    if (event !== undefined) yield event;
    else if (!isOver)
      await new Promise<void>((resolve) => {
        wake = resolve;
      });
  }
  const { NotServed } = await import('../../receiver/control/client.js');
  const isServed = await asked.then(
    () => true,
    (error: unknown) => {
      if (error instanceof NotServed) return false;
      throw error;
    },
  );
  if (isServed) return;
  const { openStoreInTurn } = await import('../common/open-store.js');
  const store = await openStoreInTurn(output, directory, signal);
  try {
    const { rate, ...request } = wish;
    const limit = rate === undefined ? {} : { rate: parseRateLimit(rate) };
    yield* upkeepOf(store.upkeep, directory).scrub({ ...request, ...limit, signal });
  } finally {
    await store.close();
  }
}

/** True if a receiver serves the directory: the store is its own to read back. */
export function isServed(context: CommandContext, directory: string): Promise<boolean> {
  const asking = { wish: { op: 'scrub-status' }, parse: () => true } as const;
  return askReceiverOr(context, directory, asking, async () => false);
}

export async function showScrubStatus(context: CommandContext, directory: string): Promise<number> {
  const status = await scrubStatus(context, directory);
  const { damage } = status;
  context.output.result({ directory, ...status }, describe(status), true);
  return damage.pointCount === 0 ? EXIT_OK : EXIT_DAMAGED;
}

async function scrubStatus(context: CommandContext, directory: string): Promise<ScheduledScrub> {
  const { scrubStatusSchema } = await import('../../receiver/control/messages.js');
  const asking = {
    wish: { op: 'scrub-status' } as const,
    parse: (answer: unknown) => scrubStatusSchema.parse(answer),
  };
  return askReceiverOr(context, directory, asking, () =>
    withStore(context, directory, async (store) => {
      const { damage, ...status } = await upkeepOf(store.upkeep, directory).scrubStatus(SCRUB_PERIOD_MS);
      return { ...status, damage: { ...damage, points: [...damage.points] }, nextSliceAt: null };
    }),
  );
}

function describe(status: ScheduledScrub): string[] {
  const { totalBytes, coveredBytes, periodMs, packCount, neverCheckedPacks, damage } = status;
  const percent = totalBytes === 0 ? 100 : Math.floor((100 * coveredBytes) / totalBytes);
  const never = neverCheckedPacks === 0 ? '' : `, ${formatCount(neverCheckedPacks, 'pack')} never`;
  const time = (iso: string | null, otherwise: string) => (iso === null ? otherwise : formatInstant(iso));
  return [
    `stored        ${formatBytes(totalBytes)} in ${formatCount(packCount, 'pack')}`,
    `read back     ${percent} % within ${formatDuration(periodMs)}${never}`,
    `last          ${time(status.lastCheckedAt, 'never')}`,
    `waiting since ${time(status.oldestSince, packCount === 0 ? '-' : 'not known')}`,
    `next slice    ${time(status.nextSliceAt, 'none is scheduled: no receiver serves, or it is set to off')}`,
    damage.openCount === 0
      ? `damage        none known; ${formatCount(damage.healedCount, 'record')} healed`
      : `damage        ${formatCount(damage.openCount, 'record')} since ${time(damage.openSince, 'an unknown time')}, ${damage.healedCount} healed${damage.pointCount === 0 ? ', needed by no point' : ''}`,
    ...damage.points.map((point) => `              needed by ${point}`),
    ...(damage.pointCount > damage.points.length
      ? [`              and by ${formatCount(damage.pointCount - damage.points.length, 'more point')}`]
      : []),
  ];
}

function upkeepOf(upkeep: Upkeep | null, directory: string): Upkeep {
  if (upkeep !== null) return upkeep;
  throw new StillpointError('internal', { thing: `store ${directory}`, reason: 'it was opened for reading' });
}
