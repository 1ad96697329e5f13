/** The groups over several hosts of a receiver that runs, as commands ask for them. */
import type { Logger } from 'pino';
import type { ReceiverGroup } from '../../domain/order/receiver-group.js';
import type { Counters } from '../../monitor/metrics/table.js';
import type { Store } from '../../store/port/store.js';
import type { Tenants } from '../access/tenants.js';
import type { AuditLog } from '../audit/log.js';
import { findGroup } from '../orders/group-settings.js';
import type { OrderBook } from '../orders/orders.js';
import { GroupBackups } from './backup.js';
import { checkNewGroup } from './check.js';
import type { GroupRuns } from './runs.js';
import { type AccessOf, type GroupView, groupViews } from './views.js';
import { GroupWitness } from './witness.js';

export interface GroupsOptions {
  readonly dir: string;
  /** As they are set now. */
  readonly list: () => Promise<readonly ReceiverGroup[]>;
  readonly store: Pick<Store, 'points'>;
  readonly orders: OrderBook;
  readonly runs: GroupRuns;
  readonly tenants: Pick<Tenants, 'agent'>;
  readonly audit: Pick<AuditLog, 'note'>;
  readonly log: Logger;
  readonly counters: Counters;
  readonly now: () => Date;
}

export class Groups {
  readonly backups: GroupBackups;
  readonly #options: GroupsOptions;
  readonly #witness: GroupWitness;
  readonly #access: AccessOf;

  constructor(options: GroupsOptions) {
    const { dir, store, orders, runs, tenants, audit, log, counters, now } = options;
    this.#options = options;
    this.#witness = new GroupWitness({ dir, log, audit, counters, nowMs: () => now().getTime() });
    this.backups = new GroupBackups({ orders, runs, store, witness: this.#witness });
    this.#access = (agent) => {
      const known = tenants.agent(agent);
      if (known === null) return null;
      return known.revoked === undefined ? 'enrolled' : 'revoked';
    };
  }

  /** @throws StillpointError `usage` if there is none of the name */
  async find(name: string): Promise<ReceiverGroup> {
    return findGroup(await this.#options.list(), name);
  }

  /** @throws StillpointError as GroupBackups.cancel */
  async cancel(name: string): Promise<void> {
    const act = { who: 'operator', what: 'group-cancel', detail: `group ${name}` } as const;
    this.#options.audit.note({ ...act, result: 'begun' });
    await this.backups.cancel(name);
  }

  /** @returns warnings. @throws StillpointError as checkNewGroup */
  check(group: ReceiverGroup): Promise<string[]> {
    const { store, orders } = this.#options;
    const presence = (agent: string) => orders.presence(agent);
    return checkNewGroup(group, { store, access: this.#access, presence });
  }

  /** @param name null: all. @throws StillpointError `usage` if there is none of the name */
  async views(name: string | null): Promise<GroupView[]> {
    const { dir, list, store, orders } = this.#options;
    const groups = name === null ? await list() : [await this.find(name)];
    return groupViews(groups, {
      ...{ dir, points: await store.points({}), access: this.#access },
      served: {
        running: (group) => this.#witness.running(group),
        presence: (agent) => orders.presence(agent),
      },
    });
  }
}
