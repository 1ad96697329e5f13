/** The files of a verification: manifests, and packs with each of their records. */
import type { Point } from '../../domain/point/point.js';
import type { VerifyEvent } from '../../domain/session/messages.js';
import {
  native,
  PACK_KIND_DATA,
  PACK_KIND_TREE,
  RECORD_KIND_BLOCK,
  RECORD_KIND_NODE,
} from '../../native/index.js';
import { PACKS_PREFIX, packIdOf, packKey, pointKey } from '../disk/layout.js';
import type { RecordIndex } from '../index/record-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import { isDataError, type PackContents, readPackEntries } from '../packs/contents.js';
import { decodePackEntry, packEntryCount } from '../packs/entries.js';
import { isMarked, isRemoved, listManifests } from '../points/manifest-files.js';
import type { RecordReader } from '../records/record-reader.js';
import { type Findings, recordKey } from './findings.js';
import { lookAtManifest } from './manifest-repair.js';

export interface FilesContext {
  readonly objects: ObjectStore;
  readonly index: RecordIndex;
  readonly records: RecordReader;
  /** Is told of each pack that was read back. */
  readonly onChecked?: ((packId: string) => void) | undefined;
}

export class VerifiedFiles {
  readonly #context: FilesContext;
  readonly #findings: Findings;
  /** Packs without an index to believe: the offsets of the records that proved themselves. */
  readonly salvaged = new Map<number, Set<number>>();

  constructor(context: FilesContext, findings: Findings) {
    this.#context = context;
    this.#findings = findings;
  }

  /** @param points that should have one. @param agent whose; undefined: all agents' */
  async manifests(points: readonly Point[], agent?: string): Promise<void> {
    const { objects } = this.#context;
    const found = new Set<string>();
    for (const files of await listManifests(objects, agent)) {
      if (isRemoved(files)) continue;
      found.add(files.key);
      this.#findings.checkedBytes += (files.manifestBytes ?? 0) + (files.copyBytes ?? 0);
      const state = await lookAtManifest(objects, files);
      if (state.faults.length > 0 && (await isMarked(objects, files.key))) continue;
      for (const { key, reason } of state.faults) {
        // With one of the two left, no point is lost.
        if (state.point === null) this.#findings.add(key, key, reason, files.place);
        else this.#findings.add(key, key, `${reason}; "stillpoint receiver repair" mends it`);
      }
    }
    for (const point of points) {
      const key = pointKey(point, point.sequence);
      if (!found.has(key) && !(await isMarked(objects, key)))
        this.#findings.add(key, key, 'it is gone', point);
    }
  }

  async *packs(): AsyncGenerator<VerifyEvent> {
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
    for (const packId of index.packs().keys()) if (!there.has(packId)) await this.#checkGone(packId);
  }

  /** One that the index has: if it is not there, that is damage. */
  async pack(packId: string): Promise<void> {
    if (!(await this.#checkPack(packId))) await this.#checkGone(packId);
  }

  async #checkGone(packId: string): Promise<void> {
    const { objects, index } = this.#context;
    const key = packKey(packId);
    const number = index.packs().get(packId)?.number;
    if (number === undefined || (await objects.size(key)) !== null) return;
    this.#findings.add(key, key, 'it is gone');
    this.salvaged.set(number, new Set());
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
      this.#findings.checkedBytes += checked.checkedBytes;
      this.#findings.blockCount += checked.recordCount;
    } catch (error) {
      if (!isDataError(error)) throw error;
      if ((await objects.size(key)) === null) return false;
      damages.push({
        offset: 0,
        digest: null,
        reason: error instanceof Error ? error.message : String(error),
      });
    }
    this.#context.onChecked?.(packId);
    const packNumber = index.packs().get(packId)?.number;
    const contents = damages.length > 0 || packNumber === undefined ? await this.#contents(packId) : null;
    if (contents?.salvaged) {
      const good = new Set<number>();
      for (let i = 0; i < packEntryCount(contents.entries); i += 1)
        good.add(decodePackEntry(contents.entries, i).offset);
      if (packNumber !== undefined) this.salvaged.set(packNumber, good);
      this.#findings.add(key, key, contents.salvaged);
    }
    for (const { offset, digest, reason } of damages) {
      const what = `${key} at offset ${offset}`;
      if (digest === null || packNumber === undefined) this.#findings.add(what, what, reason);
      else {
        const kind = contents?.kind === PACK_KIND_TREE ? RECORD_KIND_NODE : RECORD_KIND_BLOCK;
        await this.#checkCopies(packNumber, offset, digest, kind, what, reason);
      }
    }
    return true;
  }

  /** Of a pack that can't be read at all: nothing. */
  async #contents(packId: string): Promise<PackContents> {
    const { objects, records } = this.#context;
    try {
      return await readPackEntries(objects, packId, records.digester);
    } catch (error) {
      if (!isDataError(error)) throw error;
      const salvaged = error instanceof Error ? error.message : String(error);
      return { kind: PACK_KIND_DATA, entries: Buffer.alloc(0), salvaged };
    }
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
    if (!located) this.#findings.add(recordKey(kind, digest), what, reason);
    else if (!wasKnown) this.#findings.add(what, what, `${reason}; another copy is used instead`);
  }
}
