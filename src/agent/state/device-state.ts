/**
 * What the agent remembers of one device in one store: the digest tree of the last committed point.
 *
 * `<state>/stores/<store>/<agent>/<device>/`, and what is found there after a crash:
 *
 * | files                  | meaning                                      | at open                         |
 * |------------------------|----------------------------------------------|---------------------------------|
 * | `tree`                 | at rest: the tree of the point that it names | verified                        |
 * | `tree`, `overlay` open | a session ended while it scanned             | overlay removed                 |
 * | `tree`, `overlay`      | a session ended around the receiver's commit | kept as `pending`: the          |
 * | sealed                 |                                              | receiver's last point decides   |
 * | `tree`, `committed`    | the receiver has committed, the tree is      | applied again, removed          |
 * |                        | changing                                     |                                 |
 * | `tree.new*`            | a tree that was being made                   | removed                         |
 * | `session`              | a session ended before its commit            | kept: see kept-session.ts       |
 * | `acknowledged`         | the last point that the receiver             | kept: see acknowledged-point.ts |
 * |                        | acknowledged                                 |                                 |
 * | `.*.tmp`               | a file that was being written                | removed                         |
 *
 * All of it is a cache: a damaged part is dropped, and rebuilt by comparing with the receiver. One process at
 * a time, by flock on `lock`.
 */

import { type FileHandle, readdir, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { StillpointError } from '../../domain/base/errors.js';
import { checkName } from '../../domain/base/names.js';
import type { Geometry } from '../../domain/blocks/geometry.js';
import type { AcknowledgedPoint } from '../../domain/point/acknowledged-point.js';
import type { LocalBase } from '../../domain/session/plan.js';
import { lockFile, makeDirectories, syncDirectory } from '../../native/files.js';
import { type Digester, type LeafOverlay, native, type TreeFile } from '../../native/index.js';
import { readAcknowledged, writeAcknowledged } from './acknowledged-point.js';
import { type KeptSession, readKeptSession, removeKeptSession, writeKeptSession } from './kept-session.js';

export interface StateKey {
  readonly storeId: string;
  readonly agent: string;
  readonly device: string;
}

export function deviceStateDirectory(stateDirectory: string, key: StateKey): string {
  return join(
    stateDirectory,
    'stores',
    checkName('store', key.storeId),
    checkName('agent', key.agent),
    checkName('device', key.device),
  );
}

export class DeviceState {
  readonly #directory: string;
  readonly #lock: FileHandle;
  /** What its tree is made with. */
  readonly digester: Digester;
  #tree: TreeFile | null = null;
  #overlay: LeafOverlay | null = null;
  #problem: string | null = null;

  private constructor(directory: string, lock: FileHandle, digester: Digester) {
    this.#directory = directory;
    this.#lock = lock;
    this.digester = digester;
  }

  /** @throws StillpointError `session-busy` while another process works on the device. */
  static async open(stateDirectory: string, key: StateKey, digester: Digester): Promise<DeviceState> {
    const directory = deviceStateDirectory(stateDirectory, key);
    await makeDirectories(directory);
    const lock = await lockFile(join(directory, 'lock'));
    if (lock === null) {
      throw new StillpointError('session-busy', {
        thing: `device ${key.device}`,
        reason: 'another backup or restore of it is running on this machine',
        remedy: 'Wait until it has ended.',
        permanent: false,
      });
    }
    const state = new DeviceState(directory, lock, digester);
    try {
      await state.#recover();
    } catch (error) {
      await state.close();
      throw error;
    }
    return state;
  }

  get tree(): TreeFile | null {
    return this.#tree;
  }

  /** The facts that `planBase` decides on. */
  get local(): LocalBase {
    const tree = this.#tree;
    const generation = this.#overlay?.generation ?? null;
    return {
      tree: tree === null ? null : { ...tree.generation, geometry: geometryOf(tree) },
      pending:
        generation === null || this.#overlay === null
          ? null
          : { ...generation, baseRoot: this.#overlay.baseRoot },
      problem: this.#problem,
    };
  }

  /** Puts a tree in the place of the present one: `make` gets a free path and makes the file there. */
  async replaceTree(make: (path: string) => Promise<TreeFile>): Promise<TreeFile> {
    const path = join(this.#directory, 'tree.new');
    await (await make(path)).close();
    await this.#dropTree();
    await rename(path, this.#path('tree'));
    await syncDirectory(this.#directory);
    this.#problem = null;
    this.#tree = await native.openTree(this.#path('tree'), this.digester);
    return this.#tree;
  }

  /** An empty overlay over the tree, in the place of any other. */
  async newOverlay(tree: TreeFile): Promise<LeafOverlay> {
    await this.discardOverlay();
    this.#overlay = await native.createOverlay(
      this.#path('overlay'),
      tree.sizeBytes,
      tree.blockSize,
      tree.generation.root,
    );
    return this.#overlay;
  }

  /** Seals the overlay: from here on a crash is resolved by asking the receiver for its last point. */
  async seal(pointId: string, root: string): Promise<void> {
    await this.#requireOverlay().seal({ pointId, root });
    await syncDirectory(this.#directory);
  }

  /** The receiver has committed the sealed overlay's point: the tree follows. */
  async commit(): Promise<void> {
    const tree = this.#tree;
    if (tree === null) throw new Error('there is no tree to apply the overlay to');
    await rename(this.#path('overlay'), this.#path('committed'));
    await syncDirectory(this.#directory);
    const overlay = this.#requireOverlay();
    await tree.apply(overlay);
    await overlay.close();
    this.#overlay = null;
    await this.#remove('committed');
  }

  async discardOverlay(): Promise<void> {
    await this.#overlay?.close();
    this.#overlay = null;
    await this.#remove('overlay');
  }

  /** The session that was not committed when the last process ended. */
  keptSession(): Promise<KeptSession | null> {
    return readKeptSession(this.#directory);
  }

  /** Durable when it resolves. Null: the next process has nothing to go on with. */
  keepSession(session: KeptSession | null): Promise<void> {
    return session === null ? removeKeptSession(this.#directory) : writeKeptSession(this.#directory, session);
  }

  /** The last point that the receiver acknowledged; null: not known. */
  acknowledged(): Promise<AcknowledgedPoint | null> {
    return readAcknowledged(this.#directory);
  }

  /** Durable when it resolves. */
  acknowledge(point: AcknowledgedPoint): Promise<void> {
    return writeAcknowledged(this.#directory, point);
  }

  /** The tree can't be believed: it is removed, and made anew at the next session. */
  async forgetTree(): Promise<void> {
    await this.discardOverlay();
    await this.#dropTree();
    await this.#remove('tree');
  }

  /** A sealed overlay stays; all else that is unfinished goes at the next open. */
  async close(): Promise<void> {
    await this.#overlay?.close();
    await this.#tree?.close();
    this.#overlay = null;
    this.#tree = null;
    await this.#lock.close();
  }

  async #recover(): Promise<void> {
    const names = new Set(await readdir(this.#directory));
    for (const name of names) {
      if (name.startsWith('tree.new') || /^\..*\.tmp$/.test(name)) await this.#remove(name);
    }
    if (names.has('tree')) await this.#openTree(names.has('committed'));
    await this.#remove('committed');
    if (names.has('overlay')) await this.#openPending();
  }

  async #openTree(redo: boolean): Promise<void> {
    try {
      this.#tree = await native.openTree(this.#path('tree'), this.digester);
      if (redo) await this.#redo(this.#tree);
      if (await this.#tree.verify()) return;
      this.#problem = 'the local tree is damaged';
    } catch (error) {
      this.#problem = `the local tree can't be used: ${(error as Error).message}`;
    }
    await this.#dropTree();
    await this.#remove('tree');
  }

  async #redo(tree: TreeFile): Promise<void> {
    const overlay = await native.openOverlay(this.#path('committed'));
    try {
      await tree.apply(overlay);
    } finally {
      await overlay.close();
    }
  }

  async #openPending(): Promise<void> {
    try {
      this.#overlay = await native.openOverlay(this.#path('overlay'));
      if (this.#overlay.generation !== null && this.#tree !== null) return;
    } catch {
      // A torn header or contents: it was being written when the agent died.
    }
    await this.discardOverlay();
  }

  async #dropTree(): Promise<void> {
    await this.#tree?.close();
    this.#tree = null;
  }

  async #remove(name: string): Promise<void> {
    await rm(this.#path(name), { force: true });
    await syncDirectory(this.#directory);
  }

  #requireOverlay(): LeafOverlay {
    if (this.#overlay === null) throw new Error('there is no overlay');
    return this.#overlay;
  }

  #path(name: string): string {
    return join(this.#directory, name);
  }
}

export function geometryOf(tree: TreeFile): Geometry {
  return { sizeBytes: tree.sizeBytes, blockSize: tree.blockSize };
}
