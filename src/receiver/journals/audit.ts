/**
 * One audit: a base and the records after it must give the later point of the same journal, which its own
 * session has proven. The records are read once to learn which blocks they touch, and once for each window of
 * these blocks. All other blocks must be the same in both points. Blocks that a point has no content of, as
 * they could not be read or were left out, are not compared.
 */
import { isStillpointError } from '../../domain/base/errors.js';
import {
  BLOCKS_REQUEST_MAX,
  DIGEST_BYTES,
  JOURNAL_READ_BYTES_MAX,
  MiB,
  NODES_REQUEST_MAX,
  TREE_FANOUT,
} from '../../domain/base/limits.js';
import { type BlockRange, withoutRanges } from '../../domain/blocks/block-ranges.js';
import type { DueAudit } from '../../domain/journal/audits.js';
import { toBlocks } from '../../domain/point/excluded.js';
import { type Point, pointLabel } from '../../domain/point/point.js';
import { isNull } from '../../domain/tree/digest-tree.js';
import type { JournalAddon, JournalReplay } from '../../native/index.js';
import { isDataError } from '../../store/packs/contents.js';
import type { Store } from '../../store/port/store.js';

/** Of the border. */
export type AuditTools = Pick<JournalAddon, 'scanJournal' | 'createJournalReplay'>;

export interface AuditOptions {
  readonly store: Store;
  readonly tools: AuditTools;
  /** Called with the bytes that were read or written; it goes on when it resolves. */
  readonly pace: (bytes: number) => Promise<void>;
  /** Of blocks in memory. Default: WINDOW_BYTES. */
  readonly windowBytes?: number | undefined;
}

const WINDOW_BYTES = 64 * MiB;
const NULL_DIGEST = Buffer.alloc(DIGEST_BYTES);

/** @returns what does not fit, a clause; null: all does. @throws what keeps it from being known */
export async function auditFault(due: DueAudit<Point>, options: AuditOptions): Promise<string | null> {
  const { sizeBytes, blockSize } = due.point.geometry;
  const replay = options.tools.createJournalReplay(sizeBytes, blockSize);
  try {
    return await new Audit(due, options, replay).run();
  } catch (error) {
    if (error instanceof BadRecords) return error.message;
    throw error;
  } finally {
    await replay.close();
  }
}

/** What the journal itself is at fault for. */
class BadRecords extends Error {}

class Audit {
  readonly #due: DueAudit<Point>;
  readonly #options: AuditOptions;
  readonly #replay: JournalReplay;
  readonly #leftOut: readonly BlockRange[];

  constructor(due: DueAudit<Point>, options: AuditOptions, replay: JournalReplay) {
    this.#due = due;
    this.#options = options;
    this.#replay = replay;
    const { base, point } = due;
    const without = [base, point].flatMap(({ badRanges, excluded = [] }) => [...badRanges, ...excluded]);
    this.#leftOut = toBlocks(without, point.geometry.blockSize);
  }

  async run(): Promise<string | null> {
    await this.#forRecords((records) => this.#replay.note(records));
    const touched = this.#replay.touchedRanges();
    const fault = await this.#untouchedFault(touched);
    if (fault !== null) return fault;
    for (const blocks of this.#windows(withoutRanges(touched, this.#leftOut))) {
      const fault = await this.#windowFault(blocks);
      if (fault !== null) return fault;
    }
    return null;
  }

  /** All records after the base up to the point's instant, in order. */
  async #forRecords(take: (records: Buffer) => Promise<void>): Promise<void> {
    const { base, point } = this.#due;
    let ordinal = base.journal.ordinal;
    for (;;) {
      const records = await this.#recordsAfter(ordinal);
      if (records.length === 0) break;
      await this.#options.pace(records.length);
      const last = await this.#lastOrdinal(records, ordinal, take);
      if (last <= ordinal) throw new BadRecords(`what follows record ${ordinal} is not a record`);
      ordinal = last;
    }
    if (ordinal === point.journal.ordinal) return;
    throw new BadRecords(
      `record ${ordinal} is the last one up to the instant of point ${pointLabel(point)}, which says that it is record ${point.journal.ordinal}`,
    );
  }

  async #recordsAfter(afterOrdinal: number): Promise<Buffer> {
    const { journal, point } = this.#due;
    const read = { afterOrdinal, throughStamp: point.journal.stamp, bytesMax: JOURNAL_READ_BYTES_MAX };
    try {
      return await this.#options.store.journals.records(journal.agent, journal.journalId, read);
    } catch (error) {
      if (isStillpointError(error, 'store-damaged'))
        throw new BadRecords(`records are damaged: ${error.reason}`);
      throw error;
    }
  }

  async #lastOrdinal(
    records: Buffer,
    afterOrdinal: number,
    take: (records: Buffer) => Promise<void>,
  ): Promise<number> {
    try {
      const { last } = await this.#options.tools.scanJournal(records, { afterOrdinal });
      await take(records);
      return last?.ordinal ?? afterOrdinal;
    } catch (error) {
      if (isDataError(error))
        throw new BadRecords(`records after ${afterOrdinal} are damaged: ${(error as Error).message}`);
      throw error;
    }
  }

  /** Of blocks that no record touches. */
  async #untouchedFault(touched: readonly BlockRange[]): Promise<string | null> {
    const { base, point } = this.#due;
    for await (const event of this.#options.store.diff(base, point)) {
      await this.#options.pace(0);
      if (event.type !== 'ranges') continue;
      const differing = event.ranges.map(([start, end]): BlockRange => [start, end]);
      const [first] = withoutRanges(withoutRanges(differing, touched), this.#leftOut);
      if (first !== undefined)
        return `block ${first[0]} of point ${pointLabel(point)} differs from that of ${pointLabel(base)}, and no record touches it`;
    }
    return null;
  }

  *#windows(ranges: readonly BlockRange[]): Generator<number[]> {
    const { windowBytes = WINDOW_BYTES } = this.#options;
    const most = Math.max(1, Math.floor(windowBytes / this.#due.point.geometry.blockSize));
    let blocks: number[] = [];
    for (const [start, end] of ranges)
      for (let block = start; block < end; block += 1) {
        blocks.push(block);
        if (blocks.length < most) continue;
        yield blocks;
        blocks = [];
      }
    if (blocks.length > 0) yield blocks;
  }

  /** Of blocks that records touch. */
  async #windowFault(blocks: readonly number[]): Promise<string | null> {
    const { base, point } = this.#due;
    const { digester } = this.#options.store;
    this.#replay.open(Float64Array.from(blocks));
    const before = await this.#leaves(base, blocks);
    let wanted = blocks.filter((_, i) => !isNull(before[i] ?? NULL_DIGEST));
    while (wanted.length > 0) {
      const asked = wanted.slice(0, BLOCKS_REQUEST_MAX);
      const count = await this.#options.store.blocks(base, asked, async (lent) => {
        await this.#replay.load(lent, digester);
        return lent.blockIndexes.length;
      });
      await this.#options.pace(count * base.geometry.blockSize);
      wanted = wanted.slice(count);
    }
    await this.#forRecords((records) => this.#replay.apply(records));
    const made = await this.#replay.digests(digester);
    const expected = await this.#leaves(point, blocks);
    const wrong = blocks.findIndex(
      (_, i) => !made.subarray(i * DIGEST_BYTES, (i + 1) * DIGEST_BYTES).equals(expected[i] ?? NULL_DIGEST),
    );
    return wrong === -1
      ? null
      : `block ${blocks[wrong]} of point ${pointLabel(point)} is not what ${pointLabel(base)} and the records after it give`;
  }

  async #leaves(of: Point, blocks: readonly number[]): Promise<Buffer[]> {
    const nodes = [...new Set(blocks.map((block) => Math.floor(block / TREE_FANOUT)))];
    const byNode = new Map<number, Buffer | undefined>();
    for (let at = 0; at < nodes.length; at += NODES_REQUEST_MAX) {
      const asked = nodes.slice(at, at + NODES_REQUEST_MAX);
      const contents = await this.#options.store.nodes(
        of,
        asked.map((index) => ({ level: 1, index })),
      );
      for (const [i, node] of asked.entries()) byNode.set(node, contents[i]);
    }
    return blocks.map((block) => {
      const at = (block % TREE_FANOUT) * DIGEST_BYTES;
      const leaf = byNode.get(Math.floor(block / TREE_FANOUT))?.subarray(at, at + DIGEST_BYTES);
      // A node's content ends before its last NULL digests.
      return leaf?.length === DIGEST_BYTES ? leaf : NULL_DIGEST;
    });
  }
}
