/** A device of 16 TiB, nearly all holes: quick, and in memory that does not grow with the device. */
import { join } from 'node:path';
import { KiB, MiB, TiB } from '../../src/domain/base/limits.js';
import type { Point } from '../../src/domain/point/point.js';
import { makeStampedImage } from '../helpers/bytes/stamped-blocks.js';
import { readRange } from '../helpers/disks/images.js';
import { watchPeak } from '../helpers/machines/memory.js';
import { lastResult, makeMachine, outcome, restore, start } from '../helpers/machines/stillpoint.js';
import { testWith } from '../helpers/requirements.js';

const BLOCK = 64 * KiB;
/** ext4 ends one block before 16 TiB. */
const SIZE = 16 * TiB - 64 * KiB;
const MEMORY_MAX = 256 * MiB;

testWith([], '16 TiB, sparse: backup, backup, restore', async (t) => {
  const machine = await makeMachine(t, 'huge');
  const at = (name: string) => join(machine.directory, name);
  const blockIndexes = Array.from({ length: 300 }, (_, index) => Math.floor((index * SIZE) / BLOCK / 300));
  await makeStampedImage(at('source'), { sizeBytes: SIZE, blockSize: BLOCK, seed: 1, blockIndexes });

  for (const expectedBytes of [300 * BLOCK, 0]) {
    const started = Date.now();
    const child = start(machine, [
      'backup',
      at('source'),
      '--store',
      at('store'),
      '--name',
      'huge',
      '--json',
    ]);
    const peak = watchPeak(child.pid ?? 0);
    const result = await outcome(child);
    const peakBytes = await peak();
    t.is(result.code, 0, result.stderr);
    t.is(lastResult<{ point: Point }>(result.stdout).point.statistics.changedBytes, expectedBytes);
    t.true(peakBytes > 10 * MiB && peakBytes <= MEMORY_MAX, `${Math.round(peakBytes / MiB)} MiB of memory`);
    t.true(Date.now() - started < 60_000, `${Date.now() - started} ms`);
  }

  await restore(t, machine, at('store'), 'huge@latest', at('restored'));
  for (const blockIndex of blockIndexes) {
    const [got, expected] = [
      await readRange(at('restored'), blockIndex * BLOCK, BLOCK),
      await readRange(at('source'), blockIndex * BLOCK, BLOCK),
    ];
    if (!got.equals(expected)) t.fail(`block ${blockIndex} differs`);
  }
  t.pass();
});
