/**
 * Power cuts, really: store and state lie on an ext4 of their own on a loop device. A copy of the image
 * beneath, taken at any instant, is what a machine would find after a power cut at that instant: what was
 * synced, and little else, since the file system writes back by itself only every few minutes.
 */
import { open, readFile, rm, stat, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { makeStampedImage, writeStamped } from '../helpers/bytes/stamped-blocks.js';
import { attachLoop, detachLoop, mount, run } from '../helpers/disks/loop-device.js';
import {
  EXIT_OK,
  EXIT_WARNINGS,
  type Machine,
  makeMachine,
  outcome,
  runHere,
  start,
} from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';
import { LONG, seededRandom } from '../helpers/seed.js';
import { backupArgs, listPoints, restoredBytes } from '../helpers/worlds/crash.js';

const BLOCK = 16 * KiB;
const BLOCKS = 256;

const REQUIREMENTS = ['root', 'loop', { program: 'mkfs.ext4' }] as const;

testWith(REQUIREMENTS, 'receiver and agent lose power together', (t) => cutPower(t, true));
// Alone, with nothing of the agent's to sync the disk after it.
testWith(REQUIREMENTS, 'the receiver loses power alone', (t) => cutPower(t, false));

async function cutPower(t: ExecutionContext, agentToo: boolean): Promise<void> {
  t.timeout(30 * 60_000);
  const random = seededRandom(t);
  const machine = await makeMachine(t, 'power');
  const at = (name: string) => join(machine.directory, name);
  const disk = at('disk');
  await writeFile(disk, '');
  await truncate(disk, 96 * MiB);
  run('mkfs.ext4', '-q', '-F', disk);
  const device = attachLoop(t, disk);
  // Nothing reaches the device unless somebody syncs: no commit by time, no
  // write-back when a file is renamed.
  const unmount = await mount(t, device, at('mounted'), 'commit=600,noauto_da_alloc');
  const powered = agentToo ? withState(machine, at('mounted/state')) : machine;
  const found = (): Machine => {
    if (agentToo) return withState(machine, at('after/state'));
    // What is found after a cut is looked at by an agent of its own, which knows what this one knew.
    run('rm', '-rf', at('looking'));
    run('cp', '-a', machine.stateDirectory, at('looking'));
    return withState(machine, at('looking'));
  };
  const source = at('source');
  await makeStampedImage(source, {
    sizeBytes: BLOCKS * BLOCK,
    blockSize: BLOCK,
    seed: random.seed,
    blockIndexes: Array.from({ length: BLOCKS }, (_, index) => index),
  });

  const acknowledged: Buffer[] = [];
  for (let round = 1; round <= (LONG ? 40 : 4); round += 1) {
    const file = await open(source, 'r+');
    for (let write = 0; write < 20; write += 1) {
      const blockIndex = random.below(BLOCKS);
      await writeStamped(file, { seed: random.seed, blockIndex, generation: round }, BLOCK);
    }
    await file.close();
    const content = await readFile(source);
    const child = start(powered, backupArgs(source, at('mounted/store')));
    const ended = outcome(child);
    await sleep(200 + random.below(500));
    // Stopped, so that the copy is one instant.
    child.kill('SIGSTOP');
    await sleep(30);
    run('cp', '--sparse=always', disk, at('cut-within'));
    child.kill('SIGCONT');
    const result = await ended;
    // The proof that a cut loses what was not synced. One at a time: the disk is small.
    await rm(at(`mounted/not-synced-${round - 1}`), { force: true });
    await writeFile(at(`mounted/not-synced-${round}`), content);
    // At once: the answer is out, and whatever is not on the disk now is lost.
    run('cp', '--sparse=always', disk, at('cut-after'));
    t.is(result.code, 0, result.stdout + result.stderr);

    await findAfterCut(t, found(), at('cut-within'), acknowledged, content, null);
    acknowledged.push(content);
    await findAfterCut(t, found(), at('cut-after'), acknowledged, content, `not-synced-${round}`);
  }
  unmount();
}

function withState(machine: Machine, stateDirectory: string): Machine {
  return { ...machine, stateDirectory, env: { ...machine.env, STILLPOINT_STATE: stateDirectory } };
}

/** Powers on again with this disk: all acknowledged points are there, and the next backup goes well. */
async function findAfterCut(
  t: ExecutionContext,
  machine: Machine,
  image: string,
  acknowledged: readonly Buffer[],
  current: Buffer,
  notSynced: string | null,
): Promise<void> {
  const at = (name: string) => join(machine.directory, name);
  const device = attachLoop(t, image);
  const unmount = await mount(t, device, at('after'));
  try {
    const store = at('after/store');
    if (notSynced !== null) {
      const lost = await stat(join(at('after'), notSynced)).catch(() => null);
      t.true(lost === null || lost.size === 0, 'bytes that nobody synced are lost');
    }
    if (acknowledged.length > 0) await checkAll(t, machine, store, acknowledged, current);
    // An agent that kept its power may have been told of a point after this copy of the disk was taken.
    const isAhead = notSynced === null && machine.stateDirectory !== at('after/state');
    const accept = isAhead ? ['--accept-store'] : [];
    const result = await runHere(machine, ...backupArgs(at('source'), store), ...accept);
    const isDone = result.code === EXIT_OK || (isAhead && result.code === EXIT_WARNINGS);
    t.true(isDone, `${result.code}: ${result.stdout}${result.stderr}`);
    await checkAll(t, machine, store, acknowledged, current);
  } finally {
    unmount();
    detachLoop(device);
  }
}

async function checkAll(
  t: ExecutionContext,
  machine: Machine,
  store: string,
  acknowledged: readonly Buffer[],
  current: Buffer,
): Promise<void> {
  const points = await listPoints({ machine, store });
  t.true(
    points.length >= acknowledged.length,
    `${points.length} points of ${acknowledged.length} acknowledged`,
  );
  for (const [index, point] of points.entries()) {
    const bytes = await restoredBytes({ machine, store }, `disk@${point.sequence}`);
    t.true(bytes.equals(acknowledged[index] ?? current), `disk@${point.sequence}`);
  }
}
