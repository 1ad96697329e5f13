import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { type FreezeTarget, freeze, type ThawResult } from '../../../src/capture/quiesce/freeze.js';
import { thawLeftFrozen } from '../../../src/capture/quiesce/thaw.js';
import {
  type FilesystemType,
  freezable,
  freezersOf,
  isFrozen,
  startWriter,
  targetAt,
  unfreeze,
  untilThawed,
} from '../../helpers/disks/freezable.js';
import { killWithFreezer, startHolder } from '../../helpers/disks/holder.js';
import { mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { testWith } from '../../helpers/requirements.js';

/** Thawing is a matter of milliseconds; on a busy machine the processes around it are not. */
const SOON_MS = 5_000;
/** What comes before the deadline begins to run: on a busy disk it takes long. */
const FLUSH_MS = 30_000;
/** A deadline that a test meets with something to do before. */
const STILL_FROZEN_MS = 1_500;

for (const type of ['ext4', 'xfs'] satisfies FilesystemType[]) {
  testWith(
    ['root', 'loop', { program: `mkfs.${type}` }],
    `${type}: a writer waits while it is frozen, and goes on after`,
    async (t) => {
      const { mountPoint, target } = await freezable(t, type);
      const held = await freeze([target], { deadlineMs: 10_000 });
      t.deepEqual(held.unsupported, []);
      const writer = startWriter(mountPoint);
      await sleep(300);
      t.false(writer.isDone());
      t.true(isFrozen(mountPoint));
      t.true((await held.thaw()).intact);
      t.false(isFrozen(mountPoint));
      await writer.done;
      t.is((await readFile(`${mountPoint}/written`)).length, 4096);
      t.true((await held.thaw()).intact);
    },
  );
}

testWith(['root', 'loop'], 'the deadline thaws, and the result says so', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const held = await freeze([target], { deadlineMs: 200 });
  await untilThawed(mountPoint, SOON_MS);
  t.deepEqual(await held.thaw(), {
    intact: false,
    reason: 'the freeze had to end at its deadline',
    stuck: [],
  });
});

testWith(['root', 'loop'], 'somebody else thaws: not intact', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const held = await freeze([target], { deadlineMs: 10_000 });
  t.true(unfreeze(mountPoint));
  t.deepEqual(await held.thaw(), {
    intact: false,
    reason: 'another program thawed a file system meanwhile',
    stuck: [],
  });
});

testWith(['root', 'loop'], 'kill -9 of the process that holds it', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const holder = await startHolder(t, 60_000, [target]);
  const writer = startWriter(mountPoint);
  await sleep(100);
  t.true(isFrozen(mountPoint));
  holder.process.kill('SIGKILL');
  t.true((await untilThawed(mountPoint, SOON_MS)) < SOON_MS);
  await writer.done;
});

testWith(['root', 'loop'], 'kill -9 of both: the next freeze thaws what they have left', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const other = await freezable(t, 'ext4');
  const living = await startHolder(t, 60_000, [other.target]);
  const holder = await startHolder(t, 60_000, [target]);
  await killWithFreezer(holder);
  // Frozen still, unless a freeze of another test has come first.
  const held = await freeze([target], { deadlineMs: 10_000 });
  t.true(isFrozen(other.mountPoint), 'what somebody holds is left alone');
  t.true((await held.thaw()).intact);
  t.false(isFrozen(mountPoint));
  living.say('thaw');
  t.true((JSON.parse(await living.nextLine()) as { intact: boolean }).intact);
});

testWith(['root', 'loop'], 'a ^C or kill of the whole group of the holder', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const holder = await startHolder(t, 60_000, [target]);
  const session = (await readFile(`/proc/${holder.freezerPid}/stat`, 'utf8')).split(') ')[1]?.split(' ')[3];
  t.is(session, String(holder.freezerPid));
  process.kill(holder.freezerPid, 'SIGTERM');
  await untilThawed(mountPoint, SOON_MS);
  holder.say('thaw');
  t.deepEqual(JSON.parse(await holder.nextLine()), {
    intact: false,
    reason: 'the freeze was ended by a signal',
    stuck: [],
  });
});

testWith(['root', 'loop'], 'the holder is stopped: thawed at the deadline', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const holder = await startHolder(t, STILL_FROZEN_MS, [target]);
  holder.process.kill('SIGSTOP');
  t.true(isFrozen(mountPoint));
  await untilThawed(mountPoint, STILL_FROZEN_MS + SOON_MS);
  // Longer than the grace: on waking up the holder must not take the freezer for dead.
  await sleep(3_000);
  holder.process.kill('SIGCONT');
  holder.say('thaw');
  t.like(JSON.parse(await holder.nextLine()), { intact: false, stuck: [] });
});

testWith(['root', 'loop'], "the holder's event loop hangs: thawed at the deadline", async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  const spinMs = STILL_FROZEN_MS + 2 * SOON_MS;
  const holder = await startHolder(t, STILL_FROZEN_MS, [target]);
  holder.say(`spin ${spinMs}`);
  holder.say('thaw');
  t.true(isFrozen(mountPoint));
  // Before the holder can have done it.
  await untilThawed(mountPoint, STILL_FROZEN_MS + SOON_MS);
  t.deepEqual(JSON.parse(await holder.nextLine()), {
    intact: false,
    reason: 'the freeze had to end at its deadline',
    stuck: [],
  });
});

testWith(['root', 'loop'], 'kill -9 of the freezer: the holder thaws', async (t) => {
  const one = await freezable(t, 'ext4');
  const two = await freezable(t, 'ext4');
  const holder = await startHolder(t, 60_000, [one.target, two.target]);
  t.true(isFrozen(one.mountPoint) && isFrozen(two.mountPoint));
  process.kill(holder.freezerPid, 'SIGKILL');
  await untilThawed(one.mountPoint, SOON_MS);
  await untilThawed(two.mountPoint, SOON_MS);
  holder.say('thaw');
  t.deepEqual(JSON.parse(await holder.nextLine()), { intact: false, reason: 'the freezer died', stuck: [] });
});

testWith(
  ['root', 'loop'],
  'the freezer is stopped: the holder makes it thaw after the deadline',
  async (t) => {
    const { mountPoint, target } = await freezable(t, 'ext4');
    const holder = await startHolder(t, STILL_FROZEN_MS, [target]);
    process.kill(holder.freezerPid, 'SIGSTOP');
    await sleep(STILL_FROZEN_MS + 300);
    t.true(isFrozen(mountPoint));
    await untilThawed(mountPoint, 5_000);
    holder.say('thaw');
    t.like(JSON.parse(await holder.nextLine()) as ThawResult, { intact: false, stuck: [] });
  },
);

testWith(['root', 'loop'], 'the second is frozen by somebody else: the first is thawed again', async (t) => {
  const one = await freezable(t, 'ext4');
  const two = await freezable(t, 'ext4');
  run('fsfreeze', '--freeze', two.mountPoint);
  await t.throwsAsync(freeze([one.target, two.target], { deadlineMs: 5_000 }), {
    code: 'device-io',
    message: `${two.mountPoint}: it can't be frozen: another program has already frozen it.`,
  } as object);
  t.false(isFrozen(one.mountPoint));
  t.true(unfreeze(two.mountPoint), "somebody else's freeze is left alone");
});

testWith(['root', 'loop'], 'a kind that can not be frozen: the others are', async (t) => {
  const memory = join(await temporaryDirectory(t, 'freeze'), 'memory');
  await mount(t, 'none', memory, 'size=1m', 'tmpfs');
  const one = await freezable(t, 'ext4');
  const held = await freeze([await targetAt(memory), one.target], { deadlineMs: 5_000 });
  t.deepEqual(held.unsupported, [memory]);
  t.true(isFrozen(one.mountPoint));
  t.true((await held.thaw()).intact);
});

testWith(['root', 'loop'], 'a mount point that now shows another file system', async (t) => {
  const one = await freezable(t, 'ext4');
  const two = await freezable(t, 'ext4');
  await mount(t, two.device, one.mountPoint);
  await t.throwsAsync(freeze([one.target], { deadlineMs: 5_000 }), {
    message: /now shows another file system/,
  });
  t.false(isFrozen(two.mountPoint));
});

/** So that there is always something to flush. Left behind, it would keep all tests from ending. */
function keepWriting(t: ExecutionContext, directory: string) {
  const child = spawn('sh', ['-c', 'while :; do echo $((i += 1)) >"$0/busy"; done', directory], {
    stdio: 'ignore',
  });
  const kill = (): void => void child.kill('SIGKILL');
  t.teardown(kill);
  return { kill, ended: once(child, 'exit') };
}

testWith(
  ['root', 'loop'],
  'a freeze that is stuck in the kernel: what was frozen before is thawed at the deadline',
  async (t) => {
    const outer = await freezable(t, 'xfs');
    await mkdir(`${outer.mountPoint}/images`);
    const inner = await freezable(t, 'ext4', { within: `${outer.mountPoint}/images` });
    // The wrong order, and something to flush meanwhile: the inner one's flush waits for the outer one.
    const writer = keepWriting(t, inner.mountPoint);
    await sleep(100);
    const started = performance.now();
    const error = await t.throwsAsync(freeze([outer.target, inner.target], { deadlineMs: 500 }));
    t.true(performance.now() - started < FLUSH_MS + SOON_MS);
    t.regex(error?.message ?? '', /can't be frozen: the freeze had to end at its deadline/);
    writer.kill();
    await untilThawed(outer.mountPoint, SOON_MS);
    await untilThawed(inner.mountPoint, SOON_MS);
    await writer.ended;
  },
);

testWith(['root', 'loop'], 'cancelled before and while it is frozen', async (t) => {
  const { mountPoint, target } = await freezable(t, 'ext4');
  await t.throwsAsync(freeze([target], { deadlineMs: 5_000, signal: AbortSignal.abort() }), {
    message: /cancelled/,
  });
  const controller = new AbortController();
  const freezing = freeze([target], { deadlineMs: 5_000, signal: controller.signal });
  controller.abort();
  await t.throwsAsync(freezing, { message: /cancelled/ });
  await untilThawed(mountPoint, SOON_MS);
});

/** It may end just before. */
function killIfThere(pid: number): void {
  try {
    process.kill(pid, 'SIGKILL');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code !== 'ESRCH') throw error;
  }
}

/**
 * A holder of its own: freezers of other tests have another parent. Kills its freezer so
 * long after it was started.
 */
async function killFreezerAfter(
  delayMs: number,
  deadlineMs: number,
  targets: readonly FreezeTarget[],
): Promise<void> {
  const program = fileURLToPath(new URL('children/holder.js', import.meta.url));
  const args = targets.map(({ id, path }) => `${id}:${path}`);
  const child = spawn(process.execPath, [program, String(deadlineMs), ...args], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.stdin.on('error', () => undefined).end('thaw\n');
  const ended = once(child, 'exit', { signal: AbortSignal.timeout(15_000) });
  let freezers: number[] = [];
  while (freezers.length === 0 && child.exitCode === null) {
    freezers = freezersOf(child.pid ?? 0);
    await sleep(1);
  }
  await sleep(delayMs);
  for (const pid of freezersOf(child.pid ?? 0)) killIfThere(pid);
  await ended;
}

testWith(['root', 'loop'], 'the freezer is killed at random moments: nothing stays frozen', async (t) => {
  const one = await freezable(t, 'ext4');
  const two = await freezable(t, 'xfs');
  for (let round = 0; round < 15; round += 1) {
    const delayMs = Math.random() * 25;
    await killFreezerAfter(delayMs, 20_000, [one.target, two.target]);
    t.false(isFrozen(one.mountPoint) || isFrozen(two.mountPoint), `killed after ${delayMs} ms`);
  }
});

testWith(
  ['root', 'loop'],
  'the freezer is killed while it is stuck in the kernel: all is thawed',
  async (t) => {
    const outer = await freezable(t, 'xfs');
    const inner = await freezable(t, 'ext4', { within: outer.mountPoint });
    // Also at its deadline: the outer one is thawed, and the inner one's freezing comes to its end meanwhile.
    for (const delayMs of [400, ...Array.from({ length: 2 }, () => 990 + Math.random() * 60)]) {
      const writer = keepWriting(t, inner.mountPoint);
      await sleep(100);
      await killFreezerAfter(delayMs, 1_000, [outer.target, inner.target]);
      writer.kill();
      // If its agent ended before it, nobody but the next one is left.
      await thawLeftFrozen();
      await untilThawed(outer.mountPoint, SOON_MS);
      await untilThawed(inner.mountPoint, SOON_MS);
      await writer.ended;
    }
    t.pass();
  },
);

testWith(['root', 'loop'], 'the freezer refuses what it can not read', async (t) => {
  const { target } = await freezable(t, 'ext4');
  const program = fileURLToPath(new URL('../../../../native/Release/stillpoint-freezer', import.meta.url));
  for (const args of [[], ['1'], ['0', 'x'], ['x', '1:/'], ['600001', '1:/'], ['9x', '1:/']]) {
    const child = spawn(program, args, { stdio: 'ignore' });
    t.deepEqual(await once(child, 'exit'), [2, null], args.join(' '));
  }
  for (const mountArgument of ['/', 'x:/', `${target.id}`, `${target.id}:/nonexistent`]) {
    const child = spawn(program, ['100', mountArgument], { stdio: 'ignore' });
    t.deepEqual(await once(child, 'exit'), [1, null], mountArgument);
  }
});
