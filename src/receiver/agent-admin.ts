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
 * Meanwhile the agent's messages are answered with `busy`, which it waits out. There is one such change at a
 * time: if it fails half-way, the names are not served, and the next rename or removal, or the next start,
 * finishes it first.
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
import { openInvites } from './access/invites.js';
import type { QuotaUse } from './access/quota.js';
import { renameQuota, writeQuota } from './access/quotas.js';
import { Tenants } from './access/tenants.js';
import { AuditLog } from './audit/log.js';
import { Trail } from './audit/trail.js';
import type { AgentCommands } from './control/server.js';
import type { RoundsSource } from './orders/rounds-source.js';
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
  readonly rounds: RoundsSource;
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
  readonly onProblem: (reason: string) => void;
}

export class AgentAdmin implements AgentCommands {
  readonly #options: AdminOptions;
  #queue: Promise<unknown> = Promise.resolve();

  constructor(options: AdminOptions) {
    this.#options = options;
  }

  /** Its open sessions stay, and a machine that enrolls again under the name goes on with them. */
  async revoke(agent: string, reason: string | null): Promise<{ readonly revokedAt: string }> {
    const { tenants, trail, connections, now } = this.#options;
    this.#checkEnrolled(agent);
    const detail = reason ?? undefined;
    return trail.log.act({ who: 'operator', what: 'revoke', agent, detail }, async () => {
      const revoking = tenants.revoke(agent, reason, now());
      const { revoked } = await revoking.finally(() => connections?.cut(agent));
      return { revokedAt: revoked?.at ?? now().toISOString() };
    });
  }

  rename(agent: string, to: string): Promise<{ readonly points: number }> {
    const { store } = this.#options;
    checkName('agent name', to);
    return this.#inTurn(async () => {
      const resumed = await this.#resume();
      const countPoints = async (name: string) => ({ points: (await store.points({ agent: name })).length });
      if (resumed?.from === agent && resumed.to === to) return countPoints(to);
      await this.#checkRename(agent, to);
      const points = await countPoints(agent);
      await this.#rename({ from: agent, to });
      return points;
    });
  }

  remove(agent: string, keepPoints: boolean): Promise<{ readonly points: number }> {
    const { store, rounds, trail } = this.#options;
    return this.#inTurn(async () => {
      await this.#resume();
      const devices = new Set((await store.points({ agent })).map(({ device }) => device));
      if (agent === LOCAL_AGENT || devices.size === 0) this.#checkEnrolled(agent);
      await rounds.checkRename(agent, null);
      const detail = keepPoints ? 'its points are kept' : 'with its points';
      const event = { who: 'operator', what: 'remove', agent, detail } as const;
      const work = () => this.#remove(agent, keepPoints ? null : devices);
      return trail.log.act(event, work, ({ points }) => ({ count: points }));
    });
  }

  #inTurn<T>(change: () => Promise<T>): Promise<T> {
    const result = this.#queue.then(change);
    this.#queue = result.catch(() => undefined);
    return result;
  }

  async #rename({ from, to }: Renaming): Promise<void> {
    const { dir, store, service, trail, connections } = this.#options;
    const event = { who: 'operator', what: 'rename', agent: from, detail: `to ${to}` } as const;
    await trail.log.act(event, () =>
      service.withoutSessions([from, to], async () => {
        connections?.cut(from);
        // What is written down will be done; so what can't be done is not.
        await store.checkRename(from, to);
        await writeStateFile(renamingPath(dir), renamingFormat, { from, to });
        // From here on it will be done: until then nobody is served under either name.
        for (const name of [from, to]) service.held.add(name);
        await carryOut(this.#options, { from, to });
        service.held.clear();
      }),
    );
    await this.#reload();
  }

  /** @param devices null: what the store has of it stays */
  async #remove(agent: string, devices: ReadonlySet<string> | null): Promise<{ readonly points: number }> {
    const { dir, store, rounds, service, tenants, connections, now } = this.#options;
    const removed = await service.withoutSessions([agent], async () => {
      if (tenants.agent(agent) !== null) await tenants.revoke(agent, 'it is being removed', now());
      connections?.cut(agent);
      let points = 0;
      for (const device of devices ?? [])
        points += (await store.removeDevice({ agent, device }, `agent ${agent} was removed`)).length;
      // Of devices without points, too.
      const journals = devices === null ? [] : await store.journals.list({ agent });
      for (const { journalId } of journals) await store.journals.remove(agent, journalId);
      await tenants.remove(agent);
      await rounds.renameAgent(agent, null);
      await writeQuota(dir, agent, null);
      return { points };
    });
    await this.#reload();
    return removed;
  }

  /** Finishes a rename that failed half-way. @returns which. @throws what it fails with again */
  async #resume(): Promise<Renaming | null> {
    const { dir, service, trail } = this.#options;
    const renaming = await readStateFile(renamingPath(dir), renamingFormat);
    if (renaming === null) return null;
    const { from, to } = renaming;
    const event = { who: 'operator', what: 'rename', agent: from, detail: `to ${to}: goes on` } as const;
    await trail.log.act(event, () => carryOut(this.#options, renaming));
    service.held.clear();
    await this.#reload();
    return renaming;
  }

  /** What was asked for is done, whatever comes of this. */
  async #reload(): Promise<void> {
    const { reload, onProblem } = this.#options;
    await reload().catch((error: Error) => onProblem(`settings can't be read again: ${error.message}`));
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

  /** Nobody has, or ever had, the new name. A file system may not tell upper from lower case. */
  async #checkRename(agent: string, to: string): Promise<void> {
    const { dir, store, rounds, tenants, now } = this.#options;
    this.#checkEnrolled(agent);
    await rounds.checkRename(agent, to);
    const names = [
      LOCAL_AGENT,
      ...tenants.all().map(({ name }) => name),
      ...(await rounds.addresses()).keys(),
      ...(await openInvites(dir, now())).keys(),
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

async function carryOut({ dir, store, rounds, tenants }: Parts, { from, to }: Renaming): Promise<void> {
  await rounds.checkRename(from, to);
  // A prune in between finds each point under its policy.
  await store.retention.change((settings) => copyForName(settings, from, to));
  await store.renameAgent(from, to);
  await store.retention.change((settings) => leaveName(settings, from, to));
  await tenants.rename(from, to);
  await rounds.renameAgent(from, to);
  await renameQuota(dir, from, to);
  await rm(renamingPath(dir), { force: true });
  await syncDirectory(receiverDirectory(dir));
}

/** For a command that has the store for itself. The store stays the caller's to close. */
export async function openAgentAdmin(
  dir: string,
  store: Store,
  rounds: RoundsSource,
  onProblem: (reason: string) => void,
): Promise<{ readonly commands: AgentCommands; close(): Promise<void> }> {
  const trail = new Trail(new AuditLog({ dir }));
  const tenants = await Tenants.open(dir, await readAuthority(dir), onProblem);
  const service = await ReceiverService.open(store, { trail });
  const parts = { dir, store, rounds, tenants, trail, service, onProblem };
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
