/**
 * Re-reads and re-digests the store. For points: their trees and every block that they need, shared parts
 * once. For the whole store: every file; then the points are walked to say which of them need the damaged
 * parts.
 *
 * Damage is also recorded in the index, so that nothing is built on it and it is healed when its content
 * comes back. Findings come after the walk, each with all points that it concerns. Memory: one pack's index,
 * one path of a tree, and the findings, bounded.
 */

import { TREE_FANOUT } from '../../domain/base/limits.js';
import { type Point, treeOf } from '../../domain/point/point.js';
import type { VerifyEvent, VerifyProgress } from '../../domain/session/messages.js';
import { leafNodes, type ReadNodes } from '../../domain/tree/digest-tree.js';
import { RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import { atOnce, type Paced } from '../disk/paced.js';
import {
  CHECKED_BYTES,
  type Leaf,
  newLeaves,
  partsOf,
  readCheckedBlocks,
  readCheckedNodes,
} from '../records/checked-records.js';
import { Findings, type PointLabel, recordKey } from './findings.js';
import { type FilesContext, VerifiedFiles } from './verify-files.js';

export interface VerifyContext extends FilesContext {
  /** What is wrong with files outside packs/ and points/: file and reason. */
  readonly checkOthers: (paced: Paced) => Promise<{ what: string; reason: string }[]>;
  readonly label: PointLabel;
  /** False: it was removed meanwhile. */
  readonly isThere: (pointId: string) => boolean;
}

export class Verification {
  readonly #context: VerifyContext;
  readonly #findings: Findings;
  readonly #files: VerifiedFiles;

  constructor(context: VerifyContext) {
    this.#context = context;
    this.#findings = new Findings(context.label, context.isThere);
    this.#files = new VerifiedFiles(context, this.#findings);
  }

  /** @param points by device, then sequence */
  async *ofPoints(points: readonly Point[]): AsyncGenerator<VerifyEvent, void> {
    yield* this.#walk(points, true);
    yield* this.#findings.events(points);
  }

  /** @param points all of the agent's, by device, then sequence */
  async *ofAgent(agent: string, points: readonly Point[]): AsyncGenerator<VerifyEvent, void> {
    await this.#files.manifests(points, agent);
    yield* this.#walk(points, true);
    yield* this.#findings.events(points);
  }

  async *everything(points: readonly Point[]): AsyncGenerator<VerifyEvent> {
    await this.otherFiles(points);
    let progress: VerifyProgress = { type: 'progress', doneBytes: 0, totalBytes: 0 };
    for await (const event of this.#files.packs()) {
      if (event.type === 'progress') progress = event;
      yield event;
    }
    // Step by step: what waits for a step to end is not to wait for all of them.
    for await (const _ of this.#walk(points, false)) yield progress;
    yield* this.end(points);
  }

  /** Everything but packs. */
  async otherFiles(points: readonly Point[], paced: Paced = atOnce): Promise<void> {
    for (const { what, reason } of await this.#context.checkOthers(paced))
      this.#findings.add(`${what} ${reason}`, what, reason);
    await this.#files.manifests(points);
  }

  /** One of the packs that the index has. */
  pack(packId: string): Promise<void> {
    return this.#files.pack(packId);
  }

  get hasFindings(): boolean {
    return this.#findings.count > 0;
  }

  /** Which points need what was found to be damaged, or is in no pack. @param each runs each step */
  async *locate(
    points: readonly Point[],
    each: <T>(step: () => Promise<T>) => Promise<T>,
  ): AsyncGenerator<undefined> {
    const steps = this.#walk(points, false);
    while ((await each(() => steps.next())).done !== true) yield;
  }

  end(points: readonly Point[]): Generator<VerifyEvent> {
    return this.#findings.events(points);
  }

  /** @param deep read and digest every block; else only look where it is */
  async *#walk(points: readonly Point[], deep: boolean): AsyncGenerator<VerifyEvent> {
    const totalBytes = points.reduce((sum, point) => sum + point.geometry.sizeBytes, 0);
    let doneBytes = 0;
    let earlier: Point | null = null;
    for (const point of points) {
      if (!this.#context.isThere(point.id)) {
        doneBytes += point.geometry.sizeBytes;
        continue;
      }
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
        if (!this.#context.isThere(point.id)) break;
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
      await this.#doubt(wanted, RECORD_KIND_NODE);
      const results = await readCheckedNodes(records, wanted);
      return results.map((result, i) => {
        if ('record' in result) {
          this.#findings.checkedBytes += result.record.length;
          return result.record;
        }
        onDamage();
        const digest = wanted[i] ?? Buffer.alloc(0);
        this.#findings.add(
          recordKey(RECORD_KIND_NODE, digest),
          `tree of ${this.#findings.labelOf(point)}`,
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
        const what = `block ${leaf.blockIndex} of ${this.#findings.labelOf(point)}`;
        this.#findings.add(recordKey(RECORD_KIND_BLOCK, leaf.digest), what, reason, point);
      }
    }
  }

  async #readLeaves(leaves: readonly Leaf[]): Promise<(string | null)[]> {
    const results = await readCheckedBlocks(this.#context.records, leaves);
    this.#findings.blockCount += leaves.length;
    return results.map((result) => {
      if ('damage' in result) return result.damage.reason;
      this.#findings.checkedBytes += result.record.length;
      return null;
    });
  }

  async #locateLeaves(leaves: readonly Leaf[]): Promise<(string | null)[]> {
    const { records } = this.#context;
    const digests = leaves.map(({ digest }) => digest);
    await this.#doubt(digests, RECORD_KIND_BLOCK);
    const located = await records.locate(RECORD_KIND_BLOCK, digests);
    return located.map((at) => (at === null ? 'no pack has it' : null));
  }

  /** Records in packs that are gone, or that could not be read: a file that is still open may hide it. */
  async #doubt(digests: readonly Buffer[], kind: number): Promise<void> {
    const { salvaged } = this.#files;
    if (salvaged.size === 0) return;
    const { index } = this.#context;
    for (const digest of digests) {
      const at = index.locate(digest, kind);
      const good = at === null ? undefined : salvaged.get(at.packNumber);
      if (at === null || good === undefined || good.has(at.offset)) continue;
      await index.markBad(at.packNumber, at.offset, digest, kind);
    }
  }
}
