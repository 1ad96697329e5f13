/**
 * What agents may still take of the receiver (src/receiver/access/quota.ts): asked before each session,
 * batch and journal.
 *
 * State: of each agent, its bytes in the store, as they were counted last, and what was taken since.
 */
import { checkNamesApart } from '../../domain/point/group.js';
import type { DeviceKey, Store } from '../../store/port/store.js';
import { checkQuota, type QuotaUse } from '../access/quota.js';
import type { Quotas } from '../access/quotas.js';
import { type AgentUse, agentUse } from './agent-use.js';

export class Admission {
  readonly #store: Store;
  /** Null: agents may take all that there is. */
  readonly #quotas: Quotas | null;
  readonly #openDevices: () => readonly DeviceKey[];
  /** By agent. */
  readonly #storedBytes = new Map<string, number>();

  /** @param openDevices of sessions that are open, or are being made */
  constructor(store: Store, quotas: Quotas | null, openDevices: () => readonly DeviceKey[]) {
    this.#store = store;
    this.#quotas = quotas;
    this.#openDevices = openDevices;
  }

  /**
   * Before a session.
   * @param open devices of other sessions
   * @param sessions how many more there will be
   * @throws StillpointError `quota`
   */
  async session({ agent, device }: DeviceKey, open: readonly DeviceKey[], sessions: number): Promise<void> {
    if (this.#quotas === null) return;
    const { used, names } = await this.#use(agent, open);
    const more = { points: 1, sessions, storedBytes: 1, devices: names.has(device) ? 0 : 1 };
    checkQuota(agent, this.#quotas.of(agent), used, more);
  }

  /** Before a journal. @throws StillpointError `quota`, `bad-name` */
  async journal({ agent, device }: DeviceKey): Promise<void> {
    const points = await this.#store.points({ agent });
    // A device that has points has its name.
    if (!points.some((point) => point.device === device)) checkNamesApart(points, { device });
    if (this.#quotas === null) return;
    const { used, names } = await this.#use(agent, this.#openDevices());
    checkQuota(agent, this.#quotas.of(agent), used, { storedBytes: 1, devices: names.has(device) ? 0 : 1 });
  }

  /** Before so many bytes of a batch or a journal are taken. @throws StillpointError `quota` */
  async bytes(agent: string, bytes: number): Promise<void> {
    const most = this.#quotas?.of(agent).storedBytes ?? null;
    if (this.#quotas === null || most === null) return;
    const known = this.#storedBytes.get(agent);
    if (known === undefined || known + bytes > most) {
      // What was sent again, or ended without being kept, was counted too.
      const used = await this.use(agent);
      checkQuota(agent, this.#quotas.of(agent), used, { storedBytes: bytes });
    }
    this.#storedBytes.set(agent, (this.#storedBytes.get(agent) ?? 0) + bytes);
  }

  /** What an agent has taken of the receiver. */
  async use(agent: string): Promise<QuotaUse> {
    return (await this.#use(agent, this.#openDevices())).used;
  }

  async #use(agent: string, open: readonly DeviceKey[]): Promise<AgentUse> {
    const use = await agentUse(this.#store, agent, open);
    this.#storedBytes.set(agent, use.used.storedBytes);
    return use;
  }
}
