/**
 * What differs between a kept snapshot and the one just taken, without reading either: of thick volumes from
 * the exception store of the kept one, of thin ones from the metadata of their pool.
 */
import type { BlockRange } from '../../../domain/blocks/block-ranges.js';
import { BlockSet } from '../../../domain/blocks/block-set.js';
import {
  areaOffset,
  BadStore,
  parseArea,
  parseStoreHeader,
  STORE_HEADER_BYTES,
  scaledRange,
} from '../../../domain/volume/exception-store.js';
import { BadDelta, parseThinDelta } from '../../../domain/volume/thin-delta.js';
import { native } from '../../../native/index.js';
import { CommandError, type LvmHost } from './host.js';
import { lockPool } from './locks.js';
import { poolDevice, poolStatus, thickStatus } from './status.js';
import type { OurSnapshot, Volume, VolumeState } from './volumes.js';

/** Why the differences are not known, a clause. */
export class Unknown extends Error {}

export interface Sizes {
  readonly sizeBytes: number;
  readonly blockSize: number;
}

/** How long another session may hold the metadata of the pool. */
const POOL_WAIT_MS = 30_000;
/** `thin_delta` reads only metadata, but of a large pool these are gigabytes. */
const DELTA_DEADLINE_MS = 600_000;

/**
 * @param after the new snapshot, whose instant has passed.
 * @returns blocks, ascending, apart. @throws Unknown
 */
export async function changesSince(
  host: LvmHost,
  state: VolumeState,
  before: OurSnapshot,
  after: Volume,
  sizes: Sizes,
): Promise<BlockRange[]> {
  const blocks = new BlockSet();
  for (const range of before.extra) blocks.addRange(scaledRange(range, 1, sizes));
  try {
    if (after.thin === null) await addExceptions(host, before.volume, sizes, blocks);
    else await addDelta(host, state, [before.volume, after], sizes, blocks);
  } catch (error) {
    if (error instanceof BadStore) throw new Unknown(`the kept snapshot is of no use: ${error.message}`);
    if (error instanceof BadDelta) throw new Unknown(`what thin_delta says is of no use: ${error.message}`);
    if (error instanceof CommandError)
      throw new Unknown(
        error.isMissing && error.program === 'thin_delta'
          ? 'thin_delta is not installed (package thin-provisioning-tools)'
          : error.message,
      );
    throw error;
  }
  return [...blocks.ranges()];
}

/** The kernel writes entries past the page cache, so they are read past it, too. */
async function addExceptions(host: LvmHost, before: Volume, sizes: Sizes, blocks: BlockSet): Promise<void> {
  const store = await native.openDevice(`${before.devicePath}-cow`);
  try {
    const headerBytes = Math.max(STORE_HEADER_BYTES, store.logicalSectorSize);
    const header = await store.read(0, Math.min(headerBytes, store.sizeBytes));
    const shape = parseStoreHeader(header, sizes.sizeBytes, store.sizeBytes);
    for (let index = 0; ; index += 1) {
      const offset = areaOffset(shape, index);
      if (offset === null) break;
      const { chunks, isFull } = parseArea(await store.read(offset, shape.chunkBytes), shape);
      for (const chunk of chunks) blocks.addRange(scaledRange([chunk, chunk + 1], shape.chunkBytes, sizes));
      if (!isFull) break;
    }
  } finally {
    await store.close();
  }
  // One that overflowed meanwhile lets writes through without an entry.
  const status = await thickStatus(host, before.devicePath);
  if (typeof status === 'string') throw new BadStore(`device mapper says "${status}"`);
}

async function addDelta(
  host: LvmHost,
  { pool, poolMetadataPath }: VolumeState,
  [before, after]: readonly [Volume, Volume],
  sizes: Sizes,
  blocks: BlockSet,
): Promise<void> {
  if (pool === null || poolMetadataPath === null || before.thin === null || after.thin === null)
    throw new Unknown('LVM does not show the metadata of its pool');
  const [left, right] = [before.thin.id, after.thin.id];
  const text = await withHeldMetadata(host, pool, () =>
    host.run(
      'thin_delta',
      ['--metadata-snap', '--snap1', String(left), '--snap2', String(right), poolMetadataPath],
      { deadlineMs: DELTA_DEADLINE_MS },
    ),
  );
  const delta = parseThinDelta(text, { before: left, after: right, sizeBytes: sizes.sizeBytes });
  for (const range of delta.ranges) blocks.addRange(scaledRange(range, delta.blockBytes, sizes));
}

async function withHeldMetadata<Result>(
  host: LvmHost,
  pool: Volume,
  work: () => Promise<Result>,
): Promise<Result> {
  const lock = await lockPool(host, pool.uuid, POOL_WAIT_MS);
  if (lock === null) throw new Unknown('another backup reads the metadata of its pool');
  const message = (text: string): Promise<string> =>
    host.run('dmsetup', ['message', poolDevice(pool.devicePath), '0', text]);
  try {
    const status = await poolStatus(host, pool.devicePath, pool.sizeBytes);
    if (typeof status !== 'string' && status.isHeld)
      throw new Unknown('another program holds the metadata of its pool');
    await message('reserve_metadata_snap');
    try {
      return await work();
    } finally {
      await message('release_metadata_snap');
    }
  } finally {
    await lock.close();
  }
}

/** What a session that died had held. Only after one of this volume that may have held it. */
export async function releaseMetadata(host: LvmHost, pool: Volume): Promise<void> {
  const lock = await lockPool(host, pool.uuid, POOL_WAIT_MS);
  if (lock === null) return;
  try {
    const status = await poolStatus(host, pool.devicePath, pool.sizeBytes);
    if (typeof status === 'string' || !status.isHeld) return;
    await host.run('dmsetup', ['message', poolDevice(pool.devicePath), '0', 'release_metadata_snap']);
  } finally {
    await lock.close();
  }
}
