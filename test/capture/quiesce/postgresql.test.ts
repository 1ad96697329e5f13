/**
 * The example hook with a real PostgreSQL: an instant under load is restored, recovers, and
 * has every commit before it.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmod, chown, copyFile, mkdir, rm, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import type { ExecutionContext } from 'ava';
import { startHook } from '../../../src/capture/quiesce/hooks.js';
import { freezable } from '../../helpers/disks/freezable.js';
import { attachLoop, mount, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { testWith } from '../../helpers/requirements.js';
import { quiesce } from '../../helpers/worlds/quiesce.js';

const HOOK = fileURLToPath(new URL('../../../../../packaging/hooks/postgresql', import.meta.url));
const MiB = 1024 * 1024;

const asPostgres = (...args: string[]): string => run('runuser', '-u', 'postgres', '--', ...args);
const query = (sockets: string, sql: string): string =>
  asPostgres('psql', '-XAtq', '-h', sockets, '-d', 'postgres', '-c', sql).trim();

/** Starts a server over a data directory, and stops it when the test ends. */
function startServer(t: ExecutionContext, data: string, sockets: string): void {
  const options = `-k ${sockets} -c listen_addresses=`;
  asPostgres('pg_ctl', '-D', data, '-w', '-s', '-l', `${sockets}/log`, '-o', options, 'start');
  t.teardown(() => void asPostgres('pg_ctl', '-D', data, '-w', '-s', '-m', 'immediate', 'stop'));
}

async function socketDirectory(t: ExecutionContext): Promise<string> {
  const directory = await temporaryDirectory(t, 'postgresql');
  const { uid, gid } = await stat('/var/lib/postgresql');
  await chown(directory, uid, gid);
  return directory;
}

async function makeCluster(t: ExecutionContext) {
  const disk = await freezable(t, 'ext4', { sizeBytes: 256 * MiB });
  await chmod(dirname(disk.mountPoint), 0o711);
  const data = join(disk.mountPoint, 'data');
  await mkdir(data);
  const sockets = await socketDirectory(t);
  const { uid, gid } = await stat(sockets);
  await chown(data, uid, gid);
  asPostgres('initdb', '-D', data, '-A', 'trust', '--no-sync', '--wal-segsize=1');
  startServer(t, data, sockets);
  process.env.PGHOST = sockets;
  return { ...disk, data, sockets };
}

/** Commits one row after the other until it is killed. */
function startClient(sockets: string): ChildProcess {
  const sql = 'INSERT INTO numbers SELECT coalesce(max(n), 0) + 1 FROM numbers \\watch 0.001\n';
  const child = spawn('runuser', ['-u', 'postgres', '--', 'psql', '-Xq', '-h', sockets, '-d', 'postgres'], {
    stdio: ['pipe', 'ignore', 'ignore'],
  });
  child.stdin?.end(sql);
  return child;
}

testWith(
  ['root', 'loop', { program: 'initdb' }, { program: 'pg_ctl' }, { program: 'psql' }, { program: 'runuser' }],
  'the hook for PostgreSQL: checked, checkpointed, recovered',
  async (t) => {
    const { device, image, sockets } = await makeCluster(t);
    query(sockets, 'CREATE TABLE numbers (n integer PRIMARY KEY)');
    const client = startClient(sockets);
    t.teardown(() => void client.kill('SIGKILL'));
    const count = (at: string): number => Number(query(at, 'SELECT count(*) FROM numbers'));
    while (count(sockets) < 20) await sleep(50);

    const copy = join(dirname(sockets), `${sockets.split('/').at(-1)}-copy.img`);
    t.teardown(() => run('rm', '--force', copy));
    let before = 0;
    const options = { device, name: 'db', hooks: [HOOK], freeze: 'auto' as const };
    const { kind, warnings } = await quiesce(options, async () => {
      // A read needs no write, so that it is answered even now: these commits must all
      // be there after a restore.
      before = count(sockets);
      await copyFile(image, copy);
    });
    t.deepEqual([kind, warnings], ['application', []]);
    client.kill();
    await once(client, 'exit');
    const after = count(sockets);
    t.true(after >= before && before >= 20);

    const restored = await temporaryDirectory(t, 'postgresql');
    await chmod(restored, 0o711);
    await mount(t, attachLoop(t, copy), join(restored, 'mnt'));
    // The process that it names runs, on this machine: it is the original.
    await rm(join(restored, 'mnt', 'data', 'postmaster.pid'));
    const others = await socketDirectory(t);
    startServer(t, join(restored, 'mnt', 'data'), others);
    const [rows, highest] = query(others, 'SELECT count(*), max(n) FROM numbers').split('|').map(Number);
    t.is(rows, highest, 'no gap');
    t.true(Number(rows) >= before && Number(rows) <= after, `${before} <= ${rows} <= ${after}`);

    query(sockets, 'ALTER SYSTEM SET full_page_writes = off');
    query(sockets, 'SELECT pg_reload_conf()');
    while (query(sockets, 'SHOW full_page_writes') === 'on') await sleep(20);
    await t.throwsAsync(startHook(HOOK, { device, name: 'db', deadlineMs: 10_000 }), {
      message: /postgresql: full_page_writes is off/,
    });

    process.env.PGHOST = restored;
    const error = await t.throwsAsync(startHook(HOOK, { device, name: 'db', deadlineMs: 10_000 }), {
      message: /connection to server/,
    });
    t.notRegex(error?.message ?? '', / is off/);
  },
);
