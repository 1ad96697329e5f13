/**
 * A bounded number of bytes, shared fairly between owners: the memory that request bodies, or answers, may
 * hold at once.
 *
 * A request waits if it asks for more than is free or for more than its owner's share (half of all, so that
 * one agent alone can never shut out the others), or if an earlier request of its owner waits. Owners take
 * turns; the requests of one owner are served in order. If the first request of the owner whose turn it is is
 * large, nobody overtakes it, so it does not starve. A wait ends with `busy` at its deadline; before that,
 * transfers that trickle give way (laggards.ts). Where too many wait, the last one of the owner that has most
 * of them ends, so no owner's queue is in the way of another's.
 */
import { StillpointError } from '../../domain/base/errors.js';
import { Laggards } from './laggards.js';

/** Gives bytes back, all but those that are still needed; after all are given back, nothing. */
export type Release = (keptBytes?: number) => void;

interface Waiting {
  readonly bytes: number;
  readonly admit: () => void;
  readonly refuse: () => void;
}

/** Of a wait, before transfers that trickle are looked at, and between looks. */
const PRESS_MS = 10_000;
/** Part of the capacity that transfers may hold however slow they are. */
const SPARED_PART = 1 / 4;

export class ByteBudget {
  /** Transfers that hold a part of it. */
  readonly laggards: Laggards;
  readonly #capacity: number;
  readonly #waitingMax: number;
  #used = 0;
  #waitingCount = 0;
  readonly #usedBy = new Map<string, number>();
  /** Only owners that wait, in the order of their turns. */
  readonly #queues = new Map<string, Waiting[]>();

  constructor(capacityBytes: number, waitingMax: number) {
    this.#capacity = capacityBytes;
    this.#waitingMax = waitingMax;
    this.laggards = new Laggards(capacityBytes * SPARED_PART);
  }

  get usedBytes(): number {
    return this.#used;
  }

  /** @param bytes at most half of the capacity. */
  async acquire(owner: string, bytes: number, deadlineMs: number): Promise<Release> {
    if (bytes > this.#share()) throw new Error(`${bytes} bytes can never be had of this budget`);
    if (this.#queues.size === 0 && this.#fits(owner, bytes)) return this.#take(owner, bytes);
    if (this.#waitingCount >= this.#waitingMax) this.#makePlace(owner);
    await this.#wait(owner, bytes, deadlineMs);
    return this.#releaser(owner, bytes);
  }

  #wait(owner: string, bytes: number, deadlineMs: number): Promise<void> {
    return new Promise((resolve, reject) => {
      const over = (outcome: () => void) => () => {
        clearTimeout(timer);
        clearInterval(pressing);
        outcome();
      };
      const refuse = over(() => {
        this.#remove(owner, waiting);
        this.#admitWaiting();
        reject(busy());
      });
      const waiting: Waiting = { bytes, admit: over(resolve), refuse };
      const pressing = setInterval(() => this.#press(owner, bytes), PRESS_MS).unref();
      const timer = setTimeout(refuse, deadlineMs);
      const queue = this.#queues.get(owner);
      if (queue === undefined) this.#queues.set(owner, [waiting]);
      else queue.push(waiting);
      this.#waitingCount += 1;
      this.#admitWaiting();
    });
  }

  /** Not for an owner that waits for its own share: the room would not be for it. */
  #press(owner: string, bytes: number): void {
    const isAtShare = this.#heldBy(owner) + bytes > this.#share();
    if (!isAtShare && this.#used + bytes > this.#capacity) this.laggards.makeRoom(bytes);
  }

  /** For one more that waits. @throws StillpointError `busy` where no owner has more waiting than this one */
  #makePlace(owner: string): void {
    let longest: readonly Waiting[] = [];
    for (const queue of this.#queues.values()) if (queue.length > longest.length) longest = queue;
    if (longest.length <= (this.#queues.get(owner)?.length ?? 0) + 1) throw busy();
    longest.at(-1)?.refuse();
  }

  /**
   * Goes round the owners. One that is at its share is passed over; one that only waits for
   * free bytes stops the round.
   */
  #admitWaiting(): void {
    for (let admitted = true; admitted; ) {
      admitted = false;
      for (const [owner, [head]] of [...this.#queues]) {
        if (head === undefined || this.#heldBy(owner) + head.bytes > this.#share()) continue;
        if (this.#used + head.bytes > this.#capacity) return;
        this.#remove(owner, head);
        this.#count(owner, head.bytes);
        head.admit();
        admitted = true;
      }
    }
  }

  /** If it was its turn, the owner goes to the end of the round; with nothing that waits, out of it. */
  #remove(owner: string, waiting: Waiting): void {
    const queue = this.#queues.get(owner) ?? [];
    const rest = queue.filter((other) => other !== waiting);
    if (queue[0] === waiting) this.#queues.delete(owner);
    if (rest.length > 0) this.#queues.set(owner, rest);
    this.#waitingCount -= 1;
  }

  #fits(owner: string, bytes: number): boolean {
    return this.#used + bytes <= this.#capacity && this.#heldBy(owner) + bytes <= this.#share();
  }

  #take(owner: string, bytes: number): Release {
    this.#count(owner, bytes);
    return this.#releaser(owner, bytes);
  }

  #releaser(owner: string, bytes: number): Release {
    let held = bytes;
    return (keptBytes = 0) => {
      const given = held - Math.min(held, keptBytes);
      if (given === 0) return;
      held -= given;
      this.#count(owner, -given);
      this.#admitWaiting();
    };
  }

  #count(owner: string, bytes: number): void {
    this.#used += bytes;
    const held = this.#heldBy(owner) + bytes;
    if (held === 0) this.#usedBy.delete(owner);
    else this.#usedBy.set(owner, held);
  }

  #heldBy(owner: string): number {
    return this.#usedBy.get(owner) ?? 0;
  }

  #share(): number {
    return this.#capacity / 2;
  }
}

function busy(): StillpointError {
  return new StillpointError('busy', {
    thing: 'receiver',
    reason: 'it already holds as many messages in memory as it can',
    remedy: 'The message is sent again later.',
    permanent: false,
  });
}
