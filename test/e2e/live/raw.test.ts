/** A device without a file system to freeze, and one that changes too quickly: what a point of it is. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { open, readdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { run } from '../../helpers/disks/loop-device.js';
import { errorOf } from '../../helpers/live/errors.js';
import { generationsIn, isOneInstant } from '../../helpers/live/generations.js';
import { SLOW_DISK_REQUIREMENTS, slowDisk } from '../../helpers/live/slow-disk.js';
import {
  LIVE_REQUIREMENTS,
  type LiveResult,
  LiveWorld,
  startWriting,
  trackNow,
} from '../../helpers/live/world.js';
import { lastResult, makeMachine } from '../../helpers/machines/stillpoint.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';

const SIZE = 8 * MiB;
const TRIES = 6;
const BLOCKS = 40;
const STRIDE_BYTES = 32 * KiB;
const POINTS = LONG ? 100 : 4;
const SLOW = [...LIVE_REQUIREMENTS, ...SLOW_DISK_REQUIREMENTS];

/** Several writes are in flight at any time. */
function writeWithoutRest(t: ExecutionContext, device: string): ChildProcess {
  const how = ['--rw=randwrite', '--bs=4k', '--direct=1', '--ioengine=libaio', '--iodepth=4', '--thread'];
  const load = ['--name=load', `--filename=${device}`, ...how, '--time_based', '--runtime=3600'];
  const child = spawn('fio', load, { stdio: 'ignore', cwd: '/tmp' });
  t.teardown(() => child.kill('SIGKILL'));
  return child;
}

async function end(child: ChildProcess): Promise<void> {
  const ended = once(child, 'exit');
  child.kill('SIGKILL');
  await ended;
}

/** A cut of it takes so long that something is written meanwhile. */
async function slowWorld(t: ExecutionContext, prefix: string, readMs: number): Promise<LiveWorld> {
  const machine = await makeMachine(t, prefix);
  const slow = { sizeBytes: 2 * MiB, writeMs: 0, readMs };
  const world = await LiveWorld.on(t, machine, await slowDisk(t, `${machine.directory}/disk`, slow));
  await trackNow(world.disk.place, false);
  return world;
}

/** Of sessions that came to nothing, once the next one has succeeded. */
async function nothingIsLeft(t: ExecutionContext, world: LiveWorld): Promise<void> {
  t.deepEqual(await readdir(join(world.at('store'), 'capture')).catch(() => []), []);
}

testWith(
  [...SLOW, ...programs('fio')],
  'a raw device that never rests: hooks, quiet, or fuzzy',
  async (t) => {
    const world = await slowWorld(t, 'raw', 20);
    const long = ['--freeze-deadline', '10'];
    await world.backup(t);
    const writer = writeWithoutRest(t, world.disk.device);
    const { pid } = writer;

    // Now and then nobody writes in a cut; then it is one instant.
    let refused = await world.tryBackup(...long);
    for (let tries = 1; refused.code === 0 && tries < TRIES; tries += 1)
      refused = await world.tryBackup(...long);
    t.is(refused.code, 1, refused.stdout);
    const { code, reason, remedy } = errorOf(refused.stdout);
    t.is(code, 'device-changed', refused.stdout);
    t.regex(reason ?? '', /something writes to it that no freeze has stopped/);
    for (const way of ['--hook', '--wait-quiet', '--fuzzy']) t.true(remedy?.includes(way), remedy);

    let { point: fuzzy } = await world.backup(t, '--fuzzy', ...long);
    for (let tries = 1; fuzzy.kind === 'crash' && tries < TRIES; tries += 1)
      fuzzy = (await world.backup(t, '--fuzzy', ...long)).point;
    await nothingIsLeft(t, world);
    t.is(fuzzy.kind, 'fuzzy');

    const hook = world.at('hook');
    const body = `kill -STOP ${pid}; echo ready; read -r word; kill -CONT ${pid}`;
    await writeFile(hook, `#!/bin/sh\n${body}\n`, { mode: 0o755 });
    const { point: application, tracking } = await world.backup(t, '--hook', hook, ...long);
    t.is(application.kind, 'application');
    t.true(tracking.used, tracking.reason);

    const resting = sleep(300).then(() => writer.kill('SIGSTOP'));
    const { point: idle } = await world.backup(t, '--wait-quiet', '0.3', ...long);
    await resting;
    t.is(idle.kind, 'idle');
    t.deepEqual(await world.missing(t, idle.sequence), []);
    await end(writer);
    await world.backupAndCompare(t, 'the last one');
  },
);

testWith(
  [...SLOW, ...programs('python3')],
  'a raw device that is written to, with pauses: each point of it is one instant, or there is none',
  async (t) => {
    const world = await slowWorld(t, 'paused', 20);
    // A cut fits into a pause now and then. Its reads are of single blocks, and so many that they take turns.
    const blocks = { file: world.disk.device, blocks: BLOCKS, strideBytes: STRIDE_BYTES };
    const writer = startWriting(t, { seed: 1, threads: 1, pauseMs: 200, ...blocks });
    await once(writer.process.stdout ?? writer.process, 'data');

    const points: LiveResult[] = [];
    let refusals = 0;
    while (points.length < POINTS) {
      const { code, stdout } = await world.tryBackup('--freeze-deadline', '10');
      if (code === 0) points.push(lastResult<LiveResult>(stdout));
      else if (errorOf(stdout).code === 'device-changed') refusals += 1;
      else return t.fail(stdout);
    }
    t.false(writer.isOver());
    await writer.kill();
    t.log(`${points.length} points, ${refusals} times there was none`);
    for (const { point } of points) {
      t.is(point.kind, 'crash');
      const generations = await generationsIn(await world.restored(t, point.sequence), BLOCKS, STRIDE_BYTES);
      t.true(isOneInstant(generations), generations.join(' '));
    }
  },
);

testWith(
  LIVE_REQUIREMENTS,
  'what a program has written into the page cache of a device is in its point',
  async (t) => {
    const world = await LiveWorld.make(t, { sizeBytes: SIZE });
    await trackNow(world.disk.place, false);
    await world.backup(t);
    // It stays open, so the kernel sees no reason to write it soon.
    const file = await open(world.disk.device, 'r+');
    await file.write(Buffer.alloc(10_000, 'in the cache'), 0, undefined, 3 * MiB + 77);
    const { point } = await world.backup(t);
    const missing = await world.missing(t, point.sequence);
    run('blockdev', '--flushbufs', world.disk.device);
    t.deepEqual([...missing, ...(await world.missing(t, point.sequence))], []);
    await file.close();
    await world.backupAndCompare(t, 'closed');
  },
);

testWith(
  [...SLOW, ...programs('fio')],
  'a device that changes faster than it can be read: the rates, the freeze it would take, or fuzzy',
  async (t) => {
    const world = await slowWorld(t, 'fast', 60);
    await world.backup(t);
    const writer = writeWithoutRest(t, world.disk.device);
    const result = await world.tryBackup('--freeze-deadline', '0.05');
    const { code, reason, remedy } = errorOf(result.stdout);
    t.is(code, 'device-in-use', result.stdout);
    t.regex(
      reason ?? '',
      /[\d.]+ MB\/s have to be read again, [\d.]+ MB\/s can be read, .* freeze would take \d+ ms/,
    );
    for (const way of ['--freeze-deadline', '--fuzzy', 'inspect']) t.true(remedy?.includes(way), remedy);

    const { point, warnings } = await world.backup(t, '--fuzzy', '--freeze-deadline', '10');
    await nothingIsLeft(t, world);
    t.is(point.kind, 'fuzzy');
    t.log(warnings);
    await end(writer);
    await world.backupAndCompare(t, 'when it rests');
  },
);
