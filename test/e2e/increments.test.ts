/** What the second backup ships: only what differs, whatever became of the agent's local tree. */
import { randomBytes } from 'node:crypto';
import { cp, open, rm, truncate } from 'node:fs/promises';
import { basename, join } from 'node:path';
import type { ExecutionContext } from 'ava';
import { KiB, MiB, PIECE_BYTES } from '../../src/domain/base/limits.js';
import type { Point } from '../../src/domain/point/point.js';
import { difference, filesBelow } from '../helpers/disks/images.js';
import { enroll, startReceiver } from '../helpers/machines/receiver.js';
import { backup, type Machine, makeMachine, restore } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;
const BLOCKS = 1024;

async function randomImage(path: string): Promise<void> {
  const file = await open(path, 'w');
  for (let index = 0; index < BLOCKS; index += 16) await file.write(randomBytes(16 * BLOCK));
  await file.close();
}

/** Writes random bytes somewhere into each of these blocks. */
async function scatter(path: string, blockIndexes: readonly number[]): Promise<void> {
  const file = await open(path, 'r+');
  for (const blockIndex of blockIndexes) {
    await file.write(
      randomBytes(100),
      0,
      undefined,
      blockIndex * BLOCK + ((blockIndex * 7919) % (BLOCK - 100)),
    );
  }
  await file.close();
}

function shipsOnly(t: ExecutionContext, point: Point, blockCount: number, treeBytes: number = 0): void {
  t.is(point.statistics.changedBytes, blockCount * BLOCK);
  // Random blocks do not compress.
  const bound = 1.05 * blockCount * BLOCK + 64 * KiB + treeBytes;
  t.true(point.statistics.wireBytes <= bound, `${point.statistics.wireBytes} wire bytes, more than ${bound}`);
  // Of each block one piece at least, where patches are sent.
  t.true(point.statistics.wireBytes >= blockCount * PIECE_BYTES, 'wire bytes are counted');
}

async function treeFiles(machine: Machine): Promise<string[]> {
  const files = (await filesBelow(machine.stateDirectory)).filter((path) => basename(path) === 'tree');
  if (files.length === 0) throw new Error('no local tree');
  return files;
}

for (const transport of ['a directory store', 'a receiver over TLS']) {
  testWith([], `${transport}: N scattered blocks, and the local tree lost, damaged or stale`, async (t) => {
    const machine = await makeMachine(t, 'increments');
    const at = (name: string) => join(machine.directory, name);
    let store: string | null = at('store');
    if (transport !== 'a directory store') {
      await enroll(t, await startReceiver(t), machine, 'host');
      store = null;
    }
    await randomImage(at('source'));
    shipsOnly(t, await backup(t, machine, store, at('source'), '--name', 'image'), BLOCKS);

    const unchanged = await backup(t, machine, store, at('source'), '--name', 'image');
    shipsOnly(t, unchanged, 0);
    await scatter(at('source'), [0, 63, 64, 65, 500, 777, BLOCKS - 1]);
    shipsOnly(t, await backup(t, machine, store, at('source'), '--name', 'image'), 7);

    // A lost tree costs the fetch of its nodes (32 bytes a block and a little), not of one block more.
    const tree = BLOCKS * 32 * 1.2 + 32 * KiB;
    await cp(machine.stateDirectory, at('stale'), { recursive: true });
    for (const path of await treeFiles(machine)) await rm(path);
    await scatter(at('source'), [3, 400]);
    shipsOnly(t, await backup(t, machine, store, at('source'), '--name', 'image'), 2, tree);

    for (const [index, damage] of [overwriteMiddle, cutShort, overwriteHeader].entries()) {
      for (const path of await treeFiles(machine)) await damage(path);
      await scatter(at('source'), [10 + index, 600 + index, 900 + index]);
      shipsOnly(t, await backup(t, machine, store, at('source'), '--name', 'image'), 3, tree);
    }

    await rm(machine.stateDirectory, { recursive: true });
    await cp(at('stale'), machine.stateDirectory, { recursive: true });
    await scatter(at('source'), [33]);
    const last = await backup(t, machine, store, at('source'), '--name', 'image');
    shipsOnly(t, last, 1, tree);
    await restore(t, machine, store, 'image@latest', at('restored'), '--verify');
    t.is(difference(at('restored'), at('source')), null);
  });
}

async function overwriteMiddle(path: string): Promise<void> {
  const file = await open(path, 'r+');
  const { size } = await file.stat();
  await file.write(randomBytes(64), 0, undefined, Math.floor(size / 2));
  await file.close();
}

async function cutShort(path: string): Promise<void> {
  await truncate(path, 700);
}

async function overwriteHeader(path: string): Promise<void> {
  const file = await open(path, 'r+');
  await file.write(randomBytes(512), 0, undefined, 0);
  await file.close();
}

testWith([], 'a block that the store already holds for the device is not sent again', async (t) => {
  const machine = await makeMachine(t, 'moved');
  const at = (name: string) => join(machine.directory, name);
  await randomImage(at('source'));
  await backup(t, machine, at('store'), at('source'), '--name', 'image');
  // A quarter of the device moves: all of it differs, none of it is new.
  const file = await open(at('source'), 'r+');
  const moved = Buffer.alloc(16 * MiB);
  await file.read(moved, 0, moved.length, 0);
  await file.write(moved, 0, moved.length, 32 * MiB);
  await file.close();
  const point = await backup(t, machine, at('store'), at('source'), '--name', 'image');
  t.is(point.statistics.changedBytes, 16 * MiB);
  t.true(point.statistics.wireBytes < 64 * KiB, `${point.statistics.wireBytes} wire bytes`);
  t.true(point.storedBytes < 64 * KiB, `${point.storedBytes} stored bytes`);
  await restore(t, machine, at('store'), 'image@latest', at('restored'), '--verify');
  t.is(difference(at('restored'), at('source')), null);
});
