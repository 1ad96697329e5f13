/**
 * Reads packs back, those first that were not for the longest time, and tells damage as a verification does.
 * An interrupted one needs no continuation: the next one begins with what is waiting the longest.
 *
 * Collections go on beside it: they are held back for one pack at a time. A pack that they remove leaves the
 * index first, so one that is gone while the index has it is damage.
 *
 * Memory: the list of packs, one pack's index, and the findings, bounded.
 */
import { DIGEST_BYTES } from '../../domain/base/limits.js';
import { type Point, treeOf } from '../../domain/point/point.js';
import { byWaiting, percentBytes, type QueuedPack } from '../../domain/scrub/queue.js';
import type { VerifyEvent } from '../../domain/session/messages.js';
import { leafNodes } from '../../domain/tree/digest-tree.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import type { ScrubRequest } from '../port/upkeep.js';
import { readCheckedNodes } from '../records/checked-records.js';
import type { ScrubBook } from './scrub-book.js';
import type { ScrubPace } from './scrub-pace.js';
import { Verification, type VerifyContext } from './verify.js';

export interface ScrubContext extends VerifyContext {
  readonly book: ScrubBook;
  readonly pace: ScrubPace;
  readonly now: () => Date;
  /** All points now; by device, then sequence. */
  readonly points: () => readonly Point[];
  /** No pack is removed during this work. */
  readonly withoutRemoval: <T>(work: () => Promise<T>) => Promise<T>;
  /** Damage that is known now goes into the book. True if there is more. */
  readonly noteDamage: () => boolean;
  /** Manifests and the like are looked at, too. */
  readonly looksAtFiles: boolean;
}

export async function* scrub(
  context: ScrubContext,
  request: ScrubRequest,
): AsyncGenerator<VerifyEvent, void> {
  const { book, index, pace, withoutRemoval, noteDamage } = context;
  const verification = new Verification(context);
  if (context.looksAtFiles)
    await verification.otherFiles(context.points(), (...read) => paced(pace, ...read));
  const { packs, totalBytes } = await chosen(context, request);
  let doneBytes = 0;
  try {
    for (const { packId, sizeBytes } of packs) {
      await pace.before(sizeBytes);
      const startMs = performance.now();
      await withoutRemoval(async () => {
        // Collected meanwhile.
        if (!index.packs().has(packId)) return;
        await verification.pack(packId);
        book.checked(packId);
      });
      doneBytes += sizeBytes;
      await book.save({ now: noteDamage() });
      yield { type: 'progress', doneBytes, totalBytes };
      await pace.after(performance.now() - startMs);
    }
    // A whole one also says which blocks are in no pack.
    if (verification.hasFindings || isWhole(request)) {
      for await (const _ of verification.locate(context.points(), withoutRemoval)) {
        pace.throwIfStopped();
        yield { type: 'progress', doneBytes: totalBytes, totalBytes };
      }
    }
    yield* verification.end(context.points());
  } finally {
    noteDamage();
    await book.save({ now: true });
  }
}

function isWhole({ olderThanMs, percent, maxBytes, of }: ScrubRequest): boolean {
  return olderThanMs === undefined && percent === undefined && maxBytes === undefined && of === undefined;
}

interface Chosen {
  readonly packs: readonly QueuedPack[];
  readonly totalBytes: number;
}

async function chosen(context: ScrubContext, request: ScrubRequest): Promise<Chosen> {
  const { book, index, now } = context;
  const { olderThanMs, percent, maxBytes = Number.POSITIVE_INFINITY, of } = request;
  book.notice(index.packs());
  let queue = byWaiting(book.queue(index.packs()));
  const storedBytes = bytesOf(queue);
  if (of !== undefined) {
    const wanted = await packsOf(context, pointsOf(context.points(), of));
    queue = queue.filter(({ packId }) => wanted.has(packId));
  }
  let quotaBytes = maxBytes;
  if (percent !== undefined && of === undefined) {
    quotaBytes = Math.min(quotaBytes, percentBytes(percent, storedBytes, book.totals));
    book.addTotal(storedBytes);
  } else if (percent !== undefined) {
    quotaBytes = Math.min(quotaBytes, percentBytes(percent, bytesOf(queue), []));
  }
  if (olderThanMs !== undefined) {
    const before = now().getTime() - olderThanMs;
    queue = queue.filter(({ sinceMs }) => sinceMs <= before);
  }
  let takenBytes = 0;
  const packs = queue.filter(({ sizeBytes }) => {
    if (takenBytes >= quotaBytes) return false;
    takenBytes += sizeBytes;
    return true;
  });
  return { packs, totalBytes: takenBytes };
}

function bytesOf(packs: readonly QueuedPack[]): number {
  return packs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
}

function pointsOf(points: readonly Point[], of: NonNullable<ScrubRequest['of']>): Point[] {
  return points.filter(
    ({ agent, device, id }) =>
      (of.agent ?? agent) === agent && (of.device ?? device) === device && (of.pointId ?? id) === id,
  );
}

/**
 * Packs that hold trees and blocks of the points. What can't be found is found out by their own
 * verification.
 */
async function packsOf(context: ScrubContext, points: readonly Point[]): Promise<ReadonlySet<string>> {
  const { index, records, pace } = context;
  const packIds = new Set<string>();
  const add = (digest: Uint8Array, kind: number) => {
    const at = index.locate(digest, kind);
    if (at !== null) packIds.add(at.packId);
  };
  const readNodes = async (digests: readonly Uint8Array[]) => {
    pace.throwIfStopped();
    for (const digest of digests) add(digest, RECORD_KIND_NODE);
    const results = await readCheckedNodes(
      records,
      digests.map((digest) => Buffer.from(digest)),
    );
    return results.map((result) => ('record' in result ? result.record : null));
  };
  for (const [i, point] of points.entries()) {
    const earlier = points[i - 1];
    const isSameDevice = earlier?.agent === point.agent && earlier.device === point.device;
    const unlike = isSameDevice && earlier !== undefined ? treeOf(earlier) : null;
    for await (const { content } of leafNodes(treeOf(point), unlike, readNodes)) {
      for (let at = 0; at < content.length; at += DIGEST_BYTES)
        add(content.subarray(at, at + DIGEST_BYTES), RECORD_KIND_BLOCK);
    }
  }
  return packIds;
}

async function paced<T>(pace: ScrubPace, bytes: number, work: () => Promise<T>): Promise<T> {
  await pace.before(bytes);
  const startMs = performance.now();
  const result = await work();
  await pace.after(performance.now() - startMs);
  return result;
}
