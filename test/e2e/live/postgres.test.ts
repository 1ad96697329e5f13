/**
 * PostgreSQL under load, backed up live: each restored file system is clean, and the server starts on it,
 * finds nothing wrong, and has every transaction whole. An ordinary run takes two backups on ext4, a long one
 * (STILLPOINT_TEST_LONG) 50 in a row on each file system.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, existsSync, readdirSync } from 'node:fs';
import { chown, mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import type { ExecutionContext } from 'ava';
import { MiB } from '../../../src/domain/base/limits.js';
import {
  checkFilesystem,
  FILESYSTEM_PROGRAMS,
  FILESYSTEMS,
  type Filesystem,
  makeFilesystem,
} from '../../helpers/disks/filesystem.js';
import { attachLoop, detachLoop, mount, run } from '../../helpers/disks/loop-device.js';
import { LIVE_REQUIREMENTS, LiveWorld } from '../../helpers/live/world.js';
import { programs, testWith } from '../../helpers/requirements.js';
import { LONG } from '../../helpers/seed.js';

const SIZE_BYTES = 640 * MiB;
const BACKUPS = LONG ? 50 : 2;
const CHECKED_EVERY = 10;
/** Of nobody: the server does not run as root. */
const USER = 65_534;
const VERSIONS = '/usr/lib/postgresql';
const BIN = binaries();

function binaries(): string | null {
  const versions = existsSync(VERSIONS) ? readdirSync(VERSIONS) : [];
  return versions.map((version) => join(VERSIONS, version, 'bin')).find((path) => existsSync(path)) ?? null;
}

const asUser = (program: string, ...args: string[]): [string, string[]] => [
  'setpriv',
  [`--reuid=${USER}`, `--regid=${USER}`, '--clear-groups', join(BIN ?? '', program), ...args],
];

function tell(program: string, ...args: string[]): string {
  const [command, all] = asUser(program, ...args);
  return run(command, ...all);
}

class Server {
  readonly #process: ChildProcess;
  readonly #directory: string;

  private constructor(process: ChildProcess, directory: string) {
    this.#process = process;
    this.#directory = directory;
  }

  /** @param directory has the data, and its socket */
  static async start(t: ExecutionContext, directory: string): Promise<Server> {
    const settings = [
      'shared_buffers=32MB',
      'max_wal_size=64MB',
      'checkpoint_timeout=30s',
      'listen_addresses=',
    ];
    const [command, args] = asUser(
      'postgres',
      ...['-D', join(directory, 'data'), '-k', directory],
      ...settings.flatMap((setting) => ['-c', setting]),
    );
    const server = new Server(spawn(command, args, { stdio: 'ignore' }), directory);
    t.teardown(() => server.stop());
    for (let tries = 0; tries < 300; tries += 1) {
      try {
        tell('pg_isready', '-q', ...server.connection);
        return server;
      } catch {
        await sleep(100);
      }
    }
    throw new Error('the server does not answer');
  }

  get connection(): string[] {
    return ['-h', this.#directory, '-U', 'bench'];
  }

  query(sql: string): string {
    return tell('psql', ...this.connection, '-d', 'postgres', '-At', '-c', sql).trim();
  }

  async stop(): Promise<void> {
    if (this.#process.exitCode !== null || this.#process.signalCode !== null) return;
    this.#process.kill('SIGINT');
    await once(this.#process, 'close');
  }
}

/** What all transactions have changed is the same in each table. */
const BALANCES =
  'select (select sum(abalance) from pgbench_accounts) = (select sum(delta) from pgbench_history) and ' +
  '(select sum(tbalance) from pgbench_tellers) = (select sum(delta) from pgbench_history) and ' +
  '(select sum(bbalance) from pgbench_branches) = (select sum(delta) from pgbench_history), ' +
  '(select count(*) from pgbench_history)';

/** @returns how many transactions are in it. */
async function checkPoint(
  t: ExecutionContext,
  world: LiveWorld,
  filesystem: Filesystem,
  sequence: number,
): Promise<number> {
  const image = await world.restored(t, sequence);
  // The kernel takes a second btrfs with the same UUID for the first.
  if (filesystem === 'btrfs') run('btrfstune', '-f', '-m', image);
  const device = attachLoop(t, image);
  // The log of XFS is replayed by a mount alone.
  if (filesystem !== 'xfs') checkFilesystem(filesystem, device);
  const mountPoint = world.at('restored-mnt');
  const unmount = await mount(t, device, mountPoint, filesystem === 'xfs' ? 'nouuid' : 'defaults');
  // On this machine the process that they name is alive: that of the original.
  for (const lock of ['data/postmaster.pid', '.s.PGSQL.5432.lock', '.s.PGSQL.5432'])
    await rm(join(mountPoint, 'pg', lock), { force: true });
  const server = await Server.start(t, join(mountPoint, 'pg'));
  const [areBalanced, count] = server.query(BALANCES).split('|');
  t.is(areBalanced, 't', `point ${sequence}`);
  server.query('create extension if not exists amcheck');
  tell('pg_amcheck', ...server.connection, '-d', 'postgres', '--heapallindexed');
  await server.stop();
  unmount();
  if (filesystem === 'xfs') checkFilesystem(filesystem, device);
  detachLoop(device);
  return Number(count);
}

for (const filesystem of LONG ? FILESYSTEMS : (['ext4'] as const)) {
  testWith(
    [
      ...LIVE_REQUIREMENTS,
      { missing: BIN === null ? 'no PostgreSQL' : null },
      ...programs('setpriv', ...FILESYSTEM_PROGRAMS[filesystem]),
    ],
    `PostgreSQL under pgbench on ${filesystem}: ${BACKUPS} backups in a row, and what they restore to`,
    async (t) => {
      t.timeout(60 * 60_000);
      const world = await LiveWorld.make(t, { sizeBytes: SIZE_BYTES });
      makeFilesystem(filesystem, world.disk.device);
      chmodSync(world.machine.directory, 0o711);
      await mount(t, world.disk.device, world.at('mnt'));
      const directory = join(world.at('mnt'), 'pg');
      await mkdir(directory);
      await chown(directory, USER, USER);
      tell('initdb', '-D', join(directory, 'data'), '-U', 'bench', '--no-sync');
      const server = await Server.start(t, directory);
      tell('pgbench', ...server.connection, '-q', '-i', '-s', '2', 'postgres');
      const [command, args] = asUser(
        'pgbench',
        ...server.connection,
        '-n',
        '-c',
        '4',
        '-T',
        '3600',
        'postgres',
      );
      const load = spawn(command, args, { stdio: 'ignore' });
      t.teardown(() => load.kill('SIGKILL'));

      const frozenMs: number[] = [];
      let transactions = 0;
      for (let sequence = 1; sequence <= BACKUPS; sequence += 1) {
        const { point } = await world.backup(t);
        t.is(point.kind, 'filesystem');
        frozenMs.push(Number(point.providerFacts.frozenMs));
        if (sequence !== BACKUPS && sequence % CHECKED_EVERY !== 0) continue;
        const count = await checkPoint(t, world, filesystem, sequence);
        t.true(count > transactions, 'it was written to');
        transactions = count;
      }
      load.kill('SIGINT');
      await once(load, 'close');
      await server.stop();
      t.log(`${transactions} transactions; frozen for up to ${Math.max(...frozenMs)} ms`);
    },
  );
}
