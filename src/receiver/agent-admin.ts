/**
 * What operators do to agents: shut one out, give it another name, remove it. Each is an act of the audit
 * log. The receiver that serves the directory does it, or a command that has the store for itself.
 *
 * A change of name touches many files, so it is written down first (`DIR/receiver/rename.json`): from then on
 * it will be done, by this process or by the next one that serves. Each step may be done again:
 *
 *   policies of retention, for both names
 *   store: partial sets, what devices hold, then each point (docs/format.md section 6)
 *   policies and pins of the former name
 *   the agent's file, so its certificates let it in under the new name
 *   where it is dialled, schedules, quotas
 *   rename.json is removed
 *
 * Meanwhile the agent's messages are answered with `busy`, which it waits out.
 */
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../config/state-file.js';
import { StillpointError } from '../domain/base/errors.js';
import { checkName, LOCAL_AGENT } from '../domain/base/names.js';
import { copyForName, leaveName } from '../domain/retention/rename.js';
import { syncDirectory } from '../native/files.js';
import type { Store } from '../store/port/store.js';
import type { Connections } from './access/connections.js';
import { readAuthority, receiverDirectory } from './access/identity.js';
import type { QuotaUse } from './access/quota.js';
import { renameQuota, writeQuota } from './access/quotas.js';
import { Tenants } from './access/tenants.js';
import { AuditLog } from './audit/log.js';
import { Trail } from './audit/trail.js';
import type { AgentCommands } from './control/server.js';
import { readAddresses, renameInSettings } from './orders/remote-settings.js';
import { ReceiverService } from './sessions/service.js';

interface Renaming {
  readonly from: string;
  readonly to: string;
}

const renamingFormat: StateFormat<Renaming> = {
  format: 'stillpoint-rename',
  version: 1,
  schema: z.strictObject({ from: z.string().max(64), to: z.string().max(64) }),
};
const renamingPath = (dir: string) => join(receiverDirectory(dir), 'rename.json');

interface Parts {
  readonly dir: string;
  readonly store: Store;
  readonly tenants: Tenants;
  readonly trail: Trail;
}

export interface AdminOptions extends Parts {
  readonly service: ReceiverService;
  readonly now: () => Date;
  /** Null: no receiver serves. */
  readonly connections: Connections | null;
  /** Settings were changed. */
  readonly reload: () => Promise<void>;
}

export class AgentAdmin implements AgentCommands {
  readonly #options: AdminOptions;

  constructor(options: AdminOptions) {
    this.#options = options;
  }

  /** Its open sessions stay, and a machine that enrolls again under the name goes on with them. */
  async revoke(agent: string, reason: string | null): Promise<{ readonly revokedAt: string }> {
    const { tenants, trail, connections, now } = this.#options;
    this.#checkEnrolled(agent);
    const detail = reason ?? undefined;
    return trail.log.act({ who: 'operator', what: 'revoke', agent, detail }, async () => {
      const { revoked } = await tenants.revoke(agent, reason, now());
      connections?.cut(agent);
      return { revokedAt: revoked?.at ?? now().toISOString() };
    });
  }

  async rename(agent: string, to: string): Promise<{ readonly points: number }> {
    const { dir, store, service, trail, connections, reload } = this.#options;
    checkName('agent name', to);
    this.#checkEnrolled(agent);
    await this.#checkFree(agent, to);
    const points = (await store.points({ agent })).length;
    const event = { who: 'operator', what: 'rename', agent, detail: `to ${to}` } as const;
    return trail.log.act(event, () =>
      service.withoutSessions([agent, to], async () => {
        connections?.cut(agent);
        // What is written down will be done; so what can't be done is not.
        await store.checkRename(agent, to);
        await writeStateFile(renamingPath(dir), renamingFormat, { from: agent, to });
        await carryOut(this.#options, { from: agent, to });
        await reload();
        return { points };
      }),
    );
  }

  async remove(agent: string, keepPoints: boolean): Promise<{ readonly points: number }> {
    const { dir, store, service, tenants, trail, connections, reload, now } = this.#options;
    const devices = new Set((await store.points({ agent })).map(({ device }) => device));
    if (agent === LOCAL_AGENT || devices.size === 0) this.#checkEnrolled(agent);
    const detail = keepPoints ? 'its points are kept' : 'with its points';
    const event = { who: 'operator', what: 'remove', agent, detail } as const;
    return trail.log.act(
      event,
      () =>
        service.withoutSessions([agent], async () => {
          if (tenants.agent(agent) !== null) await tenants.revoke(agent, 'it is being removed', now());
          connections?.cut(agent);
          let points = 0;
          if (!keepPoints) {
            for (const device of devices) {
              points += (await store.removeDevice({ agent, device }, `agent ${agent} was removed`)).length;
            }
          }
          await tenants.remove(agent);
          await renameInSettings(dir, agent, null);
          await writeQuota(dir, agent, null);
          await reload();
          return { points };
        }),
      ({ points }) => ({ count: points }),
    );
  }

  use(agent: string): Promise<QuotaUse> {
    return this.#options.service.use(agent);
  }

  #checkEnrolled(agent: string): void {
    if (this.#options.tenants.agent(agent) !== null) return;
    throw new StillpointError('usage', {
      thing: `agent ${JSON.stringify(agent.slice(0, 80))}`,
      reason: 'no agent of this name is enrolled here',
      remedy: 'See "stillpoint receiver agents".',
    });
  }

  /** Nobody has, or ever had, the name. A file system may not tell upper from lower case. */
  async #checkFree(agent: string, to: string): Promise<void> {
    const { dir, store, tenants } = this.#options;
    const names = [
      LOCAL_AGENT,
      ...tenants.all().map(({ name }) => name),
      ...(await readAddresses(dir)).keys(),
      ...(await store.points({})).map((point) => point.agent),
      ...(await store.partialSets({})).map((set) => set.agent ?? ''),
    ];
    const taken = names.find((name) => name.toLowerCase() === to.toLowerCase());
    if (taken === undefined && store.deviceNames(to).length === 0) return;
    throw new StillpointError('bad-name', {
      thing: `agent ${to}`,
      reason: taken === agent ? 'it is the same name' : `the receiver has ${taken ?? to} already`,
      remedy: 'Choose another name.',
    });
  }
}

/**
 * What a receiver that died had begun.
 * @returns names that must wait, since it can't be finished now
 */
export async function finishRename(parts: Parts, onProblem: (reason: string) => void): Promise<string[]> {
  const renaming = await readStateFile(renamingPath(parts.dir), renamingFormat);
  if (renaming === null) return [];
  const { from, to } = renaming;
  const event = { who: 'operator', what: 'rename', agent: from } as const;
  try {
    await carryOut(parts, renaming);
    const detail = `to ${to}: finished after a restart`;
    parts.trail.log.note({ ...event, result: 'done', detail });
    return [];
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    onProblem(`agent ${from} can't be renamed to ${to} now, and is not served until it can: ${reason}`);
    parts.trail.log.note({ ...event, result: 'failed', detail: `to ${to}: ${reason}` });
    return [from, to];
  }
}

async function carryOut({ dir, store, tenants }: Parts, { from, to }: Renaming): Promise<void> {
  // A prune in between finds each point under its policy.
  await store.retention.change((settings) => copyForName(settings, from, to));
  await store.renameAgent(from, to);
  await store.retention.change((settings) => leaveName(settings, from, to));
  await tenants.rename(from, to);
  await renameInSettings(dir, from, to);
  await renameQuota(dir, from, to);
  await rm(renamingPath(dir), { force: true });
  await syncDirectory(receiverDirectory(dir));
}

/** For a command that has the store for itself. The store stays the caller's to close. */
export async function openAgentAdmin(
  dir: string,
  store: Store,
  onProblem: (reason: string) => void,
): Promise<{ readonly commands: AgentCommands; close(): Promise<void> }> {
  const trail = new Trail(new AuditLog({ dir }));
  const tenants = await Tenants.open(dir, await readAuthority(dir), onProblem);
  await finishRename({ dir, store, tenants, trail }, onProblem);
  const service = await ReceiverService.open(store, { trail });
  const parts = { dir, store, tenants, trail, service };
  const commands = new AgentAdmin({
    ...parts,
    ...{ now: () => new Date(), connections: null, reload: async () => undefined },
  });
  return {
    commands,
    close: async () => {
      await service.close();
      await trail.close();
    },
  };
}
