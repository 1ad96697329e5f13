/**
 * How the instant of a group over several hosts is led: the receiver says when to rest, to close and to cut,
 * and each host (an agent, with all its members) says how far it is. A host asks for its next command with
 * each report, and the answer waits until there is one. run.ts decides what comes next.
 *
 * | host        | reports       | command that it waits for     | that has come                            |
 * |-------------|---------------|-------------------------------|------------------------------------------|
 * | preparing   | `preparing`   | -: it goes on by itself       | `abandon`: it lets everything go          |
 * | ready       | `ready`       | `rest`                        | hooks bring programs to rest, all flush   |
 * | rested      | `rested`      | `close`                       | freeze, all gates close                   |
 * | closed      | `closed`      | `cut`                         | all are cut, everybody here goes on       |
 * | these two   |               | `open`                        | this try is over: all go on here; ready   |
 * | cut         | `cut`         | -: it sends what differs      | `abandon`                                 |
 * | missed      | `missed`      | as `ready`, if it says again  |                                           |
 * | transferred | `transferred` | `commit`                      | its sessions commit with those of others  |
 * | failed      | `failed`      | -                             |                                           |
 *
 * Nobody is told to cut before all hosts that take part have reported that they are closed. A host whose
 * gates have opened by themselves can't cut (capture/ports.ts), reports `missed`, and is not of the instant.
 * So whatever is late or lost, cuts that were taken on the command of one try are one instant, without
 * clocks. Resting has no part in that. It comes first because hooks and flushing may take a minute, and
 * nobody's writes may wait for those of another host.
 */
import type { OrderFailure } from '../order/order.js';
import type { GroupCommit } from '../point/group.js';
import type { ConsistencyKind } from '../point/point.js';

/** What the instant has cost those who write to a member. */
export interface MemberStall {
  readonly device: string;
  readonly stallMs: number;
}

export type GroupReport =
  | { readonly state: 'preparing' }
  /** @param try the number of the try that would come next, from 1 */
  | { readonly state: 'ready'; readonly try: number }
  | { readonly state: 'rested'; readonly try: number }
  | { readonly state: 'closed'; readonly try: number }
  | { readonly state: 'cut'; readonly try: number; readonly stalls: readonly MemberStall[] }
  /** It could not rest, close or cut in time, and everybody goes on. `again`: another try may reach it. */
  | { readonly state: 'missed'; readonly try: number; readonly again: boolean; readonly error: OrderFailure }
  | {
      readonly state: 'transferred';
      /** The worst of its members. */
      readonly kind: ConsistencyKind;
      /** In the order of its devices. */
      readonly sessionIds: readonly string[];
    }
  | { readonly state: 'failed'; readonly error: OrderFailure };

export type GroupCommand =
  | { readonly do: 'wait' }
  /**
   * @param restMs how long it takes at most until all hosts are told to close, from now
   * @param closedMs how long gates will stay closed at most, each from when it closes
   */
  | { readonly do: 'rest'; readonly try: number; readonly restMs: number; readonly closedMs: number }
  | { readonly do: 'close'; readonly try: number }
  /** @param instant the receiver's clock when the last had closed, ISO 8601: the same for all */
  | { readonly do: 'cut'; readonly try: number; readonly instant: string }
  | { readonly do: 'open'; readonly try: number }
  | { readonly do: 'commit'; readonly kind: ConsistencyKind; readonly group: GroupCommit }
  | { readonly do: 'abandon'; readonly reason: string };

export interface GroupStepRequest {
  readonly runId: string;
  readonly report: GroupReport;
  /** How long the answer may take; then it is `wait`, and the report is sent again. */
  readonly waitMs: number;
}
