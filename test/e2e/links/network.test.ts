/** Several agents at one receiver, links and receivers that die, and clients that send too much. */

import { randomBytes } from 'node:crypto';
import { open, readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { BATCH_RAW_BYTES_TARGET, BATCH_WINDOW, KiB, MiB } from '../../../src/domain/base/limits.js';
import { makeStampedImage, writeStamped } from '../../helpers/bytes/stamped-blocks.js';
import { difference } from '../../helpers/disks/images.js';
import { watchPeak } from '../../helpers/machines/memory.js';
import { enroll, killReceiver, serve, startReceiver } from '../../helpers/machines/receiver.js';
import {
  backup,
  makeMachine,
  outcome,
  points,
  restore,
  run,
  start,
} from '../../helpers/machines/stillpoint.js';
import { testWith } from '../../helpers/requirements.js';

const BLOCK = 64 * KiB;
const SIZE = 192 * MiB;

testWith([], 'four agents at once, each with its own devices, none with another’s', async (t) => {
  const receiver = await startReceiver(t);
  const agents = await Promise.all(
    [1, 2, 3, 4].map(async (number) => {
      const machine = await makeMachine(t, `agent-${number}`);
      await enroll(t, receiver, machine, `agent-${number}`);
      const source = join(machine.directory, 'source');
      await makeStampedImage(source, {
        sizeBytes: 16 * MiB + number * 512,
        blockSize: BLOCK,
        seed: number,
        blockIndexes: Array.from({ length: 256 }, (_, index) => index),
      });
      return { number, machine, source };
    }),
  );
  for (const generation of [1, 2, 3]) {
    const made = await Promise.all(
      agents.map(({ machine, source }) => backup(t, machine, null, source, '--name', 'disk')),
    );
    t.deepEqual(
      made.map((point) => point.sequence),
      [generation, generation, generation, generation],
    );
    for (const { number, source } of agents) {
      const file = await open(source, 'r+');
      await writeStamped(file, { seed: number, blockIndex: generation * number, generation }, BLOCK);
      await file.close();
    }
  }
  await Promise.all(
    agents.map(async ({ number, machine, source }) => {
      await backup(t, machine, null, source, '--name', 'disk');
      const listed = await points(t, machine, null);
      t.deepEqual(
        listed.map((point) => point.agent),
        Array(4).fill(`agent-${number}`),
      );
      const target = join(machine.directory, 'restored');
      await restore(t, machine, null, 'disk@latest', target, '--verify');
      t.is(difference(target, source), null);
    }),
  );
  // Who has the receiver's directory needs no agent to get its points back.
  await killReceiver(receiver);
  const [last] = agents;
  if (last === undefined) throw new Error('agents');
  const keeper = await makeMachine(t, 'keeper');
  const from = ['--store', receiver.store, '--agent', 'agent-1'];
  const direct = join(keeper.directory, 'direct');
  t.is((await run(keeper, 'restore', 'disk@latest', direct, ...from)).code, 0);
  t.is(difference(direct, last.source), null);
  t.is((await run(keeper, 'verify', 'disk@1', ...from)).code, 0);
  await serve(receiver);
  // A point's id is no key to another agent's data.
  const [one, two] = agents;
  if (one === undefined || two === undefined) throw new Error('agents');
  const [foreign] = await points(t, one.machine, null);
  const stolen = await run(two.machine, 'restore', foreign?.id ?? '', join(two.machine.directory, 'stolen'));
  t.not(stolen.code, 0);
  t.regex(stolen.stderr, new RegExp(foreign?.id.slice(0, 8) ?? ''));
});

testWith([], 'a receiver that dies and comes back in the middle costs nothing but time', async (t) => {
  const receiver = await startReceiver(t);
  const machine = await makeMachine(t, 'patient');
  await enroll(t, receiver, machine, 'patient');
  const source = join(machine.directory, 'source');
  const file = await open(source, 'w');
  for (let index = 0; index < SIZE; index += 8 * MiB) await file.write(randomBytes(8 * MiB));
  await file.close();
  const child = start(machine, ['backup', source, '--name', 'disk']);
  const ended = outcome(child);
  while ((await readdir(join(receiver.store, 'capture')).catch(() => [])).length === 0) await sleep(5);
  for (const delayMs of [50, 300]) {
    await sleep(delayMs);
    await killReceiver(receiver);
    await serve(receiver);
  }
  const result = await ended;
  t.is(result.code, 0, result.stderr);
  // Sent again is only what was on its way: twice a window of batches.
  const [point] = await points(t, machine, null);
  const wireBytes = point?.statistics.wireBytes ?? 0;
  t.true(wireBytes < SIZE + 2 * (BATCH_WINDOW + 1) * BATCH_RAW_BYTES_TARGET + MiB, `${wireBytes} wire bytes`);
  await restore(t, machine, null, 'disk@latest', join(machine.directory, 'restored'), '--verify');
  t.is(difference(join(machine.directory, 'restored'), source), null);
});

testWith([], 'twelve agents that send all at once do not grow the receiver beyond its bounds', async (t) => {
  const receiver = await startReceiver(t);
  const agents = await Promise.all(
    Array.from({ length: 12 }, async (_, number) => {
      const machine = await makeMachine(t, `crowd-${number}`);
      await enroll(t, receiver, machine, `crowd-${number}`);
      const source = join(machine.directory, 'source');
      const file = await open(source, 'w');
      for (let index = 0; index < 4; index += 1) await file.write(randomBytes(8 * MiB));
      await file.close();
      return { machine, source };
    }),
  );
  const peak = watchPeak(receiver.process?.pid ?? 0);
  const results = await Promise.all(
    agents.map(({ machine, source }) => outcome(start(machine, ['backup', source, '--name', 'disk']))),
  );
  const peakBytes = await peak();
  for (const result of results) t.is(result.code, 0, result.stderr);
  t.true(peakBytes < 640 * MiB, `${Math.round(peakBytes / MiB)} MiB of memory`);
});

testWith([], 'two backups of one device at once: no point too many, and the refusal says why', async (t) => {
  const receiver = await startReceiver(t);
  const machine = await makeMachine(t, 'twice');
  await enroll(t, receiver, machine, 'twice');
  const source = join(machine.directory, 'source');
  const blockIndexes = Array.from({ length: 512 }, (_, index) => index);
  await makeStampedImage(source, { sizeBytes: 32 * MiB, blockSize: BLOCK, seed: 1, blockIndexes });
  const results = await Promise.all([1, 2, 3].map(() => run(machine, 'backup', source, '--name', 'disk')));
  const done = results.filter((result) => result.code === 0);
  t.true(done.length >= 1);
  t.is((await points(t, machine, null)).length, done.length);
  for (const result of results) if (result.code !== 0) t.regex(result.stderr, /disk.*running/s);
  await restore(t, machine, null, 'disk@latest', join(machine.directory, 'restored'));
  t.is(difference(join(machine.directory, 'restored'), source), null);
});

testWith([], 'a directory that a receiver serves is refused to others meanwhile', async (t) => {
  const receiver = await startReceiver(t);
  const machine = await makeMachine(t, 'locked');
  const source = join(machine.directory, 'source');
  await makeStampedImage(source, { sizeBytes: MiB, blockSize: BLOCK, seed: 1, blockIndexes: [1] });
  const refused = await run(machine, 'backup', source, '--store', receiver.store);
  t.is(refused.code, 1);
  t.true(refused.stderr.includes(receiver.store));
  t.regex(refused.stderr, new RegExp(`process ${receiver.process?.pid}`));
  await killReceiver(receiver);
  await backup(t, machine, receiver.store, source);
});
