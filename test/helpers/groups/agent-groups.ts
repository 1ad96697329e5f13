/** Disks in memory, a store, and backups of all of them with one instant. */
import type { ExecutionContext } from 'ava';
import type { GroupBackupOptions, GroupBackupResult, GroupMember } from '../../../src/agent/group/options.js';
import { runGroupBackup } from '../../../src/agent/group/run-group.js';
import { NO_REST } from '../../../src/capture/instant.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { CommitRequest } from '../../../src/domain/session/messages.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { FakeDisk, type FakeDiskOptions, fakeProvider } from '../fakes/provider.js';
import { BackupWorld } from '../worlds/backup.js';

export class GroupWorld {
  readonly made: BackupWorld;
  readonly log: string[] = [];
  readonly disks: readonly FakeDisk[];
  readonly receiver: WatchedReceiver;
  /** With the device, and null for the group. */
  readonly warnings: [string | null, string][] = [];

  private constructor(made: BackupWorld, disks: readonly FakeDiskOptions[]) {
    this.made = made;
    this.receiver = new WatchedReceiver(made.receiver);
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

/** The receiver, and what is done before it sees a commit: where that fails, the session is over. */
export class WatchedReceiver {
  readonly port: ReceiverPort;
  beforeCommit: (sessionId: string, request: CommitRequest) => Promise<void> | void = () => undefined;
  readonly commits: CommitRequest[] = [];

  constructor(inner: ReceiverPort) {
    this.port = new Proxy(inner, {
      get: (target, name: keyof ReceiverPort) => {
        if (name !== 'commit') return (target[name] as (...args: unknown[]) => unknown).bind(target);
        const commit: ReceiverPort['commit'] = async (sessionId, request) => {
          this.commits.push(request);
          try {
            await this.beforeCommit(sessionId, request);
          } catch (error) {
            await target.abort(sessionId);
            throw error;
          }
          return target.commit(sessionId, request);
        };
        return commit;
      },
    });
  }
}
