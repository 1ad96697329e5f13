/**
 * A backup of a group over several hosts, from the orders for them to its points. runs.ts leads the hosts
 * through the instant; the order of a host tells only whether it is there.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { isOver, RUN_LIMITS, type Run, type RunHost } from '../../domain/group/run.js';
import type { OrderFailure } from '../../domain/order/order.js';
import type { ReceiverGroup } from '../../domain/order/receiver-group.js';
import { checkNamesApart, isOfReceiver } from '../../domain/point/group.js';
import type { Point } from '../../domain/point/point.js';
import { toStillpointError } from '../../protocol/messages/error-body.js';
import type { Store } from '../../store/port/store.js';
import { followOrder } from '../orders/order-outcome.js';
import type { OrderBook } from '../orders/orders.js';
import type { GroupRuns } from './runs.js';

/** What hosts do after their commits is over soon: its warnings are waited for. */
const LAST_WORDS_MS = 30_000;

export interface GroupBackupOptions {
  readonly orders: OrderBook;
  readonly runs: GroupRuns;
  readonly store: Pick<Store, 'points'>;
}

export interface GroupBackupWish {
  readonly group: ReceiverGroup;
  /** For agents that are not connected. */
  readonly waitMs: number;
  /** Aborted: it is given up. */
  readonly signal: AbortSignal;
  readonly onChange: (run: Run) => void;
  /** Why an agent is not connected, as a clause. */
  readonly whyAbsent: (agent: string) => string;
}

export interface GroupBackupResult {
  /** All of the group point. */
  readonly points: readonly Point[];
  /** As they ended: with stalls, and why some are out. */
  readonly hosts: readonly RunHost[];
  /** Of what hosts did after their commits too. */
  readonly warnings: readonly string[];
}

/** By agent, in the order of the members. */
export function hostsOf({ members }: Pick<ReceiverGroup, 'members'>): { agent: string; devices: string[] }[] {
  const agents = [...new Set(members.map(({ agent }) => agent))];
  return agents.map((agent) => ({
    agent,
    devices: members.filter((member) => member.agent === agent).map(({ device }) => device),
  }));
}

/**
 * A name of the receiver's group is a device's nowhere, nor one of an agent's own groups: `db@3` means one
 * thing for each of its agents.
 * @throws StillpointError `bad-name`
 */
export async function checkReceiverGroup(store: Pick<Store, 'points'>, group: ReceiverGroup): Promise<void> {
  for (const { agent, devices } of hostsOf(group)) {
    const points = await store.points({ agent });
    checkNamesApart([...points, ...devices.map((device) => ({ device }))], { group: group.name });
    const own = points.some((point) => point.group?.name === group.name && !isOfReceiver(point.group));
    if (!own) continue;
    throw new StillpointError('bad-name', {
      thing: `group ${group.name}`,
      reason: `it is the name of a group of the agent ${agent}, which has points`,
      remedy: 'Choose another name.',
    });
  }
}

export class GroupBackups {
  readonly #options: GroupBackupOptions;
  readonly #running = new Set<string>();

  constructor(options: GroupBackupOptions) {
    this.#options = options;
  }

  /** @throws StillpointError of the host that was at fault; `bad-name`, `session-busy`, `cancelled` */
  async run(wish: GroupBackupWish): Promise<GroupBackupResult> {
    const { name } = wish.group;
    await checkReceiverGroup(this.#options.store, wish.group);
    if (this.#running.has(name)) {
      throw new StillpointError('session-busy', {
        thing: `group ${name}`,
        reason: 'a backup of it is running',
        remedy: 'Try again when it has ended.',
        permanent: false,
      });
    }
    this.#running.add(name);
    try {
      return await this.#run(wish);
    } finally {
      this.#running.delete(name);
    }
  }

  async #run(wish: GroupBackupWish): Promise<GroupBackupResult> {
    const { group, waitMs, signal, onChange, whyAbsent } = wish;
    const { orders, runs, store } = this.#options;
    const { name, missing } = group;
    const id = randomBytes(16).toString('hex');
    const hosts = hostsOf(group);
    const stop = new AbortController();
    const warnings: string[] = [];
    const cancel = () => runs.fail(id, CANCELLED);
    const ended = new Promise<Run>((resolve) => {
      runs.start({ id, name, hosts, missing, limits: RUN_LIMITS }, (run) => {
        onChange(run);
        if (isOver(run)) resolve(run);
      });
    });
    signal.addEventListener('abort', cancel, { once: true });
    if (signal.aborted) cancel();
    const followed = hosts.map(async ({ agent, devices }) => {
      const order = { agent, device: devices[0] ?? '', full: false, group: { runId: id, name, devices } };
      try {
        const { warnings: said } = await followOrder(orders, order, {
          ...{ waitMs, signal: stop.signal, whyAbsent, onChange: () => undefined },
        });
        warnings.push(...said.map((text) => `${agent}: ${text}`));
      } catch (error) {
        runs.gone(id, agent, asFailure(error));
      }
    });
    try {
      const run = await ended;
      if (run.phase === 'failed') throw failedFor(run);
      await Promise.race([Promise.all(followed), sleep(LAST_WORDS_MS, undefined, { signal: stop.signal })]);
      const points = (await store.points({})).filter((point) => point.group?.id === id);
      return { points, hosts: run.hosts, warnings };
    } finally {
      signal.removeEventListener('abort', cancel);
      stop.abort();
      await Promise.all(followed);
    }
  }
}

const CANCELLED: OrderFailure = {
  code: 'cancelled',
  thing: 'the backup of the group',
  reason: 'it was cancelled',
  permanent: true,
};

/** The host at fault is named; its own error names a device of its own. */
function failedFor({ failure, hosts, settings }: Run): StillpointError {
  const { code, thing, reason, remedy, permanent } = failure ?? CANCELLED;
  const host = hosts.find((each) => each.failure === failure && failure !== null);
  const of = host === undefined || thing === `agent ${host.agent}` ? thing : `${host.agent}: ${thing}`;
  return new StillpointError(code, {
    ...{ thing: `group ${settings.name}`, reason: `${of}: ${reason}`, permanent },
    ...(remedy === undefined ? {} : { remedy }),
  });
}

function asFailure(error: unknown): OrderFailure {
  const { code, thing, reason, remedy, permanent } = toStillpointError(error);
  return { code, thing, reason, permanent, ...(remedy === undefined ? {} : { remedy }) };
}
