/**
 * Where the sessions of a group meet between their transfers and their commits: what each has come to becomes
 * what all have come to, and they commit at the same time. The receiver answers when it has the last of them.
 *
 * | state   | one has transferred    | one leaves                   | the leader has answered |
 * |---------|------------------------|------------------------------|-------------------------|
 * | waiting | the last: → met, or    | the others go on: → met, if  | -                       |
 * |         | with a leader → asking | all of them have transferred |                         |
 * | asking  | refused                | nothing: none is left out    | → met; refused: all are |
 * | met     | refused                | nothing                      | -                       |
 *
 * A leader has the sessions of other hosts, too: they have all of them in common what it answers.
 */

import { StillpointError } from '../../domain/base/errors.js';
import { worstKind } from '../../domain/point/point.js';
import type { CommonFacts, Together, TransferredFacts } from '../backup/context.js';
import type { GroupLeader } from './options.js';

export interface MeetingOptions {
  /** Of the group point, 32 hex digits. */
  readonly id: string;
  /** The group's. */
  readonly name: string;
  /** Of those that are expected, in the order of the group. */
  readonly devices: readonly string[];
  /** Names of those that were left out before, and why, a clause. */
  readonly leftOut: ReadonlyMap<string, string>;
  readonly leader?: GroupLeader | undefined;
}

interface Waiting {
  readonly facts: TransferredFacts;
  readonly resolve: (common: CommonFacts) => void;
  readonly reject: (error: unknown) => void;
}

export class Meeting {
  readonly #options: MeetingOptions;
  readonly #expected: Set<string>;
  readonly #leftOut: Map<string, string>;
  readonly #waiting = new Map<string, Waiting>();
  #isAsking = false;
  #hasMet = false;

  constructor(options: MeetingOptions) {
    this.#options = options;
    this.#expected = new Set(options.devices);
    this.#leftOut = new Map(options.leftOut);
  }

  /** From here on the receiver decides: all become points, or none. */
  get hasMet(): boolean {
    return this.#hasMet;
  }

  /** Those that did not leave. */
  get expectedCount(): number {
    return this.#expected.size;
  }

  /** For the session of one device. */
  togetherOf(device: string): Together {
    return {
      transferred: (facts) =>
        new Promise((resolve, reject) => {
          if (this.#hasMet || this.#isAsking || !this.#expected.has(device)) {
            reject(new Error(`${device}: nobody waits for it`));
            return;
          }
          this.#waiting.set(device, { facts, resolve, reject });
          this.#meetIfAllCame();
        }),
    };
  }

  /** It is left out, by its name. @param why a clause */
  leave(device: string, why: string): void {
    if (this.#hasMet || this.#isAsking || !this.#expected.delete(device)) return;
    this.#waiting.delete(device);
    this.#leftOut.set(device, why);
    this.#meetIfAllCame();
  }

  #meetIfAllCame(): void {
    const all = [...this.#expected].map((device) => this.#waiting.get(device));
    const came = all.flatMap((one) => one ?? []);
    if (came.length === 0 || came.length < all.length) return;
    const common = this.#commonOf(came.map(({ facts }) => facts));
    const { leader } = this.#options;
    if (leader === undefined) this.#meet(came, common);
    else void this.#ask(leader, came, common);
  }

  #meet(came: readonly Waiting[], common: CommonFacts): void {
    this.#hasMet = true;
    for (const { resolve } of came) resolve(common);
  }

  async #ask(leader: GroupLeader, came: readonly Waiting[], own: CommonFacts): Promise<void> {
    this.#isAsking = true;
    try {
      const { kind, group } = await leader.transferred({ kind: own.kind, sessionIds: own.group.sessionIds });
      this.#meet(came, { ...own, kind, group });
    } catch (error) {
      for (const { reject } of came) reject(error);
    }
  }

  #commonOf(all: readonly TransferredFacts[]): CommonFacts {
    const { id, name } = this.#options;
    const missing = [...this.#leftOut.keys()];
    const sessionIds = all.map(({ sessionId }) => sessionId);
    const [instant = '', ...others] = new Set(all.map((facts) => facts.instant));
    if (others.length > 0) throw notOne(name);
    return {
      instant,
      kind: worstKind(all.map(({ kind }) => kind)),
      group: { id, name, sessionIds, ...(missing.length === 0 ? {} : { missing }) },
      warnings: [...this.#leftOut].map(
        ([device, why]) => `${device} is not in this point of ${name}: ${why}`,
      ),
    };
  }
}

/** A defect: their instant was led as one. */
function notOne(name: string): StillpointError {
  return new StillpointError('internal', {
    thing: `group ${name}`,
    reason: 'its members are not of one instant',
  });
}
