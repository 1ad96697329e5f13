/** The files of a verification: manifests, and packs with each of their records. */
import type { Point } from '../../domain/point/point.js';
import type { VerifyEvent } from '../../domain/session/messages.js';
import { native, PACK_KIND_TREE, RECORD_KIND_BLOCK, RECORD_KIND_NODE } from '../../native/index.js';
import { PACKS_PREFIX, packIdOf, packKey, pointKey, pointPlaceOf } from '../disk/layout.js';
import type { RecordIndex } from '../index/record-index.js';
import type { ObjectStore } from '../objects/object-store.js';
import { isDataError, readPackEntries } from '../packs/contents.js';
import { decodePackEntry, packEntryCount } from '../packs/entries.js';
import { readManifest } from '../points/catalog.js';
import { isMarked } from '../points/removal.js';
import type { RecordReader } from '../records/record-reader.js';
import { type Findings, recordKey } from './findings.js';

export interface FilesContext {
  readonly objects: ObjectStore;
  readonly index: RecordIndex;
  readonly records: RecordReader;
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

  /** @param points that should have one there */
  async manifests(points: readonly Point[], prefix: string): Promise<void> {
    const { objects } = this.#context;
    const found = new Set<string>();
    for (const { key, sizeBytes } of await objects.list(prefix)) {
      found.add(key);
      const place = pointPlaceOf(key);
      // Somebody else's files are none of the store's business.
      if (place === null || place.deleted) continue;
      const manifest = await readManifest(objects, key, sizeBytes);
      this.#findings.checkedBytes += sizeBytes;
      if (!('reason' in manifest) || (await isMarked(objects, key))) continue;
      this.#findings.add(key, key, manifest.reason, place);
    }
    for (const point of points) {
      const key = pointKey(point, point.sequence);
      if (found.has(key) || (await isMarked(objects, key))) continue;
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
    for (const [packId, { number }] of index.packs()) {
      if (there.has(packId) || (await objects.size(packKey(packId))) !== null) continue;
      this.#findings.add(packKey(packId), packKey(packId), 'it is gone');
      this.salvaged.set(number, new Set());
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
    const packNumber = index.packs().get(packId)?.number;
    const contents =
      damages.length > 0 || packNumber === undefined
        ? await readPackEntries(objects, packId, records.digester)
        : null;
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
