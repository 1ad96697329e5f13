/**
 * PostgreSQL with pgbench running, on ext4 over a tap: each point is restored, recovers, and its sums agree.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readFileSync } from 'node:fs';
import { chmod, chown, mkdir, rm, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../../src/domain/base/limits.js';
import type { Point } from '../../../src/domain/point/point.js';
import { checkFilesystem, makeFilesystem } from '../../helpers/disks/filesystem.js';
import { attachLoop, detachLoop, mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { attachTapDevice, TAP_DEVICE_NEEDS } from '../../helpers/disks/tap-device.js';
import { testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';
import { TapWorld } from '../../helpers/worlds/tap.js';

const POINTS = LONG ? 20 : 3;
const PROGRAMS = ['initdb', 'pg_ctl', 'psql', 'pgbench', 'runuser', 'mkfs.ext4', 'e2fsck'];

const asPostgres = (...args: string[]): string => run('runuser', '-u', 'postgres', '--', ...args);
const query = (sockets: string, sql: string): string =>
  asPostgres('psql', '-XAtq', '-h', sockets, '-d', 'postgres', '-c', sql).trim();

/** Beside the servers' programs, which packages link into the path only in part. */
const amcheck = (): string =>
  run('sh', '-c', 'readlink -f "$(command -v initdb)"')
    .trim()
    .replace(/initdb$/, 'pg_amcheck');

/** @returns what stops it; the end of the test does so too. */
function startServer(t: ExecutionContext, data: string, sockets: string): () => void {
  const options = `-k ${sockets} -c listen_addresses=`;
  try {
    asPostgres('pg_ctl', '-D', data, '-w', '-s', '-l', `${sockets}/log`, '-o', options, 'start');
  } catch (error) {
    throw new Error(readFileSync(`${sockets}/log`, 'utf8'), { cause: error });
  }
  let isRunning = true;
  const stop = () => {
    if (isRunning) asPostgres('pg_ctl', '-D', data, '-w', '-s', '-m', 'immediate', 'stop');
    isRunning = false;
  };
  t.teardown(stop);
  return stop;
}

async function postgresDirectory(path: string): Promise<string> {
  await mkdir(path, { recursive: true });
  const { uid, gid } = await stat('/var/lib/postgresql');
  await chown(path, uid, gid);
  return path;
}

/** Of one server: what pgbench keeps in step in each transaction, and how many it has committed. */
function sums(sockets: string): { readonly agree: boolean; readonly text: string; readonly commits: number } {
  const text = query(
    sockets,
    `SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
       (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history),
       (SELECT count(*) FROM pgbench_history)`,
  );
  const [accounts, tellers, branches, history, commits] = text.split('|');
  const agree = accounts === tellers && accounts === branches && accounts === history;
  return { agree, text, commits: Number(commits) };
}

testWith(
  [...TAP_DEVICE_NEEDS, ...PROGRAMS.map((program) => ({ program }))],
  'PostgreSQL over a tap, pgbench running: every point recovers, and its sums agree',
  async (t) => {
    t.timeout(20 * 60_000);
    const world = await TapWorld.make(t, 320 * MiB);
    await chmod(world.directory, 0o711);
    await world.start();
    const device = await attachTapDevice(t, world);
    makeFilesystem('ext4', device);
    const mountPoint = join(world.directory, 'mounted');
    await mount(t, device, mountPoint);
    const data = await postgresDirectory(join(mountPoint, 'data'));
    const sockets = await postgresDirectory(await temporaryDirectory(t, 'postgresql'));
    asPostgres('initdb', '-D', data, '-A', 'trust', '--wal-segsize=1');
    startServer(t, data, sockets);
    asPostgres('pgbench', '-h', sockets, '-i', '-q', '-s', '2', 'postgres');
    const bench = ['pgbench', '-h', sockets, '-n', '-c', '4', '-T', '600', 'postgres'];
    const client = spawn('runuser', ['-u', 'postgres', '--', ...bench], { stdio: 'ignore' });
    t.teardown(() => void client.kill('SIGKILL'));

    const made: { readonly point: Point; readonly before: number; readonly after: number }[] = [];
    const commits = () => Number(query(sockets, 'SELECT count(*) FROM pgbench_history'));
    while (commits() < 20) await sleep(50);
    for (let index = 0; index < POINTS; index += 1) {
      await sleep(500);
      const before = commits();
      const freeze = index % 2 === 1 ? [mountPoint] : ('none' as const);
      const { point, warnings } = await world.backup({ quiesce: { name: 'disk', hooks: [], freeze } });
      t.deepEqual([point.kind, warnings], [index % 2 === 1 ? 'filesystem' : 'crash', []]);
      made.push({ point, before, after: commits() });
    }
    client.kill('SIGTERM');
    await once(client, 'exit');
    for (const { point, before, after } of made) await recovers(t, world, point, before, after);
  },
);

async function recovers(
  t: ExecutionContext,
  world: TapWorld,
  point: Point,
  before: number,
  after: number,
): Promise<void> {
  const label = `point ${point.sequence}`;
  const restored = attachLoop(t, await world.restore(point));
  const mountPoint = join(world.directory, 'restored');
  const unmount = await mount(t, restored, mountPoint);
  const data = join(mountPoint, 'data');
  // The process that it names runs, on this machine: it is the original.
  await rm(join(data, 'postmaster.pid'));
  const sockets = await postgresDirectory(await temporaryDirectory(t, 'postgresql'));
  const stop = startServer(t, data, sockets);
  const found = sums(sockets);
  t.true(found.agree, `${label}: ${found.text}`);
  t.true(
    found.commits >= before && found.commits <= after,
    `${label}: ${before} <= ${found.commits} <= ${after}`,
  );
  if (existsSync(amcheck())) {
    query(sockets, 'CREATE EXTENSION amcheck');
    t.is(asPostgres(amcheck(), '-h', sockets, '--heapallindexed', 'postgres').trim(), '', label);
  } else {
    t.log(`${amcheck()} is not there: left out`);
  }
  stop();
  unmount();
  checkFilesystem('ext4', restored);
  detachLoop(restored);
}
