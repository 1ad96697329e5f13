/**
 * What agents may take of a receiver: `DIR/receiver/quotas.json`. An agent's own settings come before those
 * for all, and these before the defaults (quota.ts).
 */
import { join } from 'node:path';
import { z } from 'zod';
import { readStateFile, type StateFormat, writeStateFile } from '../../config/state-file.js';
import { StillpointError } from '../../domain/base/errors.js';
import { QUOTA_BYTES_PER_SECOND_MIN, SESSIONS_PER_AGENT_MAX } from '../../domain/base/limits.js';
import { receiverDirectory } from './identity.js';
import { QUOTA_DEFAULT, type Quota, type QuotaChange } from './quota.js';

interface QuotaSettings {
  readonly default: QuotaChange;
  readonly agents: readonly ({ readonly agent: string } & QuotaChange)[];
}

const AGENTS_MAX = 4096;
const limit = z.int().min(1).nullable().optional();
const change = {
  storedBytes: limit,
  points: limit,
  devices: limit,
  sessions: z.int().min(1).max(SESSIONS_PER_AGENT_MAX).nullable().optional(),
  bytesPerSecond: z.int().min(QUOTA_BYTES_PER_SECOND_MIN).nullable().optional(),
  requestsPerSecond: limit,
};
const format: StateFormat<QuotaSettings> = {
  format: 'stillpoint-quotas',
  version: 1,
  schema: z.strictObject({
    default: z.strictObject(change),
    agents: z.array(z.strictObject({ agent: z.string().max(64), ...change })).max(AGENTS_MAX),
  }),
};

const quotasPath = (dir: string) => join(receiverDirectory(dir), 'quotas.json');
const NOTHING_SET: QuotaSettings = { default: {}, agents: [] };

async function readQuotas(dir: string): Promise<QuotaSettings> {
  return (await readStateFile(quotasPath(dir), format)) ?? NOTHING_SET;
}

function known(changes: QuotaChange): Partial<Quota> {
  return Object.fromEntries(Object.entries(changes).filter(([, value]) => value !== undefined));
}

/**
 * What is given is set, the rest stays; durable when it resolves.
 * @param agent null: for all that have no setting of their own
 * @param changes null: the settings go
 */
export async function writeQuota(
  dir: string,
  agent: string | null,
  changes: QuotaChange | null,
): Promise<void> {
  const present = await readQuotas(dir);
  const merged = (before: QuotaChange | undefined) =>
    changes === null ? {} : { ...known(before ?? {}), ...known(changes) };
  if (agent === null) {
    await writeStateFile(quotasPath(dir), format, { ...present, default: merged(present.default) });
    return;
  }
  const { agent: _, ...before } = present.agents.find((one) => one.agent === agent) ?? { agent };
  const others = present.agents.filter((one) => one.agent !== agent);
  const agents = changes === null ? others : [...others, { agent, ...merged(before) }];
  await writeStateFile(quotasPath(dir), format, { ...present, agents });
}

/** @throws StillpointError `usage` */
export function checkQuotaChange(changes: QuotaChange): void {
  const result = z.strictObject(change).safeParse(changes);
  const issue = result.error?.issues[0];
  if (issue === undefined) return;
  throw new StillpointError('usage', {
    thing: `quota of ${String(issue.path[0])}`,
    reason: issue.message.toLowerCase(),
    remedy: `At most ${SESSIONS_PER_AGENT_MAX} sessions and at least ${QUOTA_BYTES_PER_SECOND_MIN / 1024}K a second can be set.`,
  });
}

export async function renameQuota(dir: string, from: string, to: string): Promise<void> {
  const present = await readQuotas(dir);
  if (!present.agents.some(({ agent }) => agent === from)) return;
  const agents = present.agents.map((one) => (one.agent === from ? { ...one, agent: to } : one));
  await writeStateFile(quotasPath(dir), format, { ...present, agents });
}

export class Quotas {
  readonly #dir: string;
  #settings: QuotaSettings = NOTHING_SET;

  private constructor(dir: string) {
    this.#dir = dir;
  }

  static async load(dir: string): Promise<Quotas> {
    const quotas = new Quotas(dir);
    await quotas.reload();
    return quotas;
  }

  async reload(): Promise<void> {
    this.#settings = await readQuotas(this.#dir);
  }

  /** @param agent null: of agents without settings of their own */
  of(agent: string | null): Quota {
    const { default: forAll, agents } = this.#settings;
    const { agent: _, ...own } = agents.find((one) => one.agent === agent) ?? { agent };
    return { ...QUOTA_DEFAULT, ...known(forAll), ...known(own) };
  }

  /** Agents that have settings of their own. */
  names(): string[] {
    return this.#settings.agents.map(({ agent }) => agent).sort();
  }
}
