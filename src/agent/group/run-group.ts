/**
 * One backup of several devices with one instant: a session for each, side by side (group-attempt.ts), until
 * all have their points. If one of them has found out that it can do better, all begin anew, because the
 * instant is common.
 */
import { checkRestOfAll, chooseMember } from '../../capture/choice/choose.js';
import { PROVIDERS } from '../../capture/choice/list.js';
import type { Provider } from '../../capture/ports.js';
import { deviceError } from '../../devices/system/device-error.js';
import { StillpointError } from '../../domain/base/errors.js';
import { checkNamesApart } from '../../domain/point/group.js';
import { native } from '../../native/index.js';
import type { Backup } from '../backup/context.js';
import { FoundOut } from '../backup/findings.js';
import { throwIfCancelled } from '../common/cancel.js';
import { keepLinkHint, readLinkHint } from '../common/link-hint.js';
import { retrying } from '../common/retrying.js';
import { DeviceState } from '../state/device-state.js';
import { checkStore } from '../state/known-stores.js';
import { checkMembers } from './check-members.js';
import { attemptGroup, type GroupDevice, type GroupDoubt } from './group-attempt.js';
import type { GroupBackupOptions, GroupBackupResult, GroupMember, LeftOutMember } from './options.js';
import { ofDevice, reasonOf } from './words.js';

/**
 * @returns when all points are committed, which are one group point.
 * @throws StillpointError of the member that was at fault, by its name; then there is none of the points, or
 * (if the answer to a commit was lost for good) all of them, and the next backup finds them
 */
export async function runGroupBackup(
  options: GroupBackupOptions,
  providers: readonly Provider[] = PROVIDERS,
): Promise<GroupBackupResult> {
  await checkMembers(options);
  const { stateDirectory, place, acceptStore = false, meter } = options;
  const signal = options.signal ?? new AbortController().signal;
  const receiver = retrying(options.receiver, signal);
  const { storeId, agent } = await receiver.info();
  if (place !== undefined) await checkStore(stateDirectory, place, storeId, acceptStore);
  const hint = meter && (await readLinkHint(stateDirectory, storeId));
  if (hint) meter?.suppose(hint);
  const run = new GroupRun(options, signal, providers);
  try {
    await run.open(receiver, { storeId, agent });
    return await run.untilDone();
  } finally {
    await run.close();
    await keepLinkHint(stateDirectory, storeId, meter?.result ?? null, hint ?? null);
  }
}

/**
 * State: the devices that take part only get fewer; each that does not is among those left out, with its
 * error.
 */
class GroupRun {
  readonly #options: GroupBackupOptions;
  readonly #signal: AbortSignal;
  readonly #providers: readonly Provider[];
  readonly #devices = new Map<string, GroupDevice>();
  readonly #leftOut: LeftOutMember[] = [];

  constructor(options: GroupBackupOptions, signal: AbortSignal, providers: readonly Provider[]) {
    this.#options = options;
    this.#signal = signal;
    this.#providers = providers;
  }

  async open(receiver: Backup['receiver'], store: { storeId: string; agent: string }): Promise<void> {
    const { members, name, rest } = this.#options;
    // The commits would be refused, after all else.
    checkNamesApart(await receiver.points(undefined, { last: true }), { group: name });
    for (const member of members) {
      throwIfCancelled(this.#signal);
      try {
        this.#devices.set(member.device, await this.#openMember(member, receiver, store));
      } catch (error) {
        throwIfCancelled(this.#signal);
        this.#leaveOut(member.device, error);
      }
    }
    const chosen = [...this.#devices.values()].map(({ chosen }) => chosen);
    checkRestOfAll(`group ${name}`, rest, chosen);
  }

  async #openMember(
    member: GroupMember,
    receiver: Backup['receiver'],
    store: { storeId: string; agent: string },
  ): Promise<GroupDevice> {
    const { path, device, provider: wanted } = member;
    const { receiver: direct, meter, place, acceptStore, patienceMs, stateDirectory, rest } = this.#options;
    const onEvent: Backup['onEvent'] = (event) => this.#options.onEvent?.(device, event);
    const given = { receiver: direct, meter, place, acceptStore, patienceMs, stateDirectory };
    let state: DeviceState | null = null;
    try {
      const chosen = await chooseMember({ stateDirectory, path, wanted, rest }, this.#providers);
      if (chosen.note !== null) onEvent({ type: 'notice', text: chosen.note });
      state = await DeviceState.open(stateDirectory, { ...store, device }, native.plainDigester());
      const options = { ...given, ...member, provider: undefined, signal: this.#signal };
      const backup = { options, state, receiver, signal: this.#signal, onEvent };
      return { member, chosen, backup, found: await FoundOut.begin(backup) };
    } catch (error) {
      await state?.close();
      throw ofDevice(member, deviceError(path, error, { stateDirectory }));
    }
  }

  /** @throws it, unless the others may go on without the device */
  #leaveOut(device: string, error: unknown): void {
    if (!(error instanceof StillpointError) || this.#options.missing === 'fail') throw error;
    this.#leftOut.push({ device, error });
    const text = `${device} is left out: ${error.message}`;
    this.#options.onEvent?.(null, { type: 'warning', text });
    if (this.#leftOut.length === this.#options.members.length) throw error;
  }

  async untilDone(): Promise<GroupBackupResult> {
    for (;;) {
      throwIfCancelled(this.#signal);
      const taking = this.#taking();
      const ended = await attemptGroup(taking, {
        ...this.#options,
        signal: this.#signal,
        leftOut: this.#leftOut,
      });
      for (const { device, error } of ended.leftOut) this.#leaveOut(device, error);
      if (ended.outcome === 'points')
        return { group: ended.group, results: ended.results, leftOut: this.#leftOut };
      if (ended.outcome === 'failed') throw ended.error;
      if (this.#options.leader?.hasCut === true) throw this.#tooLate(ended.doubts);
      for (const { device, error } of ended.doubts) await this.#learn(device, error);
    }
  }

  /** A device of several hosts has had its instant: what it has found out goes for the next backup. */
  #tooLate(doubts: readonly GroupDoubt[]): unknown {
    for (const { device } of doubts) this.#options.onDoubt?.(device.member.device);
    const [first] = doubts;
    if (first === undefined) return new Error('an attempt that can be made anew has a reason');
    return new StillpointError('device-changed', {
      thing: `${first.device.member.device} (${first.device.member.path})`,
      reason: `it has to be read anew, and the instant of the group can't be taken again: ${reasonOf(first.error)}`,
      remedy: 'Try again: the next backup of the group reads all of it.',
      permanent: false,
      cause: first.error,
    });
  }

  /** What it has found out goes for the next attempt, or it is at fault. */
  async #learn(device: GroupDevice, doubt: unknown): Promise<void> {
    const { member, found } = device;
    try {
      await found.learn(doubt);
    } catch (error) {
      throwIfCancelled(this.#signal);
      this.#leaveOut(member.device, ofDevice(member, deviceError(member.path, error)));
    }
  }

  #taking(): GroupDevice[] {
    const out = new Set(this.#leftOut.map(({ device }) => device));
    return [...this.#devices.values()].filter(({ member }) => !out.has(member.device));
  }

  async close(): Promise<void> {
    for (const { backup } of this.#devices.values()) await backup.state.close();
  }
}
