/**
 * `receiver init` and `enroll` killed at every durable step: done again, they work, and nothing of the
 * first try is in the way.
 */
import { cp, rm } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { listSteps, runFaulty } from '../helpers/faults/at-step.js';
import { invite, startReceiver } from '../helpers/machines/receiver.js';
import { IN_MEMORY, makeMachine, runHere } from '../helpers/machines/stillpoint.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const SAMPLE = 10;

test('receiver init killed at a step', async (t) => {
  t.timeout(30 * 60_000);
  const machine = await makeMachine(t, 'init', IN_MEMORY);
  const store = join(machine.directory, 'store');
  const args = ['receiver', 'init', store];
  const steps = await listSteps(machine, args);
  const numbers = steps.map((_, index) => index + 1);
  for (const at of LONG ? numbers : seededRandom(t).sample(numbers, SAMPLE)) {
    // With what the machine knows of the store: else it would be missed.
    for (const path of [store, machine.stateDirectory]) await rm(path, { recursive: true, force: true });
    const killed = await runFaulty(machine, { fault: 'kill', at }, args);
    t.true(killed.signal === 'SIGKILL' || at > numbers.length - 3, `step ${at}: ${killed.stderr}`);
    const again = await runHere(machine, ...args);
    t.is(again.code, 0, `after a kill at step ${at} (${steps[at - 1]}): ${again.stderr}`);
    const invited = await runHere(machine, 'receiver', 'invite', 'host', '--store', store);
    t.is(invited.code, 0, invited.stderr);
  }
});

test('enroll killed at a step', async (t) => {
  t.timeout(30 * 60_000);
  const receiver = await startReceiver(t, IN_MEMORY);
  const machine = await makeMachine(t, 'enroll', IN_MEMORY);
  const enrollArgs = async (name: string) => ['enroll', receiver.url, await invite(t, receiver, name)];
  const fresh = join(machine.directory, 'fresh');
  await cp(machine.stateDirectory, fresh, { recursive: true });
  const steps = await listSteps(machine, await enrollArgs('first'));
  const numbers = steps.map((_, index) => index + 1);
  for (const at of LONG ? numbers : seededRandom(t).sample(numbers, SAMPLE)) {
    await rm(machine.stateDirectory, { recursive: true });
    await cp(fresh, machine.stateDirectory, { recursive: true });
    await runFaulty(machine, { fault: 'kill', at }, await enrollArgs(`agent-${at}`));
    // The code may be used up: the operator gives another one for the same name.
    const again = await runHere(machine, ...(await enrollArgs(`agent-${at}`)));
    t.is(again.code, 0, `after a kill at step ${at} (${steps[at - 1]}): ${again.stderr}`);
    const listed = await runHere(machine, 'points', '--json');
    t.is(listed.code, 0, listed.stdout);
  }
});
