/**
 * A receiver that serves over TLS is killed at a durable step while an agent backs up. It is started again,
 * the agent goes on by itself, and the backup succeeds: nothing of it is lost, nothing half-done is seen.
 */
import { open, readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test, { type ExecutionContext } from 'ava';
import { KiB } from '../../src/domain/base/limits.js';
import { makeStampedImage, writeStamped } from '../helpers/bytes/stamped-blocks.js';
import { listServeSteps, receiverEnd, serveWithFault } from '../helpers/faults/at-step.js';
import { enroll, killReceiver, type Receiver, serve, startReceiver } from '../helpers/machines/receiver.js';
import {
  backup,
  IN_MEMORY,
  type Machine,
  makeMachine,
  outcome,
  points,
  restore,
  runHere,
  start,
} from '../helpers/machines/stillpoint.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const BLOCK = 16 * KiB;
const BLOCKS = 70;

test('a receiver killed at any of its steps', async (t) => {
  t.timeout(30 * 60_000);
  const random = seededRandom(t);
  const receiver = await startReceiver(t, IN_MEMORY);
  const machine = await makeMachine(t, 'agent', IN_MEMORY);
  await enroll(t, receiver, machine, 'agent');
  const source = join(machine.directory, 'source');
  const all = Array.from({ length: BLOCKS }, (_, index) => index);
  await makeStampedImage(source, { sizeBytes: BLOCKS * BLOCK, blockSize: BLOCK, seed: 1, blockIndexes: all });
  const contents: Buffer[] = [];
  const change = async (generation: number) => {
    const file = await open(source, 'r+');
    for (const blockIndex of random.sample(all, 5)) {
      await writeStamped(file, { seed: 1, blockIndex, generation }, BLOCK);
    }
    await file.close();
    contents.push(await readFile(source));
  };
  const args = ['backup', source, '--name', 'disk', '--block-size', '16K'];

  await change(1);
  await killReceiver(receiver);
  const steps = await listServeSteps(receiver, async () => {
    await backup(t, machine, null, source, '--name', 'disk', '--block-size', '16K');
  });
  t.true(steps.length > 10, 'steps are counted');
  const numbers = steps.map((_, index) => index + 1);
  for (const at of LONG ? numbers : random.sample(numbers, 8)) {
    await change(at + 1);
    const label = `killed at step ${at} of ${steps.length}`;
    const serves = await serveWithFault(receiver, { fault: 'kill', at });
    const running = serves ? outcome(start(machine, args)) : null;
    if (running !== null) await Promise.race([receiverEnd(receiver), running]);
    await killReceiver(receiver);
    await serve(receiver);
    const result = await (running ?? outcome(start(machine, args)));
    t.is(result.code, 0, `${label}${serves ? '' : ', before it served'}: ${result.stderr}`);
    const listed = await points(t, machine, null);
    t.is(listed.length, contents.length, label);
    await restoresLast(t, machine, contents, label);
    await killReceiver(receiver);
  }
  await serve(receiver);
  for (const [index, content] of contents.entries()) {
    await rm(join(machine.directory, 'restored'), { force: true });
    await restore(t, machine, null, `disk@${index + 1}`, join(machine.directory, 'restored'));
    t.true((await readFile(join(machine.directory, 'restored'))).equals(content), `disk@${index + 1}`);
  }
  await verifyFindsNothing(t, machine, receiver);
});

async function restoresLast(
  t: ExecutionContext,
  machine: Machine,
  contents: readonly Buffer[],
  label: string,
): Promise<void> {
  const target = join(machine.directory, 'restored');
  await rm(target, { force: true });
  const result = await runHere(machine, 'restore', 'disk@latest', target);
  t.is(result.code, 0, `${label}: ${result.stderr}`);
  t.true(contents.at(-1)?.equals(await readFile(target)), `${label}: latest point`);
}

async function verifyFindsNothing(t: ExecutionContext, machine: Machine, receiver: Receiver): Promise<void> {
  const result = await runHere(machine, 'verify');
  t.is(result.code, 0, result.stdout + result.stderr + receiver.log);
}
