/**
 * One attempt of a group: a session for each device, side by side. They wait for each other twice: for the
 * common instant (src/capture/group/), and before their commits (meeting.ts).
 *
 * | one fails               | the others                                                                   |
 * |-------------------------|------------------------------------------------------------------------------|
 * | and can do better       | are cancelled: the whole attempt is made anew                                |
 * | before they have met    | are cancelled; or go on without it, if it may be left out                    |
 * | at its commit           | the receiver refuses them, too: none is a point. They are not cancelled,     |
 * |                         | because a commit that is under way may be one that was taken                 |
 *
 * With a leader elsewhere the instant and the commits are common to several hosts, which it waits for; what
 * can do better after the instant has to wait for the next backup (run-group.ts).
 *
 * After the instant a few transfers at once are enough for the link and the processors: the other views are
 * static, and wait for their turn. Late ones have begun long before, and need none.
 */
import { randomBytes } from 'node:crypto';
import type { ChosenMember } from '../../capture/choice/choose.js';
import { GroupInstant } from '../../capture/group/group-instant.js';
import type { SnapshotProvider } from '../../capture/ports.js';
import { deviceError } from '../../devices/system/device-error.js';
import { type ErrorCode, isStillpointError } from '../../domain/base/errors.js';
import type { PointGroup } from '../../domain/point/point.js';
import { attempt } from '../backup/attempt.js';
import type { Backup, Together } from '../backup/context.js';
import { ChangesDoubted, type FoundOut, ResumeDoubted } from '../backup/findings.js';
import type { BackupResult } from '../backup/options.js';
import { Slots } from '../common/slots.js';
import { Meeting } from './meeting.js';
import type { GroupBackupOptions, GroupMember, LeftOutMember } from './options.js';
import { ofDevice, reasonOf } from './words.js';

/** Each has the memory of a scan, and batches in flight. */
const TRANSFERS_MAX = 4;

export interface GroupDevice {
  readonly member: GroupMember;
  readonly chosen: ChosenMember;
  /** Without a provider: that comes with each attempt. */
  readonly backup: Backup;
  readonly found: FoundOut;
}

export interface GroupAttemptOptions
  extends Pick<GroupBackupOptions, 'name' | 'rest' | 'missing' | 'stateDirectory' | 'leader'> {
  readonly signal: AbortSignal;
  /** By earlier attempts, or before the first. */
  readonly leftOut: readonly LeftOutMember[];
}

export interface GroupDoubt {
  readonly device: GroupDevice;
  readonly error: unknown;
}

export type GroupAttemptEnd = {
  /** By this attempt. */
  readonly leftOut: readonly { readonly device: string; readonly error: unknown }[];
} & (
  | { readonly outcome: 'points'; readonly group: PointGroup; readonly results: readonly BackupResult[] }
  /** Another attempt can do better, also without those that were left out. */
  | { readonly outcome: 'again'; readonly doubts: readonly GroupDoubt[] }
  | { readonly outcome: 'failed'; readonly error: unknown }
);

/** Does not reject. */
export function attemptGroup(
  devices: readonly GroupDevice[],
  options: GroupAttemptOptions,
): Promise<GroupAttemptEnd> {
  return new GroupAttempt(devices, options).run();
}

class GroupAttempt {
  readonly #devices: readonly GroupDevice[];
  readonly #options: GroupAttemptOptions;
  readonly #instant: GroupInstant;
  readonly #meeting: Meeting;
  readonly #turns = new Slots(TRANSFERS_MAX);
  /** Aborted when the attempt has failed. */
  readonly #stop = new AbortController();
  readonly #signal: AbortSignal;
  readonly #leftOut = new Map<string, unknown>();
  readonly #doubts: GroupDoubt[] = [];
  /** In the order in which they came. */
  readonly #failures: { readonly device: string; readonly error: unknown }[] = [];

  constructor(devices: readonly GroupDevice[], options: GroupAttemptOptions) {
    const { name, rest, missing, leftOut, leader } = options;
    this.#devices = devices;
    this.#options = options;
    this.#signal = AbortSignal.any([options.signal, this.#stop.signal]);
    const names = devices.map(({ member }) => member.device);
    this.#instant = new GroupInstant(names, { rest, missing, leader });
    this.#meeting = new Meeting({
      ...{ id: randomBytes(16).toString('hex'), name, devices: names, leader },
      leftOut: new Map(leftOut.map(({ device, error }) => [device, reasonOf(error)])),
    });
  }

  async run(): Promise<GroupAttemptEnd> {
    const all = await Promise.all(this.#devices.map((device) => this.#attemptOne(device)));
    const results = all.flatMap((result) => result ?? []);
    const leftOut = [...this.#leftOut].map(([device, error]) => ({ device, error }));
    const group = results[0]?.point.group;
    if (group !== undefined && results.length + leftOut.length === all.length)
      return { outcome: 'points', group, results, leftOut };
    if (this.#options.signal.aborted) return { outcome: 'failed', error: this.#cause(), leftOut };
    if (this.#doubts.length > 0) return { outcome: 'again', doubts: this.#doubts, leftOut };
    const refused = results.length > 0 ? null : this.#refusedAtCommit();
    if (refused !== null) return { outcome: 'again', doubts: [], leftOut: [...leftOut, refused] };
    return { outcome: 'failed', error: this.#cause(), leftOut };
  }

  /** Does not reject. @returns null: it has no point */
  async #attemptOne(device: GroupDevice): Promise<BackupResult | null> {
    const { member, backup, found, chosen } = device;
    const signal = this.#signal;
    const turn = new Turn(this.#turns, signal);
    const provider = turn.of(this.#instant.snapshotProviderOf(member.device, chosen));
    const together: Together = {
      transferred: (facts) => {
        turn.end();
        return this.#meeting.togetherOf(member.device).transferred(facts);
      },
    };
    try {
      const options = { ...backup.options, provider, signal };
      return await attempt({ ...backup, options, signal, together }, found.findings);
    } catch (error) {
      this.#failed(device, error);
      return null;
    } finally {
      turn.end();
    }
  }

  #failed(device: GroupDevice, raw: unknown): void {
    const name = device.member.device;
    const isOfAll = this.#instant.end?.error === raw;
    const error = this.#named(isOfAll ? this.#atFault() : device, raw);
    this.#instant.leave(name, error);
    if (this.#signal.aborted) {
      // The others are cancelled for one that came before; or all of them by the user.
      this.#failures.push({ device: name, error });
    } else if (canDoBetter(error) && !this.#meeting.hasMet) {
      this.#doubts.push({ device, error });
      this.#stop.abort();
    } else if (!isOfAll && this.#mayLeaveOut(error)) {
      this.#leftOut.set(name, error);
      this.#meeting.leave(name, reasonOf(error));
    } else {
      this.#failures.push({ device: name, error });
      if (!this.#meeting.hasMet) this.#stop.abort();
    }
  }

  #named(device: GroupDevice | null, error: unknown): unknown {
    if (device === null) return error;
    const { member } = device;
    return ofDevice(member, deviceError(member.path, error, this.#options));
  }

  /** Whose member failed in the instant, if it was one. */
  #atFault(): GroupDevice | null {
    const name = this.#instant.end?.device;
    return this.#devices.find(({ member }) => member.device === name) ?? null;
  }

  #mayLeaveOut(error: unknown): boolean {
    const { missing } = this.#options;
    if (missing === 'fail' || this.#meeting.hasMet || this.#meeting.expectedCount === 1) return false;
    return isStillpointError(error) && error.code !== 'group-failed';
  }

  /** The member that was at fault when the receiver refused them all, if it may be left out. */
  #refusedAtCommit(): { readonly device: string; readonly error: unknown } | null {
    if (this.#options.missing === 'fail' || !this.#meeting.hasMet) return null;
    const isOthers = ({ error }: { readonly error: unknown }) => isStillpointError(error, 'group-failed');
    const [own, ...more] = this.#failures.filter((one) => !isOthers(one));
    const others = this.#failures.filter(isOthers);
    return own === undefined || more.length > 0 || others.length === 0 ? null : own;
  }

  /** The first that was nobody else's. */
  #cause(): unknown {
    const isOf = (code: ErrorCode) => (one: { readonly error: unknown }) =>
      isStillpointError(one.error, code);
    const own = this.#failures.find((one) => !isOf('group-failed')(one) && !isOf('cancelled')(one));
    return (own ?? this.#failures.find(isOf('cancelled')) ?? this.#failures[0])?.error;
  }
}

function canDoBetter(error: unknown): boolean {
  return (
    error instanceof ChangesDoubted || error instanceof ResumeDoubted || isStillpointError(error, 'bad-patch')
  );
}

/** Of one session: from its static view to the end of its transfer. */
class Turn {
  readonly #turns: Slots;
  readonly #signal: AbortSignal;
  #end: () => void = () => undefined;

  constructor(turns: Slots, signal: AbortSignal) {
    this.#turns = turns;
    this.#signal = signal;
  }

  of({ name, hold }: SnapshotProvider): SnapshotProvider {
    return {
      name,
      hold: async (path, options) => {
        const snapshot = await hold(path, options);
        if (snapshot.passes !== undefined) return snapshot;
        try {
          this.#end = await this.#turns.take(this.#signal);
        } catch (error) {
          await snapshot.release();
          throw error;
        }
        return snapshot;
      },
    };
  }

  /** Harmless a second time. */
  end(): void {
    this.#end();
  }
}
