/**
 * An image, a store in a directory with its receiver in the process, and backups and restores between them.
 */
import { cp, mkdir, open, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { runBackup } from '../../../src/agent/backup/backup.js';
import type { BackupOptions, BackupResult } from '../../../src/agent/backup/options.js';
import type { AgentEvent } from '../../../src/agent/common/events.js';
import { runRestore } from '../../../src/agent/restore/restore.js';
import { deviceStateDirectory } from '../../../src/agent/state/device-state.js';
import type { SnapshotProvider } from '../../../src/capture/ports.js';
import { LOCAL_AGENT } from '../../../src/domain/base/names.js';
import type { Point } from '../../../src/domain/point/point.js';
import type { Device } from '../../../src/native/index.js';
import type { ReceiverPort } from '../../../src/protocol/port/receiver.js';
import { openEmbeddedReceiver } from '../../../src/receiver/embedded.js';
import { createStore, openStore } from '../../../src/store/open.js';
import { makeStampedImage, writeStamped } from '../bytes/stamped-blocks.js';
import { temporaryDirectory } from '../disks/loop-device.js';

export const BLOCK = 65_536;
export const DEVICE = 'disk1';

export class BackupWorld {
  readonly directory: string;
  readonly image: string;
  readonly stateDirectory: string;
  readonly storeId: string;
  /** Of all backups so far. */
  readonly events: AgentEvent[] = [];
  #receiver: ReceiverPort;
  #restores = 0;

  private constructor(directory: string, receiver: ReceiverPort, storeId: string) {
    this.directory = directory;
    this.image = join(directory, 'disk.img');
    this.stateDirectory = join(directory, 'state');
    this.#receiver = receiver;
    this.storeId = storeId;
  }

  static async make(t: ExecutionContext, parent?: string): Promise<BackupWorld> {
    const directory = await temporaryDirectory(t, 'backup', parent);
    await createStore(join(directory, 'store'));
    const receiver = await openEmbeddedReceiver(join(directory, 'store'), { openStore });
    const { storeId } = await receiver.info();
    const world = new BackupWorld(directory, receiver, storeId);
    t.teardown(() => world.receiver.close());
    return world;
  }

  get receiver(): ReceiverPort {
    return this.#receiver;
  }

  get store(): string {
    return join(this.directory, 'store');
  }

  /** @returns a directory that holds the store as it is now. */
  async copyStore(name: string): Promise<string> {
    const copy = join(this.directory, name);
    await this.#whileClosed(() => cp(this.store, copy, { recursive: true, preserveTimestamps: true }));
    return copy;
  }

  /** By a copy, as if that had been restored. */
  async replaceStore(copy: string): Promise<void> {
    await this.#whileClosed(async () => {
      await rm(this.store, { recursive: true });
      await rename(copy, this.store);
    });
  }

  async #whileClosed(work: () => Promise<void>): Promise<void> {
    await this.#receiver.close();
    await work();
    this.#receiver = await openEmbeddedReceiver(this.store, { openStore });
  }

  /** Of the device. */
  get deviceState(): string {
    return deviceStateDirectory(this.stateDirectory, {
      storeId: this.storeId,
      agent: LOCAL_AGENT,
      device: DEVICE,
    });
  }

  makeImage(sizeBytes: number, blockIndexes: Iterable<number>): Promise<void> {
    return makeStampedImage(this.image, { sizeBytes, blockSize: BLOCK, seed: 1, blockIndexes });
  }

  async change(generation: number, blockIndexes: Iterable<number>, sizeBytes?: number): Promise<void> {
    const file = await open(this.image, 'r+');
    try {
      for (const blockIndex of blockIndexes) {
        await writeStamped(file, { seed: 1, blockIndex, generation }, BLOCK, sizeBytes);
      }
    } finally {
      await file.close();
    }
  }

  backup(options: Partial<BackupOptions> = {}): Promise<BackupResult> {
    const { receiver, image: path, stateDirectory } = this;
    return runBackup({
      ...{ receiver, path, device: DEVICE, stateDirectory },
      onEvent: (event) => this.events.push(event),
      ...options,
    });
  }

  points(): Promise<Point[]> {
    return this.receiver.points(DEVICE);
  }

  /** What the point holds, restored to an image of its own. */
  async contents(point: Point): Promise<Buffer> {
    this.#restores += 1;
    const target = join(this.directory, `restored-${this.#restores}`);
    const { receiver, stateDirectory } = this;
    await runRestore({ receiver, point, target, stateDirectory });
    const bytes = await readFile(target);
    await rm(target);
    return bytes;
  }

  notices(): string[] {
    return this.events.flatMap((event) => (event.type === 'notice' ? [event.text] : []));
  }

  async forgetState(): Promise<void> {
    await rm(this.stateDirectory, { recursive: true });
    await mkdir(this.stateDirectory);
  }
}

/** A provider whose static view is a device at hand, in memory for example; it stays open. */
export function providerOf(device: Device): SnapshotProvider {
  return {
    name: 'test',
    hold: async () => ({
      device,
      identity: { type: 'image', path: '/memory', logicalSectorSize: device.logicalSectorSize },
      instant: new Date(),
      kind: 'idle',
      warnings: [],
      conclude: async () => ({ kind: 'idle', warnings: [] }),
      release: async () => undefined,
    }),
  };
}

/** A receiver on which each call may fail, before it has worked or after, as `fault` says. */
export function faultyReceiver(
  receiver: ReceiverPort,
  fault: (method: keyof ReceiverPort) => { readonly before?: Error; readonly after?: Error } | null,
): ReceiverPort {
  return new Proxy(receiver, {
    get: (target, name: keyof ReceiverPort) => {
      const method = target[name] as (...args: unknown[]) => unknown;
      if (name === 'verify') return method.bind(target);
      return async (...args: unknown[]) => {
        const planned = fault(name);
        if (planned?.before !== undefined) throw planned.before;
        const answer = await method.apply(target, args);
        if (planned?.after !== undefined) throw planned.after;
        return answer;
      };
    },
  });
}
