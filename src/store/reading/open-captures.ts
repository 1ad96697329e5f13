/**
 * The open sessions, from their files alone. An owner may be writing to them, so a session whose files vanish
 * meanwhile is ignored.
 */
import { join } from 'node:path';
import { isStillpointError } from '../../domain/base/errors.js';
import { isHexId } from '../../domain/base/names.js';
import { type Digester, native } from '../../native/index.js';
import { LogReader, NO_PACK } from '../capture/log.js';
import type { OpenCapture } from '../capture/partial-sets.js';
import { packEndsSeamlessly } from '../capture/recovery.js';
import { type Disk, errnoOf, readSmallFile } from '../disk/disk.js';
import { CAPTURE_DESCRIPTION, CAPTURE_DIR, CAPTURE_LOG, packKey, stagingPackName } from '../disk/layout.js';
import type { ObjectStore } from '../objects/object-store.js';
import { PACK_ENTRY_BYTES, PACK_FOOTER_BYTES, PACK_HEADER_BYTES, packEntryCount } from '../packs/entries.js';
import { decodeDescription, MANIFEST_BYTES_MAX } from '../points/manifest.js';
import type { CaptureDescription } from '../port/store.js';

export interface CapturesContext {
  readonly disk: Disk;
  /** Root of the store. */
  readonly dir: string;
  readonly objects: ObjectStore;
  readonly digester: Digester;
  readonly now: () => Date;
}

interface LoggedPack {
  readonly packId: string;
  /** Of the session's durable records. */
  readonly end: number;
}

/** Those that can be read. @param isPoint true for a session that is committed */
export async function openCaptures(
  context: CapturesContext,
  isPoint: (sessionId: string) => boolean,
): Promise<OpenCapture[]> {
  const found: OpenCapture[] = [];
  for (const sessionId of await sessionIds(context)) {
    if (isPoint(sessionId)) continue;
    const description = await readDescription(context, sessionId).catch(() => null);
    if (description !== null) found.push(await describe(context, description));
  }
  return found;
}

/**
 * For verify: what is wrong with their files. Records after the last one that is logged are of a batch
 * that was not acknowledged.
 */
export async function checkCaptures(context: CapturesContext): Promise<{ what: string; reason: string }[]> {
  const findings: { what: string; reason: string }[] = [];
  for (const sessionId of await sessionIds(context)) {
    const what = `${CAPTURE_DIR}/${sessionId}`;
    try {
      if ((await readDescription(context, sessionId)) === null) continue;
      for (const { packId, end } of (await readLog(context, sessionId)).packs) {
        const path = join(context.dir, what, stagingPackName(packId));
        const pack = await unlessGone(() => native.salvagePack(path, context.digester));
        if (pack === null || (pack.packId === packId && packEndsSeamlessly(pack, end))) continue;
        findings.push({ what, reason: `${stagingPackName(packId)}: a record of it is damaged` });
      }
    } catch (error) {
      if (isStillpointError(error, 'version')) continue;
      findings.push({ what, reason: error instanceof Error ? error.message : String(error) });
    }
  }
  return findings;
}

async function sessionIds({ disk, dir }: CapturesContext): Promise<string[]> {
  const entries = await disk.list(join(dir, CAPTURE_DIR));
  return entries.filter(({ name, isDirectory }) => isDirectory && isHexId(name)).map(({ name }) => name);
}

/** Null for what has none: debris. */
async function readDescription(
  { disk, dir }: CapturesContext,
  sessionId: string,
): Promise<CaptureDescription | null> {
  const path = join(dir, CAPTURE_DIR, sessionId, CAPTURE_DESCRIPTION);
  const bytes = await unlessGone(() => readSmallFile(disk, path, MANIFEST_BYTES_MAX));
  return bytes === null ? null : decodeDescription(bytes, sessionId, path);
}

async function describe(context: CapturesContext, description: CaptureDescription): Promise<OpenCapture> {
  const { sessionId, begunAt } = description;
  const { packs, lastBatchMs } = await readLog(context, sessionId);
  let durableBytes = 0;
  for (const pack of packs) durableBytes += await storedBytes(context, sessionId, pack);
  const begunMs = begunAt === undefined ? context.now().getTime() : Date.parse(begunAt);
  return { description, durableBytes, lastActivityAt: new Date(lastBatchMs > 0 ? lastBatchMs : begunMs) };
}

async function readLog(
  { disk, dir }: CapturesContext,
  sessionId: string,
): Promise<{ readonly packs: readonly LoggedPack[]; readonly lastBatchMs: number }> {
  const ends = new Map<string, number>();
  let lastBatchMs = 0;
  const file = await unlessGone(() => disk.open(join(dir, CAPTURE_DIR, sessionId, CAPTURE_LOG), 'read'));
  if (file === null) return { packs: [], lastBatchMs };
  try {
    for await (const { packId, packEnd, writtenAtS } of new LogReader(file, sessionId).records()) {
      lastBatchMs = writtenAtS * 1000;
      if (packId !== NO_PACK) ends.set(packId, packEnd);
    }
  } finally {
    await file.close();
  }
  return { packs: [...ends].map(([packId, end]) => ({ packId, end })), lastBatchMs };
}

/** As the capture's owner counts them: records and their entries. */
async function storedBytes(
  { dir, objects, digester }: CapturesContext,
  sessionId: string,
  { packId, end }: LoggedPack,
): Promise<number> {
  const path = join(dir, CAPTURE_DIR, sessionId, stagingPackName(packId));
  const staged = await unlessGone(() => native.salvagePack(path, digester)).catch(() => undefined);
  if (staged === null) {
    const sizeBytes = await objects.size(packKey(packId));
    return sizeBytes === null ? 0 : sizeBytes - PACK_HEADER_BYTES - PACK_FOOTER_BYTES;
  }
  const recordCount = staged === undefined ? 0 : packEntryCount(staged.entries);
  return end - PACK_HEADER_BYTES + recordCount * PACK_ENTRY_BYTES;
}

async function unlessGone<T>(read: () => Promise<T>): Promise<T | null> {
  try {
    return await read();
  } catch (error) {
    if (errnoOf(error) === 'ENOENT') return null;
    throw error;
  }
}
