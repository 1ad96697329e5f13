/**
 * What commands write into a configuration, and what goes over into it, killed at durable steps: nothing is
 * lost, nothing is there twice, and no file is left that can't be read.
 */
import { cp, mkdir, readdir, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import test from 'ava';
import { z } from 'zod';
import { writeStateFile } from '../../src/config/state-file.js';
import { listSteps, runFaulty } from '../helpers/faults/at-step.js';
import { IN_MEMORY, lastResult, type Machine, makeMachine, runHere } from '../helpers/machines/stillpoint.js';
import { LONG, seededRandom } from '../helpers/seed.js';

const SAMPLE = 4;
const OFFER = {
  ...{ provider: 'tap', blockSize: 4096, compressionLevel: 'auto', patch: 'auto', limitRate: null },
  ...{ fuzzy: false, hooks: [], freeze: 'auto', freezeDeadlineMs: 2000, hookDeadlineMs: null, quiet: null },
  addedAt: '2026-01-01T00:00:00.000Z',
};

/** Kills the command at steps, each time from the same state. */
async function killedAt(
  machine: Machine,
  args: readonly string[],
  steps: (numbers: number[]) => number[],
  check: (step: string) => Promise<void>,
): Promise<void> {
  const fresh = join(machine.directory, 'fresh');
  await cp(machine.stateDirectory, fresh, { recursive: true });
  const names = await listSteps(machine, args);
  for (const at of steps(names.map((_, index) => index + 1))) {
    await rm(machine.stateDirectory, { recursive: true });
    await cp(fresh, machine.stateDirectory, { recursive: true });
    await runFaulty(machine, { fault: 'kill', at }, args);
    await check(`step ${at} (${names[at - 1]})`);
  }
}

async function devices(machine: Machine): Promise<string[]> {
  const { stdout } = await runHere(machine, 'agent', 'list', '--json');
  const { offers } = lastResult<{ offers: { name: string; provider: string; freezeDeadlineMs: number }[] }>(
    stdout,
  );
  return offers.map(({ name, provider, freezeDeadlineMs }) => `${name} ${provider} ${freezeDeadlineMs}`);
}

test('devices: those of a former version, and a new one', async (t) => {
  const random = seededRandom(t);
  const some = (numbers: number[]) => (LONG ? numbers : random.sample(numbers, SAMPLE));
  const machine = await makeMachine(t, 'config-steps', IN_MEMORY);
  const offers = join(machine.stateDirectory, 'offers');
  await mkdir(offers, { recursive: true });
  for (const name of ['a', 'b'])
    await writeStateFile(
      join(offers, `${name}.json`),
      { format: 'stillpoint-offer', version: 1, schema: z.any() },
      { ...OFFER, name, path: `/dev/${name}` },
    );
  await killedAt(machine, ['agent', 'list'], some, async (step) => {
    t.deepEqual(await devices(machine), ['a tap 2000', 'b tap 2000'], step);
    t.deepEqual(await readdir(offers), [], step);
  });
  await rm(join(machine.directory, 'fresh'), { recursive: true });
  const image = join(machine.directory, 'image');
  await writeFile(image, 'x');
  const add = ['agent', 'add', image, '--name', 'c'];
  await killedAt(machine, add, some, async (step) => {
    const listed = await devices(machine);
    t.true(listed.length === 2 || listed.length === 3, step);
    const again = await runHere(machine, ...add);
    t.is(again.code === 0, listed.length === 2, `${step}: ${again.stderr}`);
    t.is((await devices(machine)).length, 3, step);
  });
});
