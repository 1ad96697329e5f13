/**
 * Group points of devices that a program writes to in turn, each write after the answer to the one before: in
 * every group point the last numbers of all are those that were written last, without holes.
 */
import { open, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import type { GroupMember } from '../../../src/agent/group/options.js';
import { runGroupBackup } from '../../../src/agent/group/run-group.js';
import { MiB } from '../../../src/domain/base/limits.js';
import { groupPoints } from '../../../src/domain/point/group.js';
import { startProcess, stopTap } from '../../../src/tap/launch.js';
import { addTap } from '../../../src/tap/registry/registry.js';
import { FILESYSTEM_PROGRAMS, makeFilesystem } from '../../helpers/disks/filesystem.js';
import { unfreeze } from '../../helpers/disks/freezable.js';
import { attachLoop, detachLoop, mount, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { NbdWriter } from '../../helpers/disks/nbd-writer.js';
import { untrackAtEnd, whyNoTracking } from '../../helpers/live/world.js';
import { COMMAND } from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';
import { BackupWorld } from '../../helpers/worlds/backup.js';
import { settingsFor } from '../../helpers/worlds/taps.js';

const BACKUPS = LONG ? 40 : 5;
const SIZE_BYTES = BACKUPS * 16 * MiB;
const SLOT_BYTES = 4096;
/** The file system needs some room of its own. */
const NUMBERS_MAX = SIZE_BYTES / SLOT_BYTES / 2;

/** One of those that are written to in turn. */
interface Side {
  readonly member: GroupMember;
  /** Resolves when it is answered, and durable if that is what an answer means. */
  readonly write: (n: number) => Promise<void>;
  /** All numbers that an image of it has, ascending. */
  readonly numbersIn: (image: string) => Promise<number[]>;
}

async function emptyImage(path: string): Promise<string> {
  await writeFile(path, '');
  await truncate(path, SIZE_BYTES);
  return path;
}

async function numbersOf(path: string): Promise<number[]> {
  const bytes = await readFile(path);
  const numbers: number[] = [];
  for (let at = 0; at < bytes.length; at += SLOT_BYTES) if (bytes[at] === 1) numbers.push(at / SLOT_BYTES);
  return numbers;
}

async function tapped(t: ExecutionContext, directory: string, name: string): Promise<Side> {
  const image = await emptyImage(join(directory, `${name}.img`));
  const tap = await addTap(directory, settingsFor({ directory, image }, { name }));
  await startProcess(tap, [process.execPath, COMMAND, 'tap', 'serve', name, '--state', directory, '--json']);
  t.teardown(() => stopTap(tap).catch(() => undefined));
  const { listen, exportName } = tap.settings;
  const client = await NbdWriter.connect((listen[0] ?? '').replace(/^unix:/, ''), exportName);
  t.teardown(() => client.close());
  return {
    member: { path: image, device: name, provider: 'tap' },
    write: (n) => client.write(n * SLOT_BYTES, Buffer.alloc(SLOT_BYTES, 1)),
    numbersIn: numbersOf,
  };
}

async function live(t: ExecutionContext, directory: string): Promise<Side> {
  const device = attachLoop(t, await emptyImage(join(directory, 'live.img')));
  await untrackAtEnd(t, device);
  makeFilesystem('ext4', device);
  const path = join(directory, 'mounted');
  await mount(t, device, path);
  t.teardown(() => void unfreeze(path));
  const file = await open(join(path, 'numbers'), 'w');
  t.teardown(() => file.close());
  return {
    member: { path: device, device: 'live', provider: 'live' },
    write: async (n) => {
      await file.write(Buffer.alloc(SLOT_BYTES, 1), 0, SLOT_BYTES, n * SLOT_BYTES);
      await file.datasync();
    },
    numbersIn: async (image) => {
      const seen = `${image}-mounted`;
      const loop = attachLoop(t, image);
      const unmount = await mount(t, loop, seen);
      const numbers = await numbersOf(join(seen, 'numbers'));
      unmount();
      detachLoop(loop);
      return numbers;
    },
  };
}

/** Everything that was written up to some moment is there, and nothing later. */
function isOneInstant(sides: readonly (readonly number[])[]): boolean {
  const numbers = sides.flat().sort((a, b) => a - b);
  return numbers.every((n, i) => n === i + 1);
}

async function isAlwaysOne(t: ExecutionContext, directory: string, sides: readonly Side[]): Promise<void> {
  const made = await BackupWorld.make(t, directory);
  const { receiver } = made;
  const still = { path: await emptyImage(join(directory, 'still.img')), device: 'still' };
  const writer = new Writer(sides);
  for (let round = 0; round < BACKUPS; round += 1) {
    const writing = writer.start();
    await writer.further();
    const { results, group } = await runGroupBackup({
      ...{ receiver, stateDirectory: directory, name: 'all', missing: 'fail' },
      members: [...sides.map(({ member }) => member), still],
      rest: { name: 'all', hooks: [], freeze: 'auto' },
    });
    // Nothing is left closed or frozen.
    await writer.further();
    writer.stop();
    await writing;
    t.like(group, { sequence: round + 1, memberCount: sides.length + 1 });
    t.is(groupPoints(await receiver.points()).length, round + 1);
    t.is(new Set(results.map(({ point }) => point.instant)).size, 1);
    const numbers: number[][] = [];
    for (const [i, { numbersIn }] of sides.entries()) {
      const image = join(directory, `restored-${round}-${i}`);
      const point = results[i]?.point;
      if (point === undefined) throw new Error('each member has a point');
      await writeFile(image, await made.contents(point));
      numbers.push(await numbersIn(image));
      await rm(image);
    }
    const last = numbers.map((side) => side.at(-1) ?? 0);
    t.true(isOneInstant(numbers), `round ${round}: ${last.join(', ')}`);
    t.true(Math.max(...last) > round * 10);
  }
}

/** Ascending numbers to the sides in turn. */
class Writer {
  readonly #sides: readonly Side[];
  #written = 0;
  #isOver = false;

  constructor(sides: readonly Side[]) {
    this.#sides = sides;
  }

  /** Resolves when it is stopped. */
  async start(): Promise<void> {
    this.#isOver = false;
    while (!this.#isOver && this.#written < NUMBERS_MAX) {
      await this.#sides[(this.#written + 1) % this.#sides.length]?.write(this.#written + 1);
      this.#written += 1;
      if (this.#written % 4 === 0) await sleep(2);
    }
  }

  stop(): void {
    this.#isOver = true;
  }

  async further(): Promise<void> {
    for (const enough = this.#written + 10; this.#written < enough; ) {
      if (enough > NUMBERS_MAX) throw new Error('there is no room for more');
      await sleep(5);
    }
  }
}

testWith(['root'], 'two taps and an image that nobody uses: every group point is one instant', async (t) => {
  t.timeout(5 * 60_000);
  const directory = await temporaryDirectory(t, 'group');
  await isAlwaysOne(t, directory, [await tapped(t, directory, 'one'), await tapped(t, directory, 'two')]);
});

testWith(
  ['root', 'loop', { missing: whyNoTracking }, ...programs(...FILESYSTEM_PROGRAMS.ext4)],
  'a tap, a mounted device that is copied live, and an image: every group point is one instant',
  async (t) => {
    t.timeout(5 * 60_000);
    const directory = await temporaryDirectory(t, 'group');
    await isAlwaysOne(t, directory, [await tapped(t, directory, 'one'), await live(t, directory)]);
  },
);
