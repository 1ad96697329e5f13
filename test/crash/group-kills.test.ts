/**
 * Agent and receiver of a group, two processes and TLS between them, are killed at random moments, often
 * both. Whatever is listed at any time is whole group points, and each is of one moment.
 */
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import { EXIT_NO_ACCESS, EXIT_OK } from '../../src/cli/output/exit-codes.js';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { groupPoints } from '../../src/domain/point/group.js';
import { copyImage, difference } from '../helpers/disks/images.js';
import { enroll, killReceiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import {
  type Machine,
  makeMachine,
  outcome,
  points,
  runHere,
  start,
} from '../helpers/machines/stillpoint.js';
import { LONG, seededRandom } from '../helpers/seed.js';
import { stampedBlock } from '../helpers/worlds/store-device.js';

const BLOCK = 64 * KiB;
const SIZE = 24 * MiB;
const MEMBERS = ['data', 'log', 'wal'] as const;

/** Blocks that say of which round they are. */
async function write(path: string, round: number, offsets: readonly number[]): Promise<void> {
  const file = await open(path, 'r+').catch(() => open(path, 'w+'));
  try {
    await file.truncate(SIZE);
    for (const offset of offsets) await file.write(stampedBlock(round, BLOCK), 0, BLOCK, offset * BLOCK);
  } finally {
    await file.close();
  }
}

/** @returns how many group points there are, and nothing else */
async function countWhole(t: ExecutionContext, machine: Machine, what: string): Promise<number> {
  const listed = await points(t, machine, null);
  const groups = groupPoints(listed);
  t.is(groups.length * MEMBERS.length, listed.length, `${what}: no part of a group point is listed`);
  t.deepEqual(
    groups.map(({ sequence }) => sequence),
    groups.map((_, at) => at + 1),
    what,
  );
  return groups.length;
}

test('a group whose agent or receiver is killed has whole points or none', async (t) => {
  t.timeout(60 * 60_000);
  const random = seededRandom(t);
  const receiver = await startReceiver(t);
  const machine = await makeMachine(t, 'mortal');
  await enroll(t, receiver, machine, 'mortal');
  const at = (name: string) => join(machine.directory, name);
  const command = ['backup', '--group', 'db', ...MEMBERS.map((name) => `${name}=${at(name)}`)];
  let committed = 0;
  let killed = 0;
  for (let round = 1; round <= (LONG ? 100 : 6); round += 1) {
    const offsets = () => Array.from({ length: 60 }, () => random.below(SIZE / BLOCK));
    for (const name of MEMBERS) await write(at(name), round, offsets());
    const child = start(machine, command);
    const ended = outcome(child);
    await sleep(300 + random.below(900));
    const victims = random.pick(['agent', 'receiver', 'both'] as const);
    if (victims !== 'agent') await killReceiver(receiver);
    if (victims !== 'receiver') child.kill('SIGKILL');
    if (receiver.process === null) await serve(receiver);
    const result = await ended;
    killed += result.signal === 'SIGKILL' ? 1 : 0;
    if (victims === 'receiver') t.true([EXIT_OK, EXIT_NO_ACCESS].includes(result.code ?? -1), result.stderr);

    const found = await countWhole(t, machine, `round ${round}`);
    t.true(found === committed || found === committed + 1, `${found} group points after ${committed}`);
    if (result.code === EXIT_OK) t.is(found, committed + 1);
    const next = await runHere(machine, ...command);
    t.is(next.code, EXIT_OK, next.stderr);
    committed = found + 1;
    t.is(await countWhole(t, machine, `round ${round}, again`), committed);
    for (const name of MEMBERS) {
      copyImage(at(name), at(`${name}.copy`));
      await rm(at(`${name}.restored`), { force: true });
    }
    const targets = MEMBERS.map((name) => `${name}=${at(`${name}.restored`)}`);
    const restored = await runHere(machine, 'restore', 'db@latest', ...targets);
    t.is(restored.code, EXIT_OK, restored.stderr);
    for (const name of MEMBERS)
      t.is(difference(at(`${name}.restored`), at(`${name}.copy`)), null, `round ${round}: ${name}`);
  }
  t.log(`${committed} group points, ${killed} agents killed`);
  const verified = await runHere(machine, 'verify');
  t.is(verified.code, EXIT_OK, verified.stdout + verified.stderr);
});
