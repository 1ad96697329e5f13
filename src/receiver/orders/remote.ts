/**
 * The receiver's own initiative: orders for agents, rounds over many, dialling those that only listen. All of
 * that goes through the one book of orders, whichever way an agent is connected.
 */

import { X509Certificate } from 'node:crypto';
import type { Logger } from 'pino';
import { StillpointError } from '../../domain/base/errors.js';
import type { DevicePlan, Order, OrderWish, PlannedRound } from '../../domain/order/order.js';
import { agentsOf, type ReceiverGroup } from '../../domain/order/receiver-group.js';
import type { RoundItem, RoundSummary } from '../../domain/order/round.js';
import {
  agentsOfPlan,
  planRound,
  type RoundChoice,
  type RoundPlan,
} from '../../domain/order/round-choice.js';
import { pointLabel } from '../../domain/point/point.js';
import { isNearItsEnd } from '../../protocol/certificates/certificates.js';
import type { Store } from '../../store/port/store.js';
import type { EnrolledAgent } from '../access/agent-file.js';
import { openInvites } from '../access/invites.js';
import type { Quotas } from '../access/quotas.js';
import type { Tenants } from '../access/tenants.js';
import type { Trail } from '../audit/trail.js';
import { addressText, type DialOut } from './dial-out.js';
import { findGroup } from './group-settings.js';
import { followOrder, type OrderResult } from './order-outcome.js';
import type { OrderBook } from './orders.js';
import { type BackUpGroup, runRound } from './rounds.js';
import type { RoundsSource } from './rounds-source.js';
import { Scheduler } from './scheduler.js';

export interface RemoteOptions {
  readonly dir: string;
  /** Schedules, groups, and who is dialled. */
  readonly rounds: RoundsSource;
  readonly store: Store;
  readonly tenants: Tenants;
  readonly quotas: Quotas;
  readonly orders: OrderBook;
  readonly backUpGroup: BackUpGroup;
  readonly dialOut: DialOut;
  readonly trail: Trail;
  readonly log: Logger;
  readonly now: () => Date;
}

export interface AgentView {
  readonly agent: string;
  readonly isConnected: boolean;
  /** Where it is dialled, `HOST:PORT`. */
  readonly address: string | null;
  /** Why dialling fails. */
  readonly problem: string | null;
  /** Since the receiver was started, ISO 8601. */
  readonly lastSeenAt: string | null;
  readonly devices: readonly string[];
  /** What it does by itself, as it last told. */
  readonly plans: readonly DevicePlan[];
  readonly lastPoint: { readonly point: string; readonly committedAt: string } | null;
  /** `invited`: it has a code and has not used it. `unknown`: it is dialled, and has never enrolled. */
  readonly state: 'invited' | 'enrolled' | 'revoked' | 'unknown';
  /** ISO 8601. */
  readonly certificateExpiresAt: string | null;
  /** It should have renewed its certificate by itself: an older version, or one that was never here since. */
  readonly isRenewalLate: boolean;
  readonly revoked: { readonly at: string; readonly reason: string | null } | null;
}

/** Of its time that a certificate has left at most when its agent should have renewed it. */
const LATE_PART = 1 / 4;

function accessOf(
  agent: EnrolledAgent | null,
  isInvited: boolean,
  now: Date,
): Pick<AgentView, 'state' | 'certificateExpiresAt' | 'isRenewalLate' | 'revoked'> {
  if (agent === null) {
    const state = isInvited ? 'invited' : 'unknown';
    return { state, certificateExpiresAt: null, isRenewalLate: false, revoked: null };
  }
  const { certificate, revoked = null } = agent;
  return {
    state: revoked === null ? 'enrolled' : 'revoked',
    certificateExpiresAt: new Date(new X509Certificate(certificate).validTo).toISOString(),
    isRenewalLate: revoked === null && isNearItsEnd(certificate, now, LATE_PART),
    revoked,
  };
}

interface RoundPace {
  readonly parallel: number;
  readonly waitMs: number;
}

export interface RoundWish extends RoundChoice, RoundPace {}

export class Remote {
  readonly #options: RemoteOptions;
  #scheduler: Scheduler | null = null;

  private constructor(options: RemoteOptions) {
    this.#options = options;
  }

  static async start(options: RemoteOptions): Promise<Remote> {
    const remote = new Remote(options);
    const { dir, log, now, dialOut, orders, rounds } = options;
    dialOut.set(await rounds.addresses());
    remote.#scheduler = await Scheduler.start({
      ...{ dir, log, now },
      readSchedules: () => rounds.schedules(),
      readGroups: () => rounds.groups(),
      // Names that are not known are skipped: a schedule is not to fail for one of them.
      runRound: ({ schedule, groups, left }, signal) => {
        const known = { agents: options.tenants.names(), groups };
        return remote.#round('schedule', planRound(schedule, known, left), schedule, signal);
      },
    });
    orders.planned = (agent) => remote.#planned(agent);
    return remote;
  }

  #planned(agent: string): readonly PlannedRound[] {
    return this.#scheduler?.planned(agent) ?? [];
  }

  /** Settings were changed by a command. */
  async reload(): Promise<void> {
    this.#options.dialOut.set(await this.#options.rounds.addresses());
    await this.#options.quotas.reload();
    await this.#scheduler?.reload();
  }

  /** Rounds end; orders are given up by the book itself. */
  async close(): Promise<void> {
    await this.#scheduler?.close();
  }

  /**
   * @throws StillpointError of the agent's backup; `usage`, `unreachable`, `connection-lost`,
   * `device-unknown`, `session-busy`, `cancelled`
   */
  async backup(
    wish: OrderWish,
    waitMs: number,
    signal: AbortSignal,
    onChange: (order: Order, hasJoined: boolean) => void,
  ): Promise<OrderResult> {
    const { log, orders, dialOut, trail } = this.#options;
    this.#checkEnrolled([wish.agent]);
    const { agent, device, compare } = wish;
    const what = compare === undefined ? 'backup' : 'comparison';
    const detail =
      compare === undefined
        ? undefined
        : `comparison${compare.deep ? ' --deep' : ''}${compare.ship ? ' --ship' : ''}`;
    trail.note({ who: 'operator', what: 'order', result: 'done', agent, device, detail });
    log.info({ ...wish }, `${what} ordered`);
    dialOut.hurry(wish.agent);
    try {
      const whyAbsent = (agent: string) => this.#whyAbsent(agent);
      const result = await followOrder(orders, wish, { waitMs, signal, onChange, whyAbsent });
      log.info(
        { agent: wish.agent, device: wish.device, point: result.point.sequence },
        `ordered ${what} done`,
      );
      return result;
    } catch (error) {
      const reason = (error as Error).message;
      log.warn({ agent: wish.agent, device: wish.device, reason }, `ordered ${what} failed`);
      throw error;
    }
  }

  /** @throws StillpointError `usage` for an agent that is not enrolled, or a group that is not there */
  async round(
    wish: RoundWish,
    signal: AbortSignal,
    onItem: (item: RoundItem) => void,
  ): Promise<RoundSummary> {
    const { tenants, rounds } = this.#options;
    this.#checkEnrolled(wish.agents ?? []);
    const groups = await rounds.groups();
    for (const name of wish.groups ?? []) findGroup(groups, name);
    const plan = planRound(wish, { agents: tenants.names(), groups });
    return this.#round('operator', plan, wish, signal, onItem);
  }

  async #round(
    who: 'operator' | 'schedule',
    plan: RoundPlan,
    { parallel, waitMs }: RoundPace,
    signal: AbortSignal,
    onItem: (item: RoundItem) => void = () => undefined,
  ): Promise<RoundSummary> {
    const { orders, backUpGroup, dialOut, trail, now } = this.#options;
    const agents = agentsOfPlan(plan);
    for (const agent of agents) dialOut.hurry(agent);
    trail.log.note({ who, what: 'round', result: 'begun', count: agents.length });
    const summary = await runRound({
      ...{ by: who, orders, backUpGroup, plan, parallel, waitMs, signal, onItem },
      whyAbsent: (agent) => this.#whyAbsent(agent),
      nowMs: () => now().getTime(),
    });
    const { done, failed, skipped, wireBytes: bytes } = summary;
    const detail = `${done} done, ${failed} failed, ${skipped} skipped`;
    trail.log.note({ who, what: 'round', result: failed === 0 ? 'done' : 'failed', bytes, detail });
    return summary;
  }

  /**
   * A backup of a group over several hosts. @param work given why an agent is not there
   * @throws StillpointError of the work; `usage` for an agent that is not enrolled
   */
  async groupBackup<T>(
    group: ReceiverGroup,
    work: (whyAbsent: (agent: string) => string) => Promise<T>,
  ): Promise<T> {
    const agents = agentsOf(group);
    this.#checkEnrolled(agents);
    for (const agent of agents) this.#options.dialOut.hurry(agent);
    return work((agent) => this.#whyAbsent(agent));
  }

  async agents(): Promise<AgentView[]> {
    const { tenants, orders, dialOut, store } = this.#options;
    const addresses = await this.#options.rounds.addresses();
    const now = this.#options.now();
    const invited = await openInvites(this.#options.dir, now);
    const enrolled = tenants.all().map(({ name }) => name);
    const names = [...new Set([...enrolled, ...addresses.keys(), ...invited.keys()])].sort();
    return Promise.all(
      names.map(async (agent) => {
        const { isConnected, lastSeenMs, devices, plans } = orders.presence(agent);
        const dialled = dialOut.state(agent);
        const last = (await store.points({ agent })).reduce<{ point: string; committedAt: string } | null>(
          (latest, { device, sequence, committedAt }) =>
            latest !== null && latest.committedAt >= committedAt
              ? latest
              : { point: pointLabel({ device, sequence }), committedAt },
          null,
        );
        return {
          ...{ agent, isConnected, devices, plans },
          address: dialled === null ? null : addressText(dialled.address),
          problem: dialled?.problem ?? null,
          lastSeenAt: lastSeenMs === 0 ? null : new Date(lastSeenMs).toISOString(),
          lastPoint: last,
          ...accessOf(tenants.agent(agent), invited.has(agent), now),
        };
      }),
    );
  }

  #whyAbsent(agent: string): string {
    const { tenants, dialOut } = this.#options;
    const known = tenants.agent(agent);
    if (known === null) return 'no agent of this name is enrolled here';
    if (known.revoked !== undefined) return 'its access was revoked';
    const dialled = dialOut.state(agent);
    if (dialled === null) return 'it is not connected';
    const at = `it is dialled at ${addressText(dialled.address)}`;
    return dialled.problem === null ? `${at}, and does not ask for orders` : `${at}: ${dialled.problem}`;
  }

  #checkEnrolled(names: readonly string[]): void {
    const { tenants } = this.#options;
    const unknown = names.find((name) => tenants.agent(name) === null);
    if (unknown === undefined) return;
    throw new StillpointError('usage', {
      thing: `agent ${JSON.stringify(unknown.slice(0, 80))}`,
      reason: 'no agent of this name is enrolled here',
      remedy: 'See "stillpoint receiver agents".',
    });
  }
}
