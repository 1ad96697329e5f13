/** Agent and receiver, two processes and TLS between them, are killed at random moments, often both. */
import { randomBytes } from 'node:crypto';
import { open, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { EXIT_NO_ACCESS, EXIT_OK } from '../../src/cli/output/exit-codes.js';
import { KiB, MiB } from '../../src/domain/base/limits.js';
import { copyImage, difference } from '../helpers/disks/images.js';
import { enroll, killReceiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import {
  backup,
  makeMachine,
  outcome,
  points,
  restore,
  runHere,
  start,
} from '../helpers/machines/stillpoint.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const BLOCK = 64 * KiB;
const SIZE = 48 * MiB;

test('killed at random moments', async (t) => {
  t.timeout(60 * 60_000);
  const random = seededRandom(t);
  const receiver = await startReceiver(t);
  const machine = await makeMachine(t, 'mortal');
  await enroll(t, receiver, machine, 'mortal');
  const at = (name: string) => join(machine.directory, name);
  const file = await open(at('source'), 'w+');
  t.teardown(() => file.close().catch(() => undefined));
  for (let index = 0; index < SIZE; index += 8 * MiB) await file.write(randomBytes(8 * MiB));
  await file.close();

  let committed = 0;
  let killed = 0;
  for (let round = 1; round <= (LONG ? 100 : 6); round += 1) {
    const source = await open(at('source'), 'r+');
    for (let count = 0; count < 40; count += 1) {
      await source.write(randomBytes(4 * BLOCK), 0, undefined, random.below(SIZE - 4 * BLOCK));
    }
    await source.close();

    // A process needs some time until it does anything.
    const child = start(machine, ['backup', at('source'), '--name', 'disk']);
    const ended = outcome(child);
    await sleep(250 + random.below(900));
    const victims = random.pick(['agent', 'receiver', 'both'] as const);
    if (victims !== 'agent') await killReceiver(receiver);
    if (victims !== 'receiver') child.kill('SIGKILL');
    if (receiver.process === null) await serve(receiver);
    const result = await ended;
    killed += result.signal === 'SIGKILL' ? 1 : 0;
    // Without a receiver at its start an agent says so; later it outlives it.
    if (victims === 'receiver') t.true([EXIT_OK, EXIT_NO_ACCESS].includes(result.code ?? -1), result.stderr);

    const listed = await points(t, machine, null);
    t.true(
      listed.length === committed || listed.length === committed + 1,
      `${listed.length} points after ${committed}`,
    );
    if (result.code === 0) t.is(listed.length, committed + 1);
    committed = listed.length;
    const next = await backup(t, machine, null, at('source'), '--name', 'disk');
    committed += 1;
    t.is(next.sequence, committed);
    copyImage(at('source'), at('copy'));
    await rm(at('restored'), { force: true });
    await restore(t, machine, null, 'disk@latest', at('restored'), '--verify');
    t.is(difference(at('restored'), at('copy')), null, `round ${round}`);
  }
  t.log(`${committed} points, ${killed} agents killed`);
  const verified = await runHere(machine, 'verify');
  t.is(verified.code, 0, verified.stdout + verified.stderr);
});

test('a restore killed half-way leaves nothing that looks whole', async (t) => {
  const random = seededRandom(t);
  const machine = await makeMachine(t, 'half');
  const at = (name: string) => join(machine.directory, name);
  const file = await open(at('source'), 'w');
  for (let index = 0; index < 2 * SIZE; index += 8 * MiB) await file.write(randomBytes(8 * MiB));
  await file.close();
  await backup(t, machine, at('store'), at('source'), '--name', 'disk');
  for (let round = 0; round < (LONG ? 30 : 4); round += 1) {
    await rm(at('restored'), { force: true });
    const child = start(machine, ['restore', 'disk@latest', at('restored'), '--store', at('store')]);
    const ended = outcome(child);
    await sleep(200 + random.below(500));
    child.kill('SIGKILL');
    const result = await ended;
    const whole = await open(at('restored')).then(
      async (target) => {
        await target.close();
        return true;
      },
      () => false,
    );
    // The name appears with the whole content, or not at all.
    if (whole) t.is(difference(at('restored'), at('source')), null, `exit ${result.code ?? result.signal}`);
    await rm(at('restored'), { force: true });
    await restore(t, machine, at('store'), 'disk@latest', at('restored'));
    t.is(difference(at('restored'), at('source')), null);
  }
});
