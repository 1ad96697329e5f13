/**
 * A tap in memory, behind the native tap's types: for what is above it. Its map file is JSON, and as
 * durable as the native one.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import type {
  CreateTapOptions,
  Tap,
  TapAddon,
  TapHold,
  TapHoldOptions,
  TapJournalPosition,
  TapMapHeader,
  TapSourceState,
  TapStatus,
} from '../../../src/native/index.js';
import { FakeTapJournal } from './tap-journal.js';

const SIZE_BYTES = 1024 * 1024;

export class FakeTap implements Tap {
  readonly options: CreateTapOptions;
  /** What was done, in order. */
  readonly calls: string[] = [];
  readonly holds: TapHoldOptions[] = [];
  connections = 0;
  /** Runs before a hold is prepared: may wait, may throw. */
  beforeHold: () => Promise<void> = async () => undefined;
  /** Runs before the gate is closed. */
  beforeClose: () => Promise<void> = async () => undefined;
  gate: 'open' | 'closed' = 'open';
  #prepared: TapHoldOptions | null = null;
  #hold: TapStatus['hold'] = null;
  #mapReason: string;
  /** Why the journal does not end cleanly. */
  closingFailure = '';
  readonly journal: FakeTapJournal | null;

  constructor(options: CreateTapOptions) {
    this.options = options;
    this.#mapReason = options.distrust ?? 'no point yet';
    const { journal = null } = options;
    this.journal = journal === null ? null : new FakeTapJournal();
    this.#writeMap(false, '');
  }

  async listen(address: string, exportName: string): Promise<string> {
    this.calls.push(`listen ${address} ${exportName}`);
    return address;
  }

  async listenSnapshot(address: string): Promise<string> {
    this.calls.push('listenSnapshot');
    return address;
  }

  status(): TapStatus {
    const { path, blockSize, readOnly = false } = this.options;
    return {
      ...{ path, blockSize, readOnly, sizeBytes: SIZE_BYTES, hold: this.#hold },
      map: { pointIds: null, reason: this.#mapReason, changedBlocks: 0, writtenBlocks: 0, persistent: true },
      counters: {
        ...{ connections: this.connections, reads: 0, writes: 0, readBytes: 0, writtenBytes: 0, flushes: 0 },
        ...{ errors: 0, longestStallMicroseconds: 0, quietMs: null },
      },
      ...(this.journal === null ? {} : { journal: this.journal.status() }),
    };
  }

  async prepare(options: TapHoldOptions): Promise<void> {
    await this.beforeHold();
    if (this.#prepared !== null || this.#hold !== null)
      throw Object.assign(new Error('a snapshot is held'), { code: 'EBUSY' });
    this.holds.push(options);
    this.#prepared = options;
  }

  async closeGate(): Promise<number> {
    await this.beforeClose();
    if (this.#prepared === null) throw Object.assign(new Error('nothing is prepared'), { code: 'argument' });
    this.gate = 'closed';
    return 0;
  }

  async openGate(): Promise<void> {
    this.gate = 'open';
  }

  async cut(): Promise<TapHold> {
    if (this.#prepared === null || this.gate === 'open')
      throw Object.assign(new Error('it is open'), { code: 'gate-open' });
    const { sessionId, preserveMaxBytes } = this.#prepared;
    this.#prepared = null;
    this.gate = 'open';
    this.calls.push('hold');
    this.#hold = {
      ...{ sessionId, preserveMaxBytes, state: 'held', reason: '', neededBlocks: 16, preservedBytes: 0 },
    };
    return {
      ...{ instantMs: 1, mapUsed: false, reason: 'no point yet', changedBlocks: 16, closedMs: 0.5 },
      exportName: sessionId,
      ...(this.journal === null ? {} : { journal: this.journal.cut() }),
    };
  }

  /** As when the preserve area is full. */
  giveUp(reason: string): void {
    if (this.#hold !== null) this.#hold = { ...this.#hold, state: 'invalid', reason };
  }

  async abort(): Promise<void> {
    if (this.#hold !== null || this.#prepared !== null) this.calls.push('abort');
    this.#hold = this.#prepared = null;
    this.gate = 'open';
  }

  async commit(): Promise<void> {
    this.calls.push('commit');
    this.#hold = null;
  }

  async mark(ranges: readonly (readonly [number, number])[]): Promise<void> {
    this.calls.push(`mark ${JSON.stringify(ranges)}`);
  }

  async adopt(pointId: string, complete: boolean): Promise<void> {
    this.calls.push(`adopt ${pointId} ${complete}`);
    this.#hold = null;
  }

  async voidMap(reason: string): Promise<void> {
    this.calls.push('voidMap');
    this.#mapReason = reason;
  }

  async checkSource(): Promise<TapSourceState> {
    return { sizeBytes: SIZE_BYTES, leastBytes: SIZE_BYTES, foreignWriters: 0 };
  }

  async releaseJournal(journalId: string, ordinal: number): Promise<void> {
    this.calls.push(`releaseJournal ${journalId} ${ordinal}`);
    this.journal?.release(journalId, ordinal);
  }

  async stampJournal(): Promise<TapJournalPosition | null> {
    return this.journal?.stamp() ?? null;
  }

  async breakJournal(journalId: string, reason: string): Promise<void> {
    this.calls.push(`breakJournal ${journalId} ${reason}`);
    this.journal?.break(journalId, reason);
  }

  async stop(): Promise<void> {
    this.calls.push('stop');
  }

  async close(continuity: string): Promise<string> {
    this.calls.push('close');
    this.#writeMap(true, continuity);
    return this.closingFailure;
  }

  #writeMap(clean: boolean, continuity: string): void {
    const { mapPath, identity, blockSize } = this.options;
    if (mapPath === null) return;
    const header: TapMapHeader = {
      ...{ identity, blockSize, clean, continuity, sizeBytes: SIZE_BYTES, pointIds: [] },
    };
    writeFileSync(mapPath, JSON.stringify(header));
  }
}

export interface FakeTapAddon extends Pick<TapAddon, 'createTap' | 'readTapMap'> {
  /** All that were made. */
  readonly taps: FakeTap[];
}

export function fakeTapAddon(): FakeTapAddon {
  const taps: FakeTap[] = [];
  return {
    taps,
    createTap: async (options) => {
      const tap = new FakeTap(options);
      taps.push(tap);
      return tap;
    },
    readTapMap: async (path) => {
      try {
        return JSON.parse(readFileSync(path, 'utf8')) as TapMapHeader;
      } catch (error) {
        if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
        throw Object.assign(new Error('it is no map file'), { code: 'bad-magic' });
      }
    },
  };
}
