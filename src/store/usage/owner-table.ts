/**
 * Which devices need a record: of all records, or of a fixed part of them that their digests choose, so that
 * the memory is bounded whatever the store's size. Digests are uniform, so such a part is a fair sample.
 *
 * State of a record: needed by one device; by several of one agent; by several agents. It only moves to the
 * right.
 *
 * A slot has 20 bytes; there are 2^22 of them at most (80 MiB), at most half of them in use.
 */
const SLOTS_MAX = 2 ** 22;
const SLOTS_MIN = 2 ** 12;
/** In `#owner`: the device's number, or the agent's with this bit, or SHARED. 0: a free slot. */
const AGENT_BIT = 2 ** 31;
const SHARED = 0xffff_ffff;

/** Bytes that a group of records takes, and what an estimate of it needs. */
export interface Portion {
  readonly bytes: number;
  /** With 95 % probability the true number is within this of `bytes`; 0: it is exact. */
  readonly errorBytes: number;
}

export interface Ownership {
  /** By device number, as given to `add`: needed by it alone. */
  readonly ofDevice: ReadonlyMap<number, Portion>;
  /** By agent number: needed by several of its devices, and by no other agent. */
  readonly ofAgent: ReadonlyMap<number, Portion>;
  readonly ofSeveralAgents: Portion;
  readonly total: Portion;
}

class Sum {
  #bytes = 0;
  #squares = 0;

  add(bytes: number): void {
    this.#bytes += bytes;
    this.#squares += bytes * bytes;
  }

  /** @param scale one of so many records is counted (Horvitz and Thompson 1952) */
  portion(scale: number): Portion {
    const variance = scale * (scale - 1) * this.#squares;
    return { bytes: Math.round(this.#bytes * scale), errorBytes: Math.ceil(1.96 * Math.sqrt(variance)) };
  }
}

export class OwnerTable {
  /** One of so many records is counted. */
  readonly scale: number;
  readonly #keys: Uint32Array;
  readonly #owner: Uint32Array;
  readonly #bytes: Float64Array;
  readonly #slotMask: number;
  #used = 0;

  /** @param recordCount that the store has, about */
  constructor(recordCount: number, slotsMax: number = SLOTS_MAX) {
    let slots = SLOTS_MIN;
    while (slots < recordCount * 2 && slots < slotsMax) slots *= 2;
    let scale = 1;
    while (recordCount / scale > slots / 2) scale *= 2;
    this.scale = scale;
    this.#slotMask = slots - 1;
    this.#keys = new Uint32Array(slots * 2);
    this.#owner = new Uint32Array(slots);
    this.#bytes = new Float64Array(slots);
  }

  /** Whether a record is one of those that are counted. */
  counts(digests: Uint8Array, at: number): boolean {
    return this.scale === 1 || wordAt(digests, at) % this.scale === 0;
  }

  /**
   * Of a record that counts.
   * @param device from 1
   * @param agent from 1
   * @param agentOf of a device that was given before
   * @param bytesOf asked once for each record
   */
  add(
    digests: Uint8Array,
    at: number,
    { device, agent }: { readonly device: number; readonly agent: number },
    agentOf: (device: number) => number,
    bytesOf: () => number,
  ): void {
    const [low, high] = [wordAt(digests, at + 8), wordAt(digests, at + 12)];
    let slot = wordAt(digests, at + 4) & this.#slotMask;
    for (; ; slot = (slot + 1) & this.#slotMask) {
      const owner = this.#owner[slot] ?? 0;
      if (owner === 0) break;
      if (this.#keys[2 * slot] !== low || this.#keys[2 * slot + 1] !== high) continue;
      if (owner === SHARED || owner === device) return;
      const ownerAgent = owner >= AGENT_BIT ? owner - AGENT_BIT : agentOf(owner);
      this.#owner[slot] = ownerAgent === agent ? AGENT_BIT + agent : SHARED;
      return;
    }
    // The store got many more records since they were counted: one slot must stay free.
    if (this.#used >= this.#slotMask) throw new Error('there are more records than expected');
    this.#used += 1;
    this.#keys[2 * slot] = low;
    this.#keys[2 * slot + 1] = high;
    this.#owner[slot] = device;
    this.#bytes[slot] = bytesOf();
  }

  result(): Ownership {
    const [devices, agents] = [new Map<number, Sum>(), new Map<number, Sum>()];
    const [several, total] = [new Sum(), new Sum()];
    for (let slot = 0; slot <= this.#slotMask; slot += 1) {
      const owner = this.#owner[slot] ?? 0;
      if (owner === 0) continue;
      const bytes = this.#bytes[slot] ?? 0;
      total.add(bytes);
      if (owner === SHARED) several.add(bytes);
      else if (owner >= AGENT_BIT) sumOf(agents, owner - AGENT_BIT).add(bytes);
      else sumOf(devices, owner).add(bytes);
    }
    const portions = (sums: ReadonlyMap<number, Sum>) =>
      new Map([...sums].map(([number, sum]) => [number, sum.portion(this.scale)] as const));
    return {
      ofDevice: portions(devices),
      ofAgent: portions(agents),
      ofSeveralAgents: several.portion(this.scale),
      total: total.portion(this.scale),
    };
  }
}

function sumOf(sums: Map<number, Sum>, number: number): Sum {
  const known = sums.get(number) ?? new Sum();
  sums.set(number, known);
  return known;
}

function wordAt(bytes: Uint8Array, at: number): number {
  return (
    ((bytes[at] ?? 0) |
      ((bytes[at + 1] ?? 0) << 8) |
      ((bytes[at + 2] ?? 0) << 16) |
      ((bytes[at + 3] ?? 0) << 24)) >>>
    0
  );
}
