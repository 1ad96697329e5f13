/**
 * A backup of a group over several hosts, from the orders for them to its points. runs.ts leads the hosts
 * through the instant; the order of a host tells only whether it is there.
 */
import { randomBytes } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { StillpointError } from '../../domain/base/errors.js';
import { isOver, RUN_LIMITS, type Run } from '../../domain/group/run.js';
import type { OrderFailure } from '../../domain/order/order.js';
import { agentsOf, type ReceiverGroup } from '../../domain/order/receiver-group.js';
import { checkNamesApart, isOfReceiver } from '../../domain/point/group.js';
import { toStillpointError } from '../../protocol/messages/error-body.js';
import type { Store } from '../../store/port/store.js';
import { followOrder } from '../orders/order-outcome.js';
import type { OrderBook } from '../orders/orders.js';
import type { GroupRuns } from './runs.js';
import type { GroupBackupResult, GroupRunBy, GroupWitness, OnRunChange } from './witness.js';

/** What hosts do after their commits is over soon: its warnings are waited for. */
const LAST_WORDS_MS = 30_000;

export interface GroupBackupOptions {
  readonly orders: OrderBook;
  readonly runs: GroupRuns;
  readonly store: Pick<Store, 'points'>;
  readonly witness: GroupWitness;
}

export interface GroupBackupWish {
  readonly group: ReceiverGroup;
  readonly by: GroupRunBy;
  /** For agents that are not connected. */
  readonly waitMs: number;
  /** Aborted: it is given up. */
  readonly signal: AbortSignal;
  readonly onChange: (run: Run) => void;
  /** Why an agent is not connected, as a clause. */
  readonly whyAbsent: (agent: string) => string;
}

/** By agent, in the order of the members. */
export function hostsOf({ members }: Pick<ReceiverGroup, 'members'>): { agent: string; devices: string[] }[] {
  return agentsOf({ members }).map((agent) => ({
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

/** A backup that runs. */
interface Running {
  readonly stop: AbortController;
  /** Whether it made a group point. */
  readonly ended: Promise<boolean>;
}

export class GroupBackups {
  readonly #options: GroupBackupOptions;
  /** By the group's name. */
  readonly #running = new Map<string, Running>();

  constructor(options: GroupBackupOptions) {
    this.#options = options;
  }

  /** @throws StillpointError of the host that was at fault; `bad-name`, `session-busy`, `cancelled` */
  async run(wish: GroupBackupWish): Promise<GroupBackupResult> {
    const { group, by } = wish;
    if (this.#running.has(group.name))
      throw busy(group.name, 'a backup of it is running', 'Try again when it has ended.');
    const stop = new AbortController();
    const signal = AbortSignal.any([wish.signal, stop.signal]);
    const work = this.#options.witness.watch(group, by, async (onChange) => {
      await checkReceiverGroup(this.#options.store, group);
      return this.#run({ ...wish, signal }, onChange);
    });
    const ended = work.then(
      () => true,
      () => false,
    );
    this.#running.set(group.name, { stop, ended });
    try {
      return await work;
    } finally {
      this.#running.delete(group.name);
    }
  }

  /**
   * Stops the backup that runs, whoever began it; it has ended then.
   * @throws StillpointError `session-unknown` if there is none, `session-busy` if it is too late
   */
  async cancel(name: string): Promise<void> {
    const running = this.#running.get(name);
    if (running === undefined)
      throw new StillpointError('session-unknown', {
        thing: `group ${name}`,
        reason: 'no backup of it runs',
      });
    running.stop.abort();
    if (await running.ended)
      throw busy(name, 'its points were being made already', 'See "stillpoint points".');
  }

  async #run(wish: GroupBackupWish, watched: OnRunChange): Promise<GroupBackupResult> {
    const { group, waitMs, signal, onChange, whyAbsent } = wish;
    const { orders, runs, store } = this.#options;
    const { name, missing } = group;
    const id = randomBytes(16).toString('hex');
    const hosts = hostsOf(group);
    const stop = new AbortController();
    const warnings: string[] = [];
    const cancel = () => void runs.cancel(id, CANCELLED);
    const ended = new Promise<Run>((resolve) => {
      const run = runs.start({ id, name, hosts, missing, limits: RUN_LIMITS }, (changed, event) => {
        watched(changed, event);
        onChange(changed);
        if (isOver(changed)) resolve(changed);
      });
      watched(run, null);
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

function busy(name: string, reason: string, remedy: string): StillpointError {
  return new StillpointError('session-busy', { thing: `group ${name}`, reason, remedy, permanent: false });
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
