/** Disks in memory, a store, and backups of all of them with one instant. */
import type { ExecutionContext } from 'ava';
import type { GroupBackupOptions, GroupBackupResult, GroupMember } from '../../../src/agent/group/options.js';
import { runGroupBackup } from '../../../src/agent/group/run-group.js';
import { NO_REST } from '../../../src/capture/instant.js';
import { StillpointError } from '../../../src/domain/base/errors.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { BackupWorld } from '../worlds/backup.js';
import { FakeDisk, type FakeDiskOptions, fakeProvider } from './provider.js';

export class GroupWorld {
  readonly made: BackupWorld;
  readonly log: string[] = [];
  readonly disks: readonly FakeDisk[];
  readonly receiver: JoiningReceiver;
  /** With the device, and null for the group. */
  readonly warnings: [string | null, string][] = [];

  private constructor(made: BackupWorld, disks: readonly FakeDiskOptions[]) {
    this.made = made;
    this.receiver = new JoiningReceiver(made.receiver);
    this.disks = disks.map((one, i) => new FakeDisk(`/${'abcdef'.charAt(i)}`, { ...one, log: this.log }));
  }

  static async make(t: ExecutionContext, disks: readonly FakeDiskOptions[]): Promise<GroupWorld> {
    return new GroupWorld(await BackupWorld.make(t), disks);
  }

  disk(i: number): FakeDisk {
    return this.disks[i] as FakeDisk;
  }

  get members(): GroupMember[] {
    return this.disks.map(({ name }) => ({ path: name, device: `disk-${name.slice(1)}`, blockSize: 4096 }));
  }

  backup(
    options: Partial<GroupBackupOptions> = {},
    receiver: ReceiverPort = this.receiver.port,
  ): Promise<GroupBackupResult> {
    const { stateDirectory } = this.made;
    const providers = this.disks.map((disk) => fakeProvider(disk.name.slice(1), { disk }));
    const given: GroupBackupOptions = {
      ...{ receiver, stateDirectory, name: 'all', members: this.members, missing: 'fail' },
      rest: { ...NO_REST, name: 'all' },
      onEvent: (device, event) => {
        if (event.type === 'warning') this.warnings.push([device, event.text]);
      },
      ...options,
    };
    return runGroupBackup(given, providers);
  }

  points(): Promise<Point[]> {
    return this.made.receiver.points();
  }
}

interface Joining {
  readonly request: CommitRequest;
  readonly resolve: (point: Point) => void;
  readonly reject: (error: unknown) => void;
}

/** As a receiver that makes points of a group's sessions when it has the commits of all of them. */
export class JoiningReceiver {
  readonly port: ReceiverPort;
  /** Each is done once, before a commit is looked at. */
  beforeCommit: (sessionId: string, request: CommitRequest) => Promise<void> | void = () => undefined;
  readonly commits: CommitRequest[] = [];
  readonly #inner: ReceiverPort;
  readonly #joining = new Map<string, Map<string, Joining>>();

  constructor(inner: ReceiverPort) {
    this.#inner = inner;
    this.port = new Proxy(inner, {
      get: (target, name: keyof ReceiverPort) => {
        if (name === 'commit') return this.#commit.bind(this);
        if (name === 'abort') return this.#abort.bind(this);
        return (target[name] as (...args: unknown[]) => unknown).bind(target);
      },
    });
  }

  async #commit(sessionId: string, request: CommitRequest): Promise<Point> {
    const { group } = request;
    if (group === undefined) throw new Error('it is not of a group');
    this.commits.push(request);
    const joining = this.#joining.get(group.id) ?? new Map<string, Joining>();
    this.#joining.set(group.id, joining);
    const answer = new Promise<Point>((resolve, reject) => {
      joining.set(sessionId, { request, resolve, reject });
    });
    answer.catch(() => undefined);
    try {
      await this.beforeCommit(sessionId, request);
    } catch (error) {
      this.#refuse(group.id, sessionId);
      throw error;
    }
    if (group.sessionIds.every((id) => joining.has(id))) await this.#commitAll(group.id, joining);
    return answer;
  }

  async #commitAll(groupId: string, joining: ReadonlyMap<string, Joining>): Promise<void> {
    this.#joining.delete(groupId);
    for (const [id, { request, resolve }] of joining) {
      const { group, ...alone } = request;
      const point = await this.#inner.commit(id, alone);
      if (group === undefined) throw new Error('it is not of a group');
      const { sessionIds, ...named } = group;
      resolve({ ...point, group: { ...named, sequence: 1, memberCount: sessionIds.length } });
    }
  }

  #refuse(groupId: string, sessionId: string): void {
    const about = { thing: `session ${sessionId}`, reason: 'another session of its group has failed' };
    for (const [id, { reject }] of this.#joining.get(groupId) ?? [])
      if (id !== sessionId) reject(new StillpointError('group-failed', about));
    this.#joining.delete(groupId);
  }

  async #abort(sessionId: string): Promise<void> {
    await this.#inner.abort(sessionId);
    for (const [groupId, joining] of this.#joining) {
      const ids = [...joining.values()].flatMap(({ request }) => request.group?.sessionIds ?? []);
      if (ids.includes(sessionId)) this.#refuse(groupId, sessionId);
    }
  }
}
