import test from 'ava';
import { GiB, KiB, MiB, TiB } from '../../../src/domain/base/limits.js';
import { grainBytesFor } from '../../../src/domain/live/grain.js';

test('marks are as fine as a 64th of the memory allows', (t) => {
  t.is(grainBytesFor(MiB, GiB), 4 * KiB);
  t.is(grainBytesFor(TiB, 16 * GiB), 4 * KiB);
  t.is(grainBytesFor(TiB, 4 * GiB), 8 * KiB);
  t.is(grainBytesFor(16 * TiB, 16 * GiB), 32 * KiB);
});

test('a map is never larger than what the kernel takes, nor a grain than a block can be', (t) => {
  for (const sizeBytes of [1, 512, GiB + 512, 3 * TiB, 64 * TiB, 1024 * TiB])
    for (const memoryBytes of [64 * MiB, GiB, 64 * GiB, 4 * TiB]) {
      const grain = grainBytesFor(sizeBytes, memoryBytes);
      t.is(Math.log2(grain) % 1, 0);
      t.true(grain >= 4 * KiB && grain <= 4 * MiB);
      if (grain < 4 * MiB) t.true(sizeBytes / grain / 8 <= 256 * MiB);
    }
});
