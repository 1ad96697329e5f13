/** Devices here that have one instant with other hosts, and a leader whose answers a test gives. */

import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { GroupInstant } from '../../../src/capture/group/group-instant.js';
import { NO_REST } from '../../../src/capture/instant.js';
import type { InstantLeader, LedTry } from '../../../src/capture/leader.js';
import type { Snapshot } from '../../../src/capture/ports.js';
import type { MemberStall } from '../../../src/domain/group/steps.js';
import { FakeDisk, type FakeDiskOptions } from '../fakes/provider.js';
import { holdAsSession } from './hold-as-session.js';

export const INSTANT = new Date('2031-01-01T00:00:00.000Z');

interface Missed {
  readonly why: string;
  readonly isAgain: boolean;
}

/** A leader whose answers the test gives. */
class FakeLeader implements InstantLeader {
  restMs = 2_000;
  closedMs = 2_000;
  /** Before it says that they are to rest. */
  beforeRest: () => Promise<void> | void = () => undefined;
  /** Before it says that they are to close: may throw. */
  beforeClose: () => Promise<void> | void = () => undefined;
  /** Before it says that they are to be cut: may throw. */
  beforeCut: (attempt: number) => Promise<void> | void = () => undefined;
  readonly log: string[];
  readonly missed: Missed[] = [];
  stalls: readonly MemberStall[] | null = null;
  withdrawn = 0;
  #tries = 0;

  constructor(log: string[]) {
    this.log = log;
  }

  async ready(signal: AbortSignal): Promise<LedTry> {
    this.#tries += 1;
    const attempt = this.#tries;
    this.log.push('ready');
    signal.addEventListener('abort', () => {
      this.withdrawn += 1;
    });
    await this.beforeRest();
    this.log.push('told to rest');
    return {
      ...{ restMs: this.restMs, closedMs: this.closedMs },
      rested: async () => {
        this.log.push('all at rest');
        await this.beforeClose();
        this.log.push('told to close');
      },
      closed: async () => {
        this.log.push('all closed');
        await this.beforeCut(attempt);
        this.log.push('told to cut');
        return INSTANT;
      },
      cut: (stalls) => {
        this.log.push('reported cut');
        this.stalls = stalls;
      },
      missed: (error, isAgain) => {
        this.log.push('reported missed');
        this.missed.push({ why: (error as Error).message, isAgain });
      },
    };
  }
}

export class LedScene {
  readonly log: string[] = [];
  readonly leader = new FakeLeader(this.log);
  readonly disks: readonly FakeDisk[];
  readonly instant: GroupInstant;
  readonly cancels: readonly AbortController[];

  constructor(disks: readonly FakeDiskOptions[], rest = {}) {
    this.disks = disks.map((one, i) => new FakeDisk('abcd'.charAt(i), { ...one, log: this.log }));
    this.cancels = disks.map(() => new AbortController());
    this.instant = new GroupInstant(
      this.disks.map(({ name }) => name),
      { rest: { ...NO_REST, name: 'all', ...rest }, missing: 'fail', leader: this.leader },
    );
  }

  disk(i: number): FakeDisk {
    return this.disks[i] as FakeDisk;
  }

  hold(i: number): Promise<Snapshot> {
    return holdAsSession(this.instant, this.disk(i), this.cancels[i]?.signal);
  }

  holdAll(): Promise<Snapshot[]> {
    return Promise.all(this.disks.map((_, i) => this.hold(i)));
  }

  count(what: string): number {
    return this.log.filter((line) => line === what).length;
  }

  /** Nothing stays closed or prepared: a write is answered. */
  async isFree(t: ExecutionContext): Promise<void> {
    for (let tries = 0; tries < 200 && !this.disks.every((disk) => disk.isFree); tries += 1) await sleep(5);
    t.true(this.disks.every((disk) => disk.isFree));
    for (const disk of this.disks) await disk.write(0, 1);
  }

  async release(snapshots: readonly Snapshot[]): Promise<void> {
    for (const snapshot of snapshots) await snapshot.release();
  }
}
