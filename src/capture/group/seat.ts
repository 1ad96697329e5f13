/** A device among those that have one instant: where it is (the table of group-instant.ts), and who waits. */
import type { LedInstant, LedTry } from '../leader.js';
import type { Member, Snapshot } from '../ports.js';
import { inTime } from '../waiting.js';

interface Arrival {
  readonly sinceMs: number;
  /** Null: not now; late ones go on with their passes, others prepare anew. */
  readonly resolve: (snapshot: Snapshot | null) => void;
  readonly reject: (error: unknown) => void;
}

export interface Seat {
  readonly device: string;
  state: 'preparing' | 'passing' | 'waiting' | 'held' | 'gone';
  /** Unless preparing. */
  member: Member | null;
  /** Of one that waits. */
  arrival: Arrival | null;
  /** It left while the instant was taken: why. */
  leaving: { readonly error: unknown } | null;
  /** In the instant that was tried last it was its member that failed. */
  failure: unknown;
}

export function newSeat(device: string): Seat {
  return { device, state: 'preparing', member: null, arrival: null, leaving: null, failure: null };
}

/** The member, for one try: if that fails, it is known which of them did. */
export function noting(seat: Seat): Member[] {
  const { member } = seat;
  seat.failure = null;
  const note = (error: unknown): never => {
    seat.failure = error;
    throw error;
  };
  return member === null
    ? []
    : [
        {
          ...member,
          close: (limits) => member.close(limits).catch(note),
          cut: async (standstill) => {
            const cut = await member.cut(standstill).catch(note);
            return { ...cut, view: (kind) => cut.view(kind).catch(note) };
          },
        },
      ];
}

/** The leader hears of devices by their names. */
export function ledFor(seats: readonly Seat[], led: LedTry | undefined): LedInstant | undefined {
  if (led === undefined) return undefined;
  return {
    ...{ restMs: led.restMs, closedMs: led.closedMs },
    rested: () => led.rested(),
    closed: () => led.closed(),
    cut: (stallsMs) => led.cut(seats.map(({ device }, i) => ({ device, stallMs: stallsMs[i] ?? 0 }))),
  };
}

/** One that waits goes on. */
export function tell(seat: Seat, state: Seat['state'], snapshot: Snapshot | null): void {
  const { arrival } = seat;
  seat.arrival = null;
  seat.state = state;
  arrival?.resolve(snapshot);
}

/** What was prepared is given back first; of a late one its snapshot does that once more, harmlessly. */
export function leave(seat: Seat, error: unknown): void {
  const { arrival, member } = seat;
  seat.arrival = null;
  seat.state = 'gone';
  const released = member === null ? Promise.resolve() : inTime(member.release().catch(() => undefined));
  void released.then(() => arrival?.reject(error));
}
