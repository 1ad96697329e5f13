/**
 * What the commands about retention share. Where a receiver serves the directory it does what is asked,
 * otherwise the command opens the store itself.
 */
import { Option } from 'commander';
import { StillpointError } from '../../../domain/base/errors.js';
import { LOCAL_AGENT } from '../../../domain/base/names.js';
import type { Named } from '../../../domain/point/named.js';
import type { Point } from '../../../domain/point/point.js';
import { deviceName, parseDeviceRef } from '../../../domain/point/point-ref.js';
import type {
  PlannedPointView,
  RemovalSummary,
  RetentionView,
  RetentionWish,
} from '../../../receiver/retention/messages.js';
import type { Store } from '../../../store/port/store.js';
import type { CommandContext } from '../../common/context.js';
import { notEmpty } from '../../common/open-receiver.js';
import { findNamed } from '../../common/point-argument.js';
import { askReceiverOr, withStore } from '../../common/served.js';
import { EXIT_OK, EXIT_WARNINGS } from '../../output/exit-codes.js';
import { actAsOwner } from '../../service/act-as-owner.js';
import { RECEIVER_DIRECTORY_HELP, receiverDirectory } from '../../service/receiver-directory.js';

export interface StoreChoice {
  readonly store?: string;
}

export function storeDirectoryOption(): Option {
  return new Option('--store <dir>', `${RECEIVER_DIRECTORY_HELP}; a receiver may be running`).argParser(
    notEmpty,
  );
}

/** @throws StillpointError `usage` for a URL; `store-missing` */
export async function storeOf(context: CommandContext, { store }: StoreChoice): Promise<string> {
  if (store !== undefined && /^[a-z][a-z0-9+.-]*:\/\//i.test(store)) {
    throw new StillpointError('usage', {
      thing: `--store ${store}`,
      reason: 'an agent can neither remove points nor say what is kept, over the network there is no way to',
      remedy: "Run the command on the receiver's machine, with --store DIR.",
    });
  }
  const directory = await receiverDirectory(context, store);
  const { placeToRead } = await import('../../common/store-place.js');
  await placeToRead(context.stateDirectoryIfAny, directory);
  await actAsOwner(context, directory);
  return directory;
}

type Answer<Wish> = Wish extends { readonly to: 'plan' | 'prune' | 'forget' | 'forget-device' }
  ? RemovalSummary
  : Wish extends { readonly to: 'pin' | 'unpin' }
    ? null
    : RetentionView;

/** @param tell is told of each point that is planned or removed, as it comes */
export async function askRetention<Wish extends RetentionWish>(
  context: CommandContext,
  directory: string,
  wish: Wish,
  tell: (point: PlannedPointView) => void = () => undefined,
): Promise<Answer<Wish>> {
  const { plannedPointSchema, removalSummarySchema, retentionViewSchema } = await import(
    '../../../receiver/retention/messages.js'
  );
  const schema = wish.to in SUMMED ? removalSummarySchema : retentionViewSchema;
  const asking = {
    wish: { op: 'retention', wish } as const,
    parse: (answer: unknown) => (answer === null ? null : schema.parse(answer)),
    onEvent: (event: unknown) => tell(plannedPointSchema.parse(event)),
  };
  const answer = await askReceiverOr(context, directory, asking, () =>
    wish.to === 'show'
      ? showStore(context, directory)
      : withStore(context, directory, (store) => askStore(context, directory, store, wish, tell)),
  );
  return answer as Answer<Wish>;
}

const SUMMED: Readonly<Partial<Record<RetentionWish['to'], true>>> = {
  ...{ plan: true, prune: true, forget: true, 'forget-device': true },
};

/** Beside its owner, if that takes no commands. */
async function showStore({ output }: CommandContext, directory: string): Promise<RetentionView> {
  const { openStoreToRead } = await import('../../common/open-store.js');
  const { retentionView } = await import('../../../receiver/retention/views.js');
  const store = await openStoreToRead(output, directory);
  try {
    return retentionView(store.retention);
  } finally {
    await store.close();
  }
}

async function askStore(
  { signal }: CommandContext,
  directory: string,
  store: Store,
  wish: RetentionWish,
  tell: (point: PlannedPointView) => void,
): Promise<RetentionView | RemovalSummary | null> {
  const { RetentionService } = await import('../../../receiver/retention/service.js');
  // This process owns the store: nobody goes on with a session.
  const endSessions = async ({ agent, device }: { agent: string; device: string }) => {
    for (const capture of store.captures()) {
      const { description } = capture;
      if (description.agent === agent && description.device === device) await capture.abort();
    }
  };
  const { hasReceiver } = await import('../../common/recorded.js');
  if (!hasReceiver(directory))
    return new RetentionService({ store, endSessions }).perform(wish, signal, tell);
  const { AuditLog } = await import('../../../receiver/audit/log.js');
  const { noteRetention, recordWish } = await import('../../../receiver/audit/retention.js');
  const log = new AuditLog({ dir: directory });
  try {
    const service = new RetentionService({
      ...{ store, endSessions },
      onEvent: (event) => noteRetention(log, event),
      record: (change, work) => recordWish(log, change, work),
    });
    return await service.perform(wish, signal, tell);
  } finally {
    await log.close();
  }
}

/** Points and group points as they are named on the command line. */
export async function findAllNamed(
  { output }: CommandContext,
  directory: string,
  names: readonly string[],
): Promise<Named[]> {
  const { openEmbeddedReceiver } = await import('../../../receiver/embedded.js');
  const { openStoreToRead } = await import('../../common/open-store.js');
  const receiver = await openEmbeddedReceiver(directory, {
    agent: null,
    openStore: (dir) => openStoreToRead(output, dir),
  });
  try {
    const found: Named[] = [];
    for (const name of names) found.push(await findNamed(receiver, name));
    return found;
  } finally {
    await receiver.close();
  }
}

/** A point itself, or all points of a group point. */
export function pointsOf(named: Named): readonly Point[] {
  return named.kind === 'point' ? [named.point] : named.group.points;
}

/** `DEVICE` is one of this directory's own; `AGENT/DEVICE` says whose. */
export function deviceArgument(text: string): { readonly agent: string; readonly device: string } {
  const { agent = LOCAL_AGENT, device } = parseDeviceRef(text);
  return { agent, device };
}

export function nameOf(point: {
  readonly agent: string;
  readonly device: string;
  readonly sequence: number;
}) {
  return `${deviceName(point, LOCAL_AGENT)}@${point.sequence}`;
}

/** Says if the clock is not believed. @returns the exit code */
export function tellClock({ output }: CommandContext, clockDoubt: string | null): number {
  if (clockDoubt === null) return EXIT_OK;
  output.warn(
    `the clock is not believed, so no point goes by its time: ${clockDoubt}. Set the clock right, or confirm it with "stillpoint retention confirm-clock".`,
  );
  return EXIT_WARNINGS;
}
