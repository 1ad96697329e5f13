/** A receiver reads its store back by itself, and gives way to commands. */
import { setTimeout as sleep } from 'node:timers/promises';
import test, { type ExecutionContext } from 'ava';
import type { Logger } from 'pino';
import { RECORD_KIND_BLOCK } from '../../../src/native/index.js';
import { Scrubbing, type ScrubbingOptions } from '../../../src/receiver/upkeep/scrubbing.js';
import { PLAIN } from '../../helpers/bytes/digests.js';
import { flipRecords } from '../../helpers/faults/pack-damage.js';
import { CollectWorld, EMPTY } from '../../helpers/worlds/collect.js';
import { backUp, change, stampedBlock } from '../../helpers/worlds/store-device.js';

const DAY_MS = 86_400_000;

interface Scene {
  readonly world: CollectWorld;
  readonly lines: string[];
  start(options?: Partial<ScrubbingOptions>): Scrubbing;
}

async function makeScene(t: ExecutionContext): Promise<Scene> {
  const world = await CollectWorld.make(t);
  const blocks = Array.from({ length: 20 }, (_, i) => [i, 100 + i] as const);
  await backUp(world.store, 'disk', null, change(EMPTY, blocks));
  const lines: string[] = [];
  const say = (level: string) => (line: object, text: string) => {
    lines.push(`${level} ${text} ${JSON.stringify(line)}`);
  };
  const log = {
    error: say('error'),
    warn: say('warn'),
    info: say('info'),
    debug: say('debug'),
  } as unknown as Logger;
  const start = (options: Partial<ScrubbingOptions> = {}) => {
    const scrubbing = new Scrubbing({
      ...{ store: world.store, log, now: () => new Date(world.nowMs), periodMs: 30 * DAY_MS, intervalMs: 5 },
      ...options,
    });
    t.teardown(() => scrubbing.close());
    return scrubbing;
  };
  return { world, lines, start };
}

async function until(condition: () => boolean | Promise<boolean>): Promise<void> {
  while (!(await condition())) await sleep(5);
}

test('slice by slice all is read back, and not again before it is time', async (t) => {
  const { world, start, lines } = await makeScene(t);
  const scrubbing = start();
  await until(async () => {
    world.nowMs += DAY_MS / 10;
    return (await scrubbing.status()).neverCheckedPacks === 0;
  });
  t.true(lines.some((line) => /^debug scrub slice ended/.test(line)));
  const { lastCheckedAt, nextSliceAt, packCount, totalBytes } = await scrubbing.status();
  t.true(packCount > 3 && totalBytes > 0 && nextSliceAt !== null);
  const count = lines.length;
  await until(() => lines.length > count + 3);
  t.is((await scrubbing.status()).lastCheckedAt, lastCheckedAt, 'nothing waits');
  world.nowMs += 16 * DAY_MS;
  await until(async () => (await scrubbing.status()).lastCheckedAt !== lastCheckedAt);
  await scrubbing.close();
  const ended = lines.length;
  await sleep(30);
  t.is(lines.length, ended);
});

test('damage is logged with its points, and told by the status; none is scheduled if it is off', async (t) => {
  const { world, start, lines } = await makeScene(t);
  await flipRecords(world.dir, RECORD_KIND_BLOCK, PLAIN.leafDigest(stampedBlock(105, 4096)));
  const off = start({ periodMs: null });
  t.is((await off.status()).nextSliceAt, null);
  const scrubbing = start();
  await until(() => {
    world.nowMs += DAY_MS;
    return lines.some((line) => /^error damage found .*alpha\/disk@1/.test(line));
  });
  await until(() => lines.some((line) => /^error the store has damage .*alpha\/disk@1/.test(line)));
  t.like((await scrubbing.status()).damage, { openCount: 1, pointCount: 1, points: ['alpha/disk@1'] });
});

test('a command stops the slice that runs, and is refused beside another', async (t) => {
  const { world, start } = await makeScene(t);
  const scrubbing = start({ rate: { windows: [], otherwise: 1 } });
  await until(async () => {
    world.nowMs += DAY_MS;
    return (await scrubbing.status()).isRunning;
  });
  const events = scrubbing.run({});
  t.is((await events.next()).value?.type, 'progress');
  await t.throwsAsync(scrubbing.run({}).next(), { code: 'busy' });
  let last = '';
  for await (const { type } of events) last = type;
  t.is(last, 'summary');
  t.is((await scrubbing.status()).neverCheckedPacks, 0);
  const stopped = scrubbing.run({ rate: { windows: [], otherwise: 1 } });
  await stopped.next();
  const next = t.throwsAsync(stopped.next(), { code: 'cancelled' });
  await scrubbing.close();
  await next;
});
