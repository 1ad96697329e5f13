/**
 * A directory for one reader of a store, for an index of its own if the store's is useless. LMDB has no
 * checksums, so damage in the store's index may end the process that reads it. The directory says which index
 * is being read, so the next reader sees that readers of this index died.
 */
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { errnoOf } from '../disk/disk.js';
import { DATA_FILE } from '../index/tables.js';

const READS_FILE = 'reads';
const DIED_MAX = 2;

export class Scratch {
  readonly #root: string;
  #dir: string | null;
  readonly #problem: unknown;
  /** How often readers died with the index as it is now. */
  #diedCount = 0;

  constructor(storeId: string, indexPath: string) {
    this.#root = tmpdir();
    const prefix = `stillpoint-reading-${storeId.slice(0, 16)}-`;
    const state = stateOf(indexPath);
    try {
      this.#sweep(prefix, state);
      this.#dir = mkdtempSync(join(this.#root, `${prefix}${process.pid}-`));
      writeFileSync(join(this.#dir, READS_FILE), state);
    } catch (error) {
      this.#dir = null;
      this.#problem = error;
    }
  }

  get sharedIsDoubtful(): boolean {
    return this.#diedCount >= DIED_MAX;
  }

  /** The shared index is not read any more. */
  forgetShared(): void {
    if (this.#dir !== null) rmSync(join(this.#dir, READS_FILE), { force: true });
  }

  /** An empty directory for an index. @throws StillpointError `store-io` */
  indexPath(): string {
    if (this.#dir === null) {
      throw new StillpointError('store-io', {
        thing: `directory ${this.#root}`,
        reason: `no index can be made in it (${errnoOf(this.#problem) ?? String(this.#problem)}), and that of the store is of no use`,
        remedy: 'Set TMPDIR to a directory that can be written to.',
        permanent: true,
        cause: this.#problem,
      });
    }
    const path = join(this.#dir, 'index');
    mkdirSync(path, { recursive: true, mode: 0o700 });
    return path;
  }

  close(): void {
    if (this.#dir !== null) rmSync(this.#dir, { recursive: true, force: true });
  }

  /**
   * What readers left that did not end in order. Their traces stay while the index is the
   * one that they died with.
   */
  #sweep(prefix: string, state: string): void {
    for (const name of readdirSync(this.#root)) {
      const processId = name.startsWith(prefix) ? Number.parseInt(name.slice(prefix.length), 10) : Number.NaN;
      if (Number.isNaN(processId) || isAlive(processId)) continue;
      const dir = join(this.#root, name);
      const found = statSync(dir, { throwIfNoEntry: false });
      if (found?.isDirectory() !== true || found.uid !== process.geteuid?.()) continue;
      rmSync(join(dir, 'index'), { recursive: true, force: true });
      if (state !== '' && readText(join(dir, READS_FILE)) === state) this.#diedCount += 1;
      else rmSync(dir, { recursive: true, force: true });
    }
  }
}

function stateOf(indexPath: string): string {
  const found = statSync(join(indexPath, DATA_FILE), { throwIfNoEntry: false });
  return found === undefined ? '' : `${found.dev} ${found.ino} ${found.size} ${found.mtimeMs}`;
}

function readText(path: string): string {
  try {
    return readFileSync(path, 'latin1');
  } catch {
    return '';
  }
}

function isAlive(processId: number): boolean {
  try {
    process.kill(processId, 0);
    return true;
  } catch (error) {
    return errnoOf(error) === 'EPERM';
  }
}
