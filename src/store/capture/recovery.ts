/**
 * Recovers a capture after a crash or a failed write: the log's valid prefix says what is durable; packs are
 * cut to it, and the overlay is rebuilt from it.
 */
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import { ENTRY_PAYLOAD, ENTRY_ZERO, type LeafOverlay, native, type PackIndex } from '../../native/index.js';
import { type DiskFile, readSmallFile } from '../disk/disk.js';
import {
  CAPTURE_DESCRIPTION,
  CAPTURE_LOG,
  CAPTURE_OVERLAY,
  packKey,
  stagingPackIdOf,
  stagingPackName,
} from '../disk/layout.js';
import { readPackEntries } from '../packs/contents.js';
import {
  decodePackEntry,
  PACK_ENTRY_BYTES,
  PACK_FOOTER_BYTES,
  PACK_HEADER_BYTES,
  packEntryCount,
  RECORD_HEADER_BYTES,
  readUint64LE,
} from '../packs/entries.js';
import { PackWriter } from '../packs/writer.js';
import { decodeDescription, MANIFEST_BYTES_MAX } from '../points/manifest.js';
import type { CaptureDescription } from '../port/store.js';
import type { StagingContext } from './context.js';
import { blockEndOf, LogReader, NO_PACK } from './log.js';
import { CaptureStaging, captureDir, createOverlay, publishPack } from './staging.js';

const { batchHeaderBytes, batchEntryBytes } = native.constants;
/** Leaves put into an overlay at once when a zero run is replayed. */
const ZERO_LEAVES = Buffer.alloc(65_536 * DIGEST_BYTES);

/**
 * @throws StillpointError `store-damaged` if the log names bytes that are lost: the capture is then of no use
 */
export async function recoverStaging(
  context: StagingContext,
  description: CaptureDescription,
): Promise<CaptureStaging> {
  const { disk, index } = context;
  const dir = captureDir(context, description.sessionId);
  const deviceNumber = await index.deviceNumber(description);
  await disk.remove(join(dir, CAPTURE_OVERLAY));
  const log = await disk.open(join(dir, CAPTURE_LOG), 'append');
  let overlay: LeafOverlay | null = null;
  try {
    overlay = await createOverlay(dir, description);
    const { packEnds, ...durable } = await replay(context, description, deviceNumber, log, overlay);
    const { pack, storedBytes } = await recoverPacks(context, description, packEnds);
    const parts = { log, overlay, pack, ...durable, storedBytes, packIds: packEnds.keys() };
    return new CaptureStaging(context, description, deviceNumber, parts);
  } catch (error) {
    await log.close();
    await overlay?.close();
    throw error;
  }
}

interface Durable {
  readonly durableSequence: number;
  readonly durableBlockEnd: number;
  readonly lastBatchMs: number;
  readonly packEnds: ReadonlyMap<string, number>;
}

/** Reads the log, cuts what is not valid, and does what its batches did to overlay and index. */
async function replay(
  context: StagingContext,
  description: CaptureDescription,
  deviceNumber: number,
  log: DiskFile,
  overlay: LeafOverlay,
): Promise<Durable> {
  const reader = new LogReader(log, description.sessionId);
  const packEnds = new Map<string, number>();
  let durableSequence = 0;
  let durableBlockEnd = 0;
  let lastBatchMs = 0;
  for await (const { sequence, writtenAtS, packId, packEnd, head } of reader.records()) {
    durableSequence = sequence;
    durableBlockEnd = Math.max(durableBlockEnd, blockEndOf(head));
    lastBatchMs = writtenAtS * 1000;
    if (packId !== NO_PACK) packEnds.set(packId, packEnd);
    const payloads = replayEntries(head, overlay);
    await context.index.hold(deviceNumber, payloads);
  }
  if (reader.failure !== null) {
    context.log(`log of session ${description.sessionId}: cut at byte ${reader.end}: ${reader.failure}`);
    await log.truncate(reader.end);
    await log.sync();
  }
  return { durableSequence, durableBlockEnd, lastBatchMs, packEnds };
}

/** @returns digests of the payload entries */
function replayEntries(head: Buffer, overlay: LeafOverlay): Buffer {
  const payloads: Buffer[] = [];
  let runStart = -1;
  let run: Buffer[] = [];
  const flush = () => {
    if (run.length > 0) overlay.put(runStart, Buffer.concat(run));
    run = [];
  };
  for (let at = batchHeaderBytes; at < head.length; at += batchEntryBytes) {
    const blockIndex = readUint64LE(head, at);
    const kind = head[at + 12];
    const digest = head.subarray(at + 16, at + 16 + DIGEST_BYTES);
    if (kind === ENTRY_ZERO) {
      flush();
      putZeros(overlay, blockIndex, head.readUInt32LE(at + 8));
      continue;
    }
    if (kind === ENTRY_PAYLOAD) payloads.push(digest);
    if (blockIndex !== runStart + run.length) {
      flush();
      runStart = blockIndex;
    }
    run.push(digest);
  }
  flush();
  return Buffer.concat(payloads);
}

function putZeros(overlay: LeafOverlay, blockIndex: number, count: number): void {
  const most = ZERO_LEAVES.length / DIGEST_BYTES;
  for (let done = 0; done < count; done += most) {
    overlay.put(blockIndex + done, ZERO_LEAVES.subarray(0, Math.min(most, count - done) * DIGEST_BYTES));
  }
}

/**
 * The session's packs, by the log: published ones are seen to be indexed, the last staged one goes
 * on, others are published.
 */
async function recoverPacks(
  context: StagingContext,
  description: CaptureDescription,
  packEnds: ReadonlyMap<string, number>,
): Promise<{ pack: PackWriter | null; storedBytes: number }> {
  const { disk, objects, index } = context;
  const dir = captureDir(context, description.sessionId);
  const staged = new Set<string>();
  for (const { name } of await disk.list(dir)) {
    const packId = stagingPackIdOf(name);
    if (packId === null) continue;
    if (packEnds.has(packId)) staged.add(packId);
    else await disk.remove(join(dir, name));
  }
  let storedBytes = 0;
  const lastPackId = [...packEnds.keys()].at(-1);
  for (const [packId, end] of packEnds) {
    if (staged.has(packId)) {
      const pack = await reopenPack(context, description, packId, end);
      storedBytes += end - PACK_HEADER_BYTES + pack.recordCount * PACK_ENTRY_BYTES;
      // The log names no later pack, so this one goes on.
      if (packId === lastPackId) return { pack, storedBytes };
      await publishPack(context, pack, await index.deviceNumber(description));
      continue;
    }
    const sizeBytes = await objects.size(packKey(packId));
    if (sizeBytes === null) throw lostBytes(description, `pack ${packId} is gone`);
    if (!index.hasPack(packId)) {
      const { entries, salvaged } = await readPackEntries(objects, packId, context.digester);
      await index.addPack(packId, sizeBytes, entries, { salvaged: salvaged !== null });
    }
    storedBytes += sizeBytes - PACK_HEADER_BYTES - PACK_FOOTER_BYTES;
  }
  return { pack: null, storedBytes };
}

async function reopenPack(
  context: StagingContext,
  description: CaptureDescription,
  packId: string,
  end: number,
): Promise<PackWriter> {
  const { disk } = context;
  const dir = captureDir(context, description.sessionId);
  const path = join(dir, stagingPackName(packId));
  const file = await disk.open(path, 'append');
  try {
    if ((await file.size()) < end)
      throw lostBytes(description, `pack ${packId} is shorter than the log says`);
    await file.truncate(end);
    await file.sync();
  } finally {
    await file.close();
  }
  const found = await native.salvagePack(path, context.digester);
  if (found.packId !== packId || !isSeamless(found, end)) {
    throw lostBytes(description, `a record of pack ${packId} is damaged`);
  }
  return PackWriter.reopen(disk, dir, found, end);
}

/** The packs that the log of a capture names, of one that can't be recovered too. */
export async function loggedPackIds(
  context: StagingContext,
  sessionId: string,
): Promise<ReadonlySet<string>> {
  const packIds = new Set<string>();
  const path = join(captureDir(context, sessionId), CAPTURE_LOG);
  if ((await context.disk.size(path)) === null) return packIds;
  const log = await context.disk.open(path, 'read');
  try {
    for await (const { packId } of new LogReader(log, sessionId).records()) {
      if (packId !== NO_PACK) packIds.add(packId);
    }
  } finally {
    await log.close();
  }
  return packIds;
}

/**
 * For verify: what is wrong with the files of an open capture, without changing them. Nothing
 * may be written meanwhile.
 */
export async function checkStaging(
  context: StagingContext,
  description: CaptureDescription,
  durableSequence: number,
): Promise<string[]> {
  const dir = captureDir(context, description.sessionId);
  const problems: string[] = [];
  const bytes = await readSmallFile(context.disk, join(dir, CAPTURE_DESCRIPTION), MANIFEST_BYTES_MAX);
  try {
    decodeDescription(bytes ?? Buffer.alloc(0), description.sessionId, CAPTURE_DESCRIPTION);
  } catch (error) {
    problems.push(error instanceof Error ? error.message : String(error));
  }
  const packEnds = new Map<string, number>();
  const log = await context.disk.open(join(dir, CAPTURE_LOG), 'read');
  try {
    const reader = new LogReader(log, description.sessionId);
    let sequence = 0;
    for await (const record of reader.records()) {
      sequence = record.sequence;
      if (record.packId !== NO_PACK) packEnds.set(record.packId, record.packEnd);
    }
    if (sequence < durableSequence)
      problems.push(`log: after byte ${reader.end} ${reader.failure ?? 'it ends'}`);
  } finally {
    await log.close();
  }
  for (const [packId, end] of packEnds) {
    const path = join(dir, stagingPackName(packId));
    if ((await context.disk.size(path)) === null) continue;
    const found = await native.salvagePack(path, context.digester);
    if (found.packId !== packId || !isSeamless(found, end))
      problems.push(`${stagingPackName(packId)}: a record of it is damaged`);
  }
  return problems;
}

/** True if the records that were found fill the pack from its header to `end`, whatever comes after that. */
export function packEndsSeamlessly({ entries }: PackIndex, end: number): boolean {
  let next = PACK_HEADER_BYTES;
  for (let i = 0; i < packEntryCount(entries) && next < end; i += 1) {
    const { offset, storedLength } = decodePackEntry(entries, i);
    if (offset !== next) return false;
    next = offset + RECORD_HEADER_BYTES + storedLength;
  }
  return next === end;
}

/** True if the records that were found fill the pack from its header to `end`. */
function isSeamless({ entries }: PackIndex, end: number): boolean {
  let next = PACK_HEADER_BYTES;
  for (let i = 0; i < packEntryCount(entries); i += 1) {
    const { offset, storedLength } = decodePackEntry(entries, i);
    if (offset !== next) return false;
    next = offset + RECORD_HEADER_BYTES + storedLength;
  }
  return next === end;
}

function lostBytes(description: CaptureDescription, reason: string): StillpointError {
  return new StillpointError('store-damaged', {
    thing: `session ${description.sessionId} of ${description.device}`,
    reason,
    remedy: 'It is discarded; its agent still has the data and begins another one.',
  });
}
