/** What points need: the parts make the whole, and what is said to become free does. */
import test from 'ava';
import { openStoreForReading } from '../../../src/store/open.js';
import { PACK_FOOTER_BYTES, PACK_HEADER_BYTES } from '../../../src/store/packs/entries.js';
import type { Capture } from '../../../src/store/port/store.js';
import type { NeededBytes } from '../../../src/store/usage/needed.js';
import { CollectWorld, EMPTY, range, state } from '../../helpers/worlds/collect.js';
import { changesBetween, commitRequest, describe, sendChanges } from '../../helpers/worlds/store-device.js';

async function backUp(world: CollectWorld, agent: string, device: string, indexes: number[], seed: number) {
  const base = await world.store.baseFor({ agent, device });
  const description = { ...describe(device, EMPTY, base?.id ?? null), agent };
  const capture: Capture = await world.store.createCapture(description);
  const after = state(indexes, seed);
  const items =
    base === null
      ? changesBetween(null, after)
      : [...changesBetween(null, after), ...zeroed(await last(world, agent, device), after)];
  const batchCount = await sendChanges(
    capture,
    items.sort((a, b) => a.blockIndex - b.blockIndex),
  );
  states.set(`${agent}/${device}`, after);
  return capture.commit(commitRequest(after, batchCount));
}

const states = new Map<string, ReturnType<typeof state>>();
const last = async (_: CollectWorld, agent: string, device: string) =>
  states.get(`${agent}/${device}`) ?? EMPTY;
const zeroed = (before: ReturnType<typeof state>, after: ReturnType<typeof state>) =>
  changesBetween(before, after).filter((item) => 'zeroCount' in item);

async function measure(world: CollectWorld): Promise<{ needed: NeededBytes; packBytes: number }> {
  const reader = await openStoreForReading(world.dir);
  try {
    const { packBytes, packCount, manifestBytes, indexBytes, openBytes, freeBytes } = await reader.sizes();
    if (packCount === 0 || manifestBytes === 0 || indexBytes === 0 || freeBytes === 0 || openBytes !== 0)
      throw new Error('a size is missing');
    for await (const event of reader.needed()) {
      if (event.type === 'needed') return { needed: event, packBytes };
    }
    throw new Error('there is no answer');
  } finally {
    await reader.close();
  }
}

test('parts make the whole, beside the owner, and what is unique becomes free', async (t) => {
  const world = await CollectWorld.make(t);
  // Blocks 0 to 19 of all; 20 to 29 of both devices of alpha; the others each of one.
  await backUp(world, 'alpha', 'one', range(0, 40), 1000);
  await backUp(world, 'alpha', 'one', [...range(0, 30), ...range(70, 80)], 1000);
  await backUp(world, 'alpha', 'two', [...range(0, 30), ...range(40, 45)], 1000);
  await backUp(world, 'beta', 'three', [...range(0, 20), ...range(50, 70)], 1000);
  await backUp(world, 'gamma', 'empty', [], 0);
  const { needed, packBytes } = await measure(world);
  t.is(needed.scale, 1);
  t.is(needed.lostCount, 0);
  t.deepEqual(
    needed.devices.map(({ agent, device }) => `${agent}/${device}`),
    ['alpha/one', 'alpha/two', 'beta/three', 'gamma/empty'],
  );
  const sum = (parts: readonly { readonly bytes: number }[]) =>
    parts.reduce((total, { bytes }) => total + bytes, 0);
  t.is(sum([...needed.agents.map(({ unique }) => unique), needed.sharedByAgents]), needed.total.bytes);
  for (const { agent, unique, shared } of needed.agents) {
    const devices = needed.devices.filter((device) => device.agent === agent);
    t.is(unique.bytes, shared.bytes + sum(devices.map((device) => device.unique)), agent);
  }
  const [one, two, three, empty] = needed.devices.map(({ unique }) => unique.bytes);
  t.true((one ?? 0) > (three ?? 0) * 0.8 && (three ?? 0) > (two ?? 0) && (two ?? 0) > 0);
  t.is(empty, 0);
  t.true(needed.agents.every(({ agent, shared }) => (agent === 'alpha') === shared.bytes > 0));

  // All that is not needed are the ends of packs: nothing was given up yet.
  await world.store.collect({ force: true });
  const ends = PACK_HEADER_BYTES + PACK_FOOTER_BYTES;
  t.is(packBytes, needed.total.bytes + (await world.packs()).length * ends);

  const whole = (await world.packs()).length;
  await world.store.removeDevice({ agent: 'beta', device: 'three' }, 'a test removes it');
  world.nowMs += 3_600_000;
  const { freedBytes } = await world.store.collect({ force: true });
  const after = await measure(world);
  t.is(after.needed.total.bytes, needed.total.bytes - (three ?? 0), 'nobody else needed what was unique');
  t.is(packBytes - freedBytes, after.packBytes);
  const slack = (whole + 2) * ends + packBytes * 0.3;
  t.true(Math.abs(freedBytes - (three ?? 0)) <= slack, `${freedBytes} freed, ${three} said`);
});

test('a tree that can not be read is said, not passed over', async (t) => {
  const world = await CollectWorld.make(t);
  await backUp(world, 'alpha', 'one', range(0, 10), 1);
  await world.store.close();
  const { rm, readdir } = await import('node:fs/promises');
  const { join } = await import('node:path');
  for (const name of await world.packs()) await rm(join(world.dir, name));
  t.true((await readdir(join(world.dir, 'points'))).length > 0);
  const reader = await openStoreForReading(world.dir);
  let lostCount = 0;
  for await (const event of reader.needed()) if (event.type === 'needed') ({ lostCount } = event);
  await reader.close();
  t.true(lostCount > 0);
  await world.open();
});
