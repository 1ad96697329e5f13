/**
 * Re-reads and re-digests what the store holds. Of points: their trees and every block that they need, shared parts once. Of the
 * whole store: every file; then the points are walked to say which of them need what was found damaged.
 *
 * Damage is also remembered in the index, so that it is not built upon and is healed when its content comes back. Findings come
 * after the walk, each with all points it concerns. Memory: one pack's index, one path of a tree, and the findings, bounded.
 */

import { TREE_FANOUT } from '../../domain/base/limits.js';
import { type Point, treeOf } from '../../domain/point/point.js';
import type { VerifyEvent, VerifyFinding } from '../../domain/session/messages.js';
import { leafNodes, type ReadNodes } from '../../domain/tree/digest-tree.js';
import { native, PACK_KIND_TREE, RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import {
  PACKS_PREFIX,
  POINTS_PREFIX,
  type PointPlace,
  packIdOf,
  packKey,
  pointKey,
  pointPlaceOf,
} from '../disk/layout.js';
import type { RecordIndex } from '../index/record-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import { isDataError, readPackEntries } from '../packs/contents.js';
import { decodePackEntry, digestKey, packEntryCount } from '../packs/entries.js';
import { readManifest } from '../points/catalog.js';
import {
  CHECKED_BYTES,
  type Leaf,
  newLeaves,
  partsOf,
  readCheckedBlocks,
  readCheckedNodes,
} from '../records/checked-records.js';
import type { RecordReader } from '../records/record-reader.js';

const FINDINGS_MAX = 10_000;

export interface VerifyContext {
  readonly objects: ObjectStore;
  readonly index: RecordIndex;
  readonly records: RecordReader;
  /** What is wrong with files outside packs/ and points/: file and reason. */
  readonly checkOthers: () => Promise<{ what: string; reason: string }[]>;
  /** How a point is named to who asked. */
  readonly label: (point: Omit<PointPlace, 'deleted'>) => string;
}

interface Finding {
  readonly what: string;
  readonly reason: string;
  readonly points: Set<string>;
}

export class Verification {
  readonly #context: VerifyContext;
  /** By digest and kind for records, by name for everything else. */
  readonly #findings = new Map<string, Finding>();
  /** Packs without an index to believe: the offsets of the records that proved themselves. */
  readonly #salvaged = new Map<number, Set<number>>();
  #findingCount = 0;
  #blockCount = 0;
  #checkedBytes = 0;

  constructor(context: VerifyContext) {
    this.#context = context;
  }

  async *ofPoint(point: Point): AsyncGenerator<VerifyEvent, void> {
    yield* this.#walk([point], true);
    yield* this.#end(1);
  }

  /** @param points all of the agent's, by device, then sequence */
  async *ofAgent(agent: string, points: readonly Point[]): AsyncGenerator<VerifyEvent, void> {
    await this.#checkManifests(points, `${POINTS_PREFIX}/${agent}`);
    yield* this.#walk(points, true);
    yield* this.#end(points.length);
  }

  async *everything(points: readonly Point[]): AsyncGenerator<VerifyEvent> {
    for (const { what, reason } of await this.#context.checkOthers())
      this.#add(`${what} ${reason}`, what, reason);
    await this.#checkManifests(points, POINTS_PREFIX);
    yield* this.#checkPacks();
    for await (const event of this.#walk(points, false)) if (event.type !== 'progress') yield event;
    yield* this.#end(points.length);
  }

  *#end(pointCount: number): Generator<VerifyEvent> {
    for (const { what, reason, points } of this.#findings.values()) {
      yield { type: 'finding', what, reason, points: [...points] } satisfies VerifyFinding;
    }
    yield {
      type: 'summary',
      pointCount,
      blockCount: this.#blockCount,
      checkedBytes: this.#checkedBytes,
      findingCount: this.#findingCount,
    };
  }

  #add(key: string, what: string, reason: string, point?: Point): void {
    let finding = this.#findings.get(key);
    if (finding === undefined) {
      this.#findingCount += 1;
      if (this.#findings.size >= FINDINGS_MAX) return;
      finding = { what, reason, points: new Set() };
      this.#findings.set(key, finding);
    }
    if (point !== undefined) finding.points.add(this.#context.label(point));
  }

  // ---- files ------------------------------------------------------------------------------------------------------------

  async #checkManifests(points: readonly Point[], prefix: string): Promise<void> {
    const { objects } = this.#context;
    const found = new Set<string>();
    for (const { key, sizeBytes } of await objects.list(prefix)) {
      found.add(key);
      const place = pointPlaceOf(key);
      // Somebody else's files are none of the store's business.
      if (place === null || place.deleted) continue;
      const manifest = await readManifest(objects, key, sizeBytes);
      this.#checkedBytes += sizeBytes;
      if (!('reason' in manifest)) continue;
      this.#add(key, key, manifest.reason);
      this.#findings.get(key)?.points.add(this.#context.label(place));
    }
    for (const point of points) {
      const key = pointKey(point, point.sequence);
      if (!found.has(key)) this.#add(key, key, 'it is gone', point);
    }
  }

  async *#checkPacks(): AsyncGenerator<VerifyEvent> {
    const { objects, index } = this.#context;
    const packs = (await objects.list(PACKS_PREFIX)).filter(({ key }) => packIdOf(key) !== null);
    const totalBytes = packs.reduce((sum, { sizeBytes }) => sum + sizeBytes, 0);
    let doneBytes = 0;
    const there = new Set<string>();
    for (const { key, sizeBytes } of packs) {
      const packId = packIdOf(key);
      if (packId !== null && (await this.#checkPack(packId))) there.add(packId);
      doneBytes += sizeBytes;
      yield { type: 'progress', doneBytes, totalBytes };
    }
    // What another process published or collected meanwhile is known by now.
    await index.catchUp?.();
    for (const [packId, { number }] of index.packs()) {
      if (there.has(packId) || (await objects.size(packKey(packId))) !== null) continue;
      this.#add(packKey(packId), packKey(packId), 'it is gone');
      this.#salvaged.set(number, new Set());
    }
  }

  /** False if it is gone. */
  async #checkPack(packId: string): Promise<boolean> {
    const { objects, index, records } = this.#context;
    const key = packKey(packId);
    const damages: { offset: number; digest: Buffer | null; reason: string }[] = [];
    try {
      const checked = await objects.withFile(key, (path) =>
        native.verifyPack(path, records.digester, (damage) => damages.push(damage)),
      );
      this.#checkedBytes += checked.checkedBytes;
      this.#blockCount += checked.recordCount;
    } catch (error) {
      if (!isDataError(error)) throw error;
      if ((await objects.size(key)) === null) return false;
      damages.push({
        offset: 0,
        digest: null,
        reason: error instanceof Error ? error.message : String(error),
      });
    }
    const packNumber = index.packs().get(packId)?.number;
    const contents =
      damages.length > 0 || packNumber === undefined
        ? await readPackEntries(objects, packId, records.digester)
        : null;
    if (contents?.salvaged) {
      const good = new Set<number>();
      for (let i = 0; i < packEntryCount(contents.entries); i += 1)
        good.add(decodePackEntry(contents.entries, i).offset);
      if (packNumber !== undefined) this.#salvaged.set(packNumber, good);
      this.#add(key, key, contents.salvaged);
    }
    for (const { offset, digest, reason } of damages) {
      const what = `${key} at offset ${offset}`;
      if (digest === null || packNumber === undefined) this.#add(what, what, reason);
      else {
        const kind = contents?.kind === PACK_KIND_TREE ? RECORD_KIND_NODE : RECORD_KIND_BLOCK;
        await this.#checkCopies(packNumber, offset, digest, kind, what, reason);
      }
    }
    return true;
  }

  /** A damaged record is no finding any more once it was found before and another copy is in its place. */
  async #checkCopies(
    packNumber: number,
    offset: number,
    digest: Buffer,
    kind: number,
    what: string,
    reason: string,
  ): Promise<void> {
    const { index, records } = this.#context;
    const wasKnown = index.isBad(packNumber, offset, digest);
    await index.markBad(packNumber, offset, digest, kind);
    const [located] = await records.locate(kind, [digest]);
    if (!located) this.#add(recordKey(kind, digest), what, reason);
    else if (!wasKnown) this.#add(what, what, `${reason}; another copy is used instead`);
  }

  // ---- points -----------------------------------------------------------------------------------------------------------

  /** @param deep read and digest every block; else only look where it is */
  async *#walk(points: readonly Point[], deep: boolean): AsyncGenerator<VerifyEvent> {
    const totalBytes = points.reduce((sum, point) => sum + point.geometry.sizeBytes, 0);
    let doneBytes = 0;
    let earlier: Point | null = null;
    for (const point of points) {
      const isSameDevice = earlier?.agent === point.agent && earlier.device === point.device;
      let damageCount = 0;
      const onDamage = () => {
        damageCount += 1;
      };
      let waiting: Leaf[] = [];
      const nodes = leafNodes(
        treeOf(point),
        isSameDevice && earlier !== null ? treeOf(earlier) : null,
        this.#readNodes(point, onDamage),
      );
      for await (const { blockIndex, content, unlike } of nodes) {
        waiting.push(...newLeaves(blockIndex, content, unlike));
        if (waiting.length * point.geometry.blockSize < CHECKED_BYTES && waiting.length < 64 * TREE_FANOUT)
          continue;
        yield { type: 'progress', doneBytes: doneBytes + blockIndex * point.geometry.blockSize, totalBytes };
        await this.#checkLeaves(point, waiting, deep, onDamage);
        waiting = [];
      }
      await this.#checkLeaves(point, waiting, deep, onDamage);
      doneBytes += point.geometry.sizeBytes;
      yield { type: 'progress', doneBytes, totalBytes };
      // Of a damaged point the next one is not compared with: what they share must be found in both.
      earlier = damageCount === 0 ? point : null;
    }
  }

  #readNodes(point: Point, onDamage: () => void): ReadNodes {
    const { records } = this.#context;
    return async (digests) => {
      const wanted = digests.map((digest) => Buffer.from(digest));
      const results = await readCheckedNodes(records, wanted);
      return results.map((result, i) => {
        if ('record' in result) {
          this.#checkedBytes += result.record.length;
          return result.record;
        }
        onDamage();
        const digest = wanted[i] ?? Buffer.alloc(0);
        this.#add(
          recordKey(RECORD_KIND_NODE, digest),
          `tree of ${this.#context.label(point)}`,
          result.damage.reason,
          point,
        );
        return null;
      });
    };
  }

  async #checkLeaves(
    point: Point,
    leaves: readonly Leaf[],
    deep: boolean,
    onDamage: () => void,
  ): Promise<void> {
    for (const part of partsOf(leaves, CHECKED_BYTES / point.geometry.blockSize)) {
      const reasons = deep ? await this.#readLeaves(part) : await this.#locateLeaves(part);
      for (const [i, reason] of reasons.entries()) {
        const leaf = part[i];
        if (reason === null || leaf === undefined) continue;
        onDamage();
        const what = `block ${leaf.blockIndex} of ${this.#context.label(point)}`;
        this.#add(recordKey(RECORD_KIND_BLOCK, leaf.digest), what, reason, point);
      }
    }
  }

  async #readLeaves(leaves: readonly Leaf[]): Promise<(string | null)[]> {
    const results = await readCheckedBlocks(this.#context.records, leaves);
    this.#blockCount += leaves.length;
    return results.map((result) => {
      if ('damage' in result) return result.damage.reason;
      this.#checkedBytes += result.record.length;
      return null;
    });
  }

  async #locateLeaves(leaves: readonly Leaf[]): Promise<(string | null)[]> {
    const { index, records } = this.#context;
    const digests = leaves.map(({ digest }) => digest);
    for (const digest of digests) {
      const at = index.locate(digest, RECORD_KIND_BLOCK);
      const good = at === null ? undefined : this.#salvaged.get(at.packNumber);
      if (at !== null && good !== undefined && !good.has(at.offset)) {
        await index.markBad(at.packNumber, at.offset, digest, RECORD_KIND_BLOCK);
      }
    }
    const located = await records.locate(RECORD_KIND_BLOCK, digests);
    return located.map((at) => (at === null ? 'no pack has it' : null));
  }
}

function recordKey(kind: number, digest: Buffer): string {
  return `${kind === RECORD_KIND_NODE ? 'node' : 'block'} ${digestKey(digest)}`;
}
