/**
 * A restore in place, agent and receiver in one process, is killed at every one of its steps and at random
 * moments. Then the target is as it was, or marked, or the point: never something else that passes for whole.
 * The same restore, run again, ends it, and fetches no more than was left.
 */
import { randomBytes } from 'node:crypto';
import { open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { RestoreResult } from '../../src/agent/restore/restore.js';
import { EXIT_FAILED } from '../../src/cli/output/exit-codes.js';
import { decodeMark } from '../../src/devices/facts/half-restored.js';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { makeStampedImage } from '../helpers/bytes/stamped-blocks.js';
import {
  changeTree,
  checkFilesystem,
  FILESYSTEM_BYTES,
  FILESYSTEM_PROGRAMS,
  FILESYSTEMS,
  fillTree,
  makeFilesystem,
} from '../helpers/disks/filesystem.js';
import { copyImage, difference } from '../helpers/disks/images.js';
import { attachLoop, mount, run } from '../helpers/disks/loop-device.js';
import { type Fault, listSteps, runFaulty } from '../helpers/faults/at-step.js';
import {
  backup,
  IN_MEMORY,
  lastResult,
  type Machine,
  makeMachine,
  outcome,
  runExpecting,
  runHere,
  start,
} from '../helpers/machines/stillpoint.js';
import { programs, testWith } from '../helpers/requirements.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const BLOCK = 64 * KiB;

interface World {
  readonly machine: Machine;
  readonly store: string;
  readonly target: string;
  /** The point's content, and what the target holds when a restore begins. */
  readonly after: Buffer;
  readonly before: Buffer;
  readonly restoreArgs: readonly string[];
}

/**
 * Data over data, data over zeros and zeros over data; the local tree is that of a later
 * point, so digests are fetched.
 */
async function makeWorld(t: ExecutionContext, blockCount: number): Promise<World> {
  const machine = await makeMachine(t, 'in-place', IN_MEMORY);
  const at = (name: string) => join(machine.directory, name);
  const indexes = Array.from({ length: blockCount }, (_, index) => index);
  const stamped = (generation: number, remainder: number) =>
    makeStampedImage(at('disk'), {
      ...{ sizeBytes: blockCount * BLOCK, blockSize: BLOCK, seed: 1, generation },
      blockIndexes: indexes.filter((index) => index % 5 !== remainder),
    });
  await stamped(1, 3);
  const after = await readFile(at('disk'));
  const store = at('store');
  await backup(t, machine, store, at('disk'), '--name', 'disk');
  await stamped(2, 1);
  const before = await readFile(at('disk'));
  await backup(t, machine, store, at('disk'), '--name', 'disk');
  const restoreArgs = ['restore', 'disk@1', at('disk'), '--store', store, '--overwrite', '--json'];
  return { machine, store, target: at('disk'), after, before, restoreArgs };
}

type State = 'before' | 'marked' | 'after';

/** What a killed restore has left; anything else than the three is the end of the test. */
function stateOf(t: ExecutionContext, { before, after }: World, content: Buffer, label: string): State {
  if (decodeMark(content)?.point?.sequence === 1) return 'marked';
  if (content.equals(before)) return 'before';
  if (!content.equals(after)) t.fail(`${label}: neither as before nor the point, and not marked`);
  return 'after';
}

function blocksLeft({ after }: World, content: Buffer): number {
  let count = 0;
  for (let at = 0; at < after.length; at += BLOCK) {
    const wanted = after.subarray(at, at + BLOCK);
    if (!wanted.equals(content.subarray(at, at + BLOCK)) && wanted.some((byte) => byte !== 0)) count += 1;
  }
  return count;
}

async function checkAfterKill(t: ExecutionContext, world: World, label: string): Promise<State> {
  const { machine, store, target, after, restoreArgs } = world;
  const content = await readFile(target);
  const state = stateOf(t, world, content, label);
  if (state === 'marked') {
    const refused = await runHere(machine, 'backup', target, '--name', 'disk', '--store', store, '--json');
    t.is(refused.code, EXIT_FAILED, label);
    t.like(JSON.parse(refused.stdout.trimEnd().split('\n').at(-1) ?? ''), { code: 'half-restored' });
    t.regex(
      (await runHere(machine, 'inspect', target)).stdout,
      /Not usable: it is half restored: to point disk@1/,
    );
  }
  const again = await runHere(machine, ...restoreArgs);
  t.is(again.code, 0, `${label}: ${again.stdout}`);
  const { writtenBytes } = lastResult<RestoreResult>(again.stdout);
  t.is(writtenBytes, blocksLeft(world, content) * BLOCK, label);
  t.true(after.equals(await readFile(target)), label);
  return state;
}

test('killed at each of its steps', async (t) => {
  t.timeout(30 * 60_000);
  const world = await makeWorld(t, 200);
  const steps = await listSteps(world.machine, world.restoreArgs);
  t.true(steps.length > 20, steps.join(''));
  const numbers = steps.map((_, index) => index + 1);
  const seen = new Set<State>();
  for (const at of LONG ? numbers : seededRandom(t).sample(numbers, 8).concat(numbers.length)) {
    await writeFile(world.target, world.before);
    const label = `killed at step ${at} of ${steps.length} (${steps[at - 1]})`;
    await runFaulty(world.machine, { fault: 'kill', at }, world.restoreArgs);
    seen.add(await checkAfterKill(t, world, label));
  }
  t.true(seen.has('marked'));
});

test('a step fails: said so, and marked or not', async (t) => {
  t.timeout(30 * 60_000);
  const world = await makeWorld(t, 200);
  const steps = await listSteps(world.machine, world.restoreArgs);
  const numbers = steps.map((_, index) => index + 1);
  // The mark is written, flushed, and the rest of the head zeroed.
  const mark = steps.findIndex((step) => step.startsWith('zero')) - 1;
  for (const at of LONG ? numbers : [mark, ...seededRandom(t).sample(numbers, 3)]) {
    for (const forever of [false, true]) {
      await writeFile(world.target, world.before);
      const fault: Fault = { fault: 'EIO', at, forever };
      const label = `EIO at step ${at} of ${steps.length} (${steps[at - 1]})`;
      const failed = await runFaulty(world.machine, fault, world.restoreArgs);
      t.is(failed.signal, null, label);
      const content = await readFile(world.target);
      const state = stateOf(t, world, content, label);
      if (failed.code === 0) t.is(state, 'after', label);
      if (state === 'marked') t.regex(failed.stdout, /is half restored, and marked so/, label);
      if (state === 'before') t.notRegex(failed.stdout, /half restored/, label);
      await checkAfterKill(t, world, label);
    }
  }
});

/** Random bytes: a step takes time. */
async function fill(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'w');
  for (let done = 0; done < sizeBytes; done += 8 * MiB) await file.write(randomBytes(8 * MiB));
  await file.close();
}

test('a new image, killed, goes on', async (t) => {
  const random = seededRandom(t);
  const machine = await makeMachine(t, 'partial');
  const at = (name: string) => join(machine.directory, name);
  await fill(at('source'), 128 * MiB);
  await backup(t, machine, at('store'), at('source'), '--name', 'disk');
  const args = ['restore', 'disk@1', at('restored'), '--store', at('store'), '--overwrite', '--json'];
  let resumed = 0;
  for (let round = 0; round < (LONG ? 30 : 4); round += 1) {
    run('rm', '-f', at('restored'));
    const child = start(machine, args);
    const ended = outcome(child);
    await sleep(300 + random.below(500));
    child.kill('SIGKILL');
    await ended;
    const { stdout } = await runExpecting(t, machine, 0, ...args);
    const { differingBytes } = lastResult<RestoreResult>(stdout);
    if (differingBytes !== null && differingBytes > 0 && differingBytes < 128 * MiB) resumed += 1;
    t.is(difference(at('restored'), at('source')), null);
  }
  t.log(`${resumed} went on with what a killed one had left`);
});

for (const filesystem of FILESYSTEMS) {
  testWith(
    ['root', 'loop', ...programs(...FILESYSTEM_PROGRAMS[filesystem])],
    `${filesystem} on a loop device, rolled back and killed at random steps: it can be mounted only when it is whole`,
    async (t) => {
      t.timeout(30 * 60_000);
      const random = seededRandom(t);
      const machine = await makeMachine(t, `in-place-${filesystem}`, IN_MEMORY);
      const at = (name: string) => join(machine.directory, name);
      await writeFile(at('model'), '');
      run('truncate', '--size', String(FILESYSTEM_BYTES[filesystem]), at('model'));
      const mounted = attachLoop(t, at('model'));
      makeFilesystem(filesystem, mounted);
      const inMount = async (work: (root: string) => Promise<void>, copy: string) => {
        const unmount = await mount(t, mounted, at('mount'));
        await work(at('mount'));
        unmount();
        copyImage(mounted, copy);
      };
      await inMount(fillTree, at('first'));
      await inMount(changeTree, at('second'));
      const store = at('store');
      await backup(t, machine, store, at('first'), '--name', 'disk');
      // A device of its own: whoever copied the mounts in the meantime has the other one still.
      run('cp', at('second'), at('image'));
      const device = attachLoop(t, at('image'));
      const args = ['restore', 'disk@1', device, '--store', store];
      const reset = () =>
        run('dd', `if=${at('second')}`, `of=${device}`, 'bs=1M', 'conv=fsync', 'status=none');
      reset();
      const steps = await listSteps(machine, args);
      const marked = steps.findIndex((step) => step.startsWith('zero')) - 2;
      const seen = { before: 0, marked: 0, after: 0 };
      for (let round = 0; round < (LONG ? 40 : 4); round += 1) {
        reset();
        const killAt = marked + random.below(steps.length - marked) + 1;
        await runFaulty(machine, { fault: 'kill', at: killAt }, args);
        run('sync');
        const content = await readFile(at('image'));
        const isMarked = decodeMark(content) !== null;
        const state = isMarked ? 'marked' : difference(device, at('first')) === null ? 'after' : 'before';
        if (state === 'before') t.is(difference(device, at('second')), null, `round ${round}`);
        // Killed right behind the mark, or right before its end, all but the mark is of one time.
        const isOf = async (name: string) =>
          content.subarray(512).equals((await readFile(at(name))).subarray(512));
        const isMixed = isMarked && !(await isOf('second')) && !(await isOf('first'));
        if (isMixed) {
          const mounting = () => run('mount', '-t', filesystem, '-o', 'ro', device, at('mount'));
          t.throws(mounting, { message: /./ }, 'what is half restored can not be mounted');
          t.is(run('sh', '-c', `blkid -p ${device} || true`), '', 'nobody takes it for anything');
        }
        seen[state] += 1;
        await runExpecting(t, machine, 0, ...args);
        t.is(difference(device, at('first')), null, `round ${round}`);
        checkFilesystem(filesystem, device);
      }
      t.log(JSON.stringify(seen));
    },
  );
}
