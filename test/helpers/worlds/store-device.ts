/**
 * A device in memory and its agent, as far as a store sees them: what tests back up, change and read back.
 */
import { randomBytes } from 'node:crypto';
import { BLOCKS_REQUEST_MAX } from '../../../src/domain/base/limits.js';
import { blockCount, blockLength, type Geometry } from '../../../src/domain/blocks/geometry.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import { decodeBlocks, encodeBlocks } from '../../../src/protocol/codecs/blocks-codec.js';
import type { Capture, CaptureDescription, Store } from '../../../src/store/port/store.js';
import { PLAIN } from '../bytes/digests.js';
import { type BatchItem, makeBatch } from '../bytes/hand-made-batch.js';
import { levelTree } from '../bytes/level-tree.js';

export interface DeviceState {
  readonly geometry: Geometry;
  /** Bytes of blocks; those that are not in it are zero. */
  readonly blocks: ReadonlyMap<number, Buffer>;
}

/** Leaf digests of the blocks that are not zero. */
export function leavesOf({ blocks }: DeviceState): Map<number, Buffer> {
  const leaves = new Map<number, Buffer>();
  for (const [blockIndex, bytes] of blocks) {
    if (!isZero(bytes)) leaves.set(blockIndex, PLAIN.leafDigest(bytes));
  }
  return leaves;
}

const zerosByLength = new Map<number, Buffer>();

/** The same buffer each time: tests compare with it often, and in JavaScript byte by byte takes long. */
function zeros(length: number): Buffer {
  const made = zerosByLength.get(length) ?? Buffer.alloc(length);
  zerosByLength.set(length, made);
  return made;
}

function isZero(bytes: Buffer): boolean {
  return bytes.equals(zeros(bytes.length));
}

export function rootOf(state: DeviceState): string {
  return levelTree(state.geometry, leavesOf(state)).root;
}

/** What a session from `before` to `after` sends. */
export function changesBetween(before: DeviceState | null, after: DeviceState): BatchItem[] {
  const items: BatchItem[] = [];
  for (let blockIndex = 0; blockIndex < blockCount(after.geometry); blockIndex += 1) {
    const bytes = after.blocks.get(blockIndex) ?? zeros(blockLength(after.geometry, blockIndex));
    const oldBytes = before?.blocks.get(blockIndex);
    if (oldBytes === undefined || isZero(oldBytes) ? isZero(bytes) : bytes.equals(oldBytes)) continue;
    items.push(isZero(bytes) ? { blockIndex, zeroCount: 1 } : { blockIndex, bytes });
  }
  return items;
}

export function describe(
  device: string,
  state: DeviceState,
  basePointId: string | null,
  sessionId = randomBytes(16).toString('hex'),
): CaptureDescription {
  return {
    agent: 'alpha',
    device,
    sessionId,
    geometry: state.geometry,
    identity: { type: 'image', path: '/images/disk.img', logicalSectorSize: 512 },
    basePointId,
  };
}

export function commitRequest(
  state: DeviceState,
  batchCount: number,
  changes: Partial<CommitRequest> = {},
): CommitRequest {
  return {
    root: rootOf(state),
    batchCount,
    statistics: { scannedBytes: state.geometry.sizeBytes, changedBytes: 0, wireBytes: 0, durationMs: 1 },
    badRanges: [],
    warnings: [],
    kind: 'idle',
    provider: 'offline',
    providerFacts: {},
    instant: '2026-01-02T03:04:05.000Z',
    ...changes,
  };
}

/** Sends the changes in batches of `perBatch` blocks, up to four at once. @returns how many batches */
export async function sendChanges(
  capture: Capture,
  items: readonly BatchItem[],
  perBatch = 8,
  from = 1,
): Promise<number> {
  let sequence = from - 1;
  let inFlight: Promise<unknown>[] = [];
  for (let at = 0; at < items.length; at += perBatch) {
    sequence += 1;
    const body = makeBatch(capture.description.sessionId, sequence, items.slice(at, at + perBatch));
    const sent = capture.append(sequence, body);
    sent.catch(() => undefined);
    inFlight.push(sent);
    if (inFlight.length === 4) {
      await Promise.all(inFlight);
      inFlight = [];
    }
  }
  await Promise.all(inFlight);
  return sequence;
}

/** A whole session: the difference between the device's last point, of state `before`, and `after`. */
export async function backUp(
  store: Store,
  device: string,
  before: DeviceState | null,
  after: DeviceState,
  perBatch = 8,
): Promise<Point> {
  const base = await store.baseFor({ agent: 'alpha', device });
  const capture = await store.createCapture(describe(device, after, base?.id ?? null));
  const items = changesBetween(base === null ? null : before, after);
  const batchCount = await sendChanges(capture, items, perBatch);
  return capture.commit(commitRequest(after, batchCount));
}

/**
 * What the store lends of the blocks, decoded, each proven to be the one of its record; and those that it
 * left for the next request.
 */
export function readBlocks(
  store: Store,
  point: Point,
  wanted: readonly number[],
): Promise<{ readonly blocks: Map<number, Buffer>; readonly rest: readonly number[] }> {
  return store.blocks(point, wanted, async (stored) => {
    const decoded = await decodeBlocks(await encodeBlocks(point.id, stored), point, PLAIN);
    return {
      blocks: new Map([...stored.blockIndexes].map((blockIndex, i) => [blockIndex, decoded[i] as Buffer])),
      rest: wanted.slice(decoded.length),
    };
  });
}

/**
 * All blocks of a point that its tree says are not zero, each proven against its leaf by the
 * native decoder's digest check.
 */
export async function readBack(store: Store, point: Point): Promise<Map<number, Buffer>> {
  const { geometry } = point;
  const leaves: number[] = [];
  const nodeCount = Math.ceil(blockCount(geometry) / 64);
  for (let node = 0; node < nodeCount; node += 1) {
    const [content = Buffer.alloc(0)] = await store.nodes(point, [{ level: 1, index: node }]);
    for (let i = 0; i * 32 < content.length; i += 1) {
      if (content.subarray(i * 32, i * 32 + 32).some((byte) => byte !== 0)) leaves.push(node * 64 + i);
    }
  }
  const blocks = new Map<number, Buffer>();
  while (leaves.length > 0) {
    const read = await readBlocks(store, point, leaves.splice(0, BLOCKS_REQUEST_MAX));
    for (const [blockIndex, bytes] of read.blocks) blocks.set(blockIndex, bytes);
    leaves.unshift(...read.rest);
  }
  return blocks;
}

/** True if the point holds exactly the state. */
export async function holds(store: Store, point: Point, state: DeviceState): Promise<boolean> {
  if (point.root !== rootOf(state)) return false;
  const read = await readBack(store, point);
  const expected = [...state.blocks].filter(([, bytes]) => !isZero(bytes));
  return (
    read.size === expected.length &&
    expected.every(([blockIndex, bytes]) => read.get(blockIndex)?.equals(bytes) === true)
  );
}

/** Blocks that compress a little and are all different, from a seed. */
export function stampedBlock(seed: number, length: number): Buffer {
  const bytes = Buffer.alloc(length, `seed ${seed} `);
  let state = seed * 2654435761 + 1;
  for (let at = 0; at < length; at += 7) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    bytes[at] = state >>> 24;
  }
  return bytes;
}

/** `state` with other blocks at `changed`: each a new seed, or null for zero. */
export function change(
  state: DeviceState,
  changed: Iterable<readonly [number, number | null]>,
  geometry = state.geometry,
): DeviceState {
  const blocks = new Map<number, Buffer>();
  for (const [blockIndex, bytes] of state.blocks) {
    if (blockIndex >= blockCount(geometry)) continue;
    const length = blockLength(geometry, blockIndex);
    blocks.set(blockIndex, Buffer.concat([bytes, Buffer.alloc(length)]).subarray(0, length));
  }
  for (const [blockIndex, seed] of changed) {
    if (seed === null) blocks.delete(blockIndex);
    else blocks.set(blockIndex, stampedBlock(seed, blockLength(geometry, blockIndex)));
  }
  return { geometry, blocks };
}

export function emptyState(geometry: Geometry): DeviceState {
  return { geometry, blocks: new Map() };
}
