/**
 * Which records the points of each device need, found by a walk of all trees: what would become free if a
 * device or an agent were forgotten. Memory: the OwnerTable, one path of a tree.
 */
import { setImmediate } from 'node:timers/promises';
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import { type Point, treeOf } from '../../domain/point/point.js';
import { isNull, leafNodes } from '../../domain/tree/digest-tree.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import type { RecordIndex } from '../index/record-index.js';
import { PACK_ENTRY_BYTES, RECORD_HEADER_BYTES } from '../packs/entries.js';
import type { RecordReader } from '../records/record-reader.js';
import { OwnerTable, type Portion } from './owner-table.js';

/** Of 64 leaves, between two looks at the event loop. */
const NODES_PER_TURN = 64;
const NODES_PER_EVENT = 1024;

export interface DeviceNeeds {
  readonly agent: string;
  readonly device: string;
  /** Needed by no other device. */
  readonly unique: Portion;
}

export interface AgentNeeds {
  readonly agent: string;
  /** Needed by several devices of the agent, and by nobody else. */
  readonly shared: Portion;
  /** Needed by no other agent: that, and what each of its devices needs alone. */
  readonly unique: Portion;
}

/**
 * `total` is the sum of the agents' `unique` and of `sharedByAgents`; an agent's `unique` is the sum of its
 * `shared` and of its devices' `unique`. What the store has beyond it is
 * not needed by any point.
 */
export interface NeededBytes {
  readonly devices: readonly DeviceNeeds[];
  readonly agents: readonly AgentNeeds[];
  readonly sharedByAgents: Portion;
  readonly total: Portion;
  /** One of so many records was counted; 1: all, and the figures are exact. */
  readonly scale: number;
  /** Nodes that could not be read, and records that are nowhere: what is below them is not counted. */
  readonly lostCount: number;
}

export type NeededEvent =
  | { readonly type: 'progress'; readonly donePoints: number; readonly totalPoints: number }
  | ({ readonly type: 'needed' } & NeededBytes);

export interface NeededContext {
  readonly points: readonly Point[];
  readonly records: RecordReader;
  readonly index: Pick<RecordIndex, 'locate'>;
  /** About. */
  readonly recordCount: number;
  /** Only tests give it. */
  readonly slotsMax?: number;
}

/** @param points by agent, device, sequence */
export async function* neededBytes(context: NeededContext): AsyncGenerator<NeededEvent, void> {
  const { points } = context;
  const walk = new Walk(context);
  let donePoints = 0;
  let last: Point | null = null;
  for (const point of points) {
    const isSameDevice = last?.agent === point.agent && last.device === point.device;
    for await (const _ of walk.point(point, isSameDevice ? last : null)) {
      yield { type: 'progress', donePoints, totalPoints: points.length };
    }
    donePoints += 1;
    yield { type: 'progress', donePoints, totalPoints: points.length };
    last = point;
  }
  yield { type: 'needed', ...walk.result() };
}

const NOTHING: Portion = { bytes: 0, errorBytes: 0 };

class Walk {
  readonly #context: NeededContext;
  readonly #table: OwnerTable;
  /** By number, from 1. */
  readonly #devices: { agent: string; device: string; agentNumber: number }[] = [];
  readonly #agents: string[] = [];
  #lostCount = 0;

  constructor(context: NeededContext) {
    this.#context = context;
    this.#table = new OwnerTable(context.recordCount, context.slotsMax);
  }

  /**
   * Yields now and then.
   * @param walked a point of the same device, whose subtrees need not be walked again
   */
  async *point(point: Point, walked: Point | null): AsyncGenerator<void, void> {
    const { records } = this.#context;
    const owner = this.#ownerOf(point);
    const readNodes = async (digests: readonly Uint8Array[]) => {
      for (const digest of digests) this.#add(digest, 0, RECORD_KIND_NODE, owner);
      return records.readNodes(digests, () => {
        this.#lostCount += 1;
      });
    };
    let nodeCount = 0;
    for await (const { content } of leafNodes(treeOf(point), walked && treeOf(walked), readNodes)) {
      for (let at = 0; at < content.length; at += DIGEST_BYTES) {
        if (!isNull(content.subarray(at, at + DIGEST_BYTES)))
          this.#add(content, at, RECORD_KIND_BLOCK, owner);
      }
      nodeCount += 1;
      if (nodeCount % NODES_PER_TURN === 0) await setImmediate();
      if (nodeCount % NODES_PER_EVENT === 0) yield;
    }
  }

  #ownerOf({ agent, device }: Point): { readonly device: number; readonly agent: number } {
    if (this.#agents.at(-1) !== agent) this.#agents.push(agent);
    const agentNumber = this.#agents.length;
    const last = this.#devices.at(-1);
    if (last?.agent !== agent || last.device !== device) this.#devices.push({ agent, device, agentNumber });
    return { device: this.#devices.length, agent: agentNumber };
  }

  #add(digests: Uint8Array, at: number, kind: number, owner: { device: number; agent: number }): void {
    if (!this.#table.counts(digests, at)) return;
    this.#table.add(
      digests,
      at,
      owner,
      (device) => this.#devices[device - 1]?.agentNumber ?? 0,
      () => {
        const located = this.#context.index.locate(digests.subarray(at, at + DIGEST_BYTES), kind);
        if (located !== null) return RECORD_HEADER_BYTES + located.storedLength + PACK_ENTRY_BYTES;
        this.#lostCount += 1;
        return 0;
      },
    );
  }

  result(): NeededBytes {
    const { ofDevice, ofAgent, ofSeveralAgents, total } = this.#table.result();
    const devices = this.#devices.map(({ agent, device }, i) => ({
      ...{ agent, device },
      unique: ofDevice.get(i + 1) ?? NOTHING,
    }));
    return {
      devices,
      agents: this.#agents.map((agent, i) => {
        const shared = ofAgent.get(i + 1) ?? NOTHING;
        const own = devices.filter((device) => device.agent === agent).map(({ unique }) => unique);
        return { agent, shared, unique: sumOf([shared, ...own]) };
      }),
      sharedByAgents: ofSeveralAgents,
      total,
      scale: this.#table.scale,
      lostCount: this.#lostCount,
    };
  }
}

/** The errors of parts are independent, as no record is in two of them. */
function sumOf(parts: readonly Portion[]): Portion {
  return {
    bytes: parts.reduce((sum, { bytes }) => sum + bytes, 0),
    errorBytes: Math.ceil(Math.sqrt(parts.reduce((sum, { errorBytes }) => sum + errorBytes ** 2, 0))),
  };
}
