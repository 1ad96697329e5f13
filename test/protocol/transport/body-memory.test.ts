import test from 'ava';
import { BATCH_BYTES_MAX, MiB } from '../../../src/domain/base/limits.js';
import { BodyMemory } from '../../../src/protocol/transport/body-memory.js';

test('a body is as long as asked, and counted as large as its memory', (t) => {
  const memory = new BodyMemory();
  for (const length of [0, 1, 1000, MiB / 2 - 1, MiB / 2, MiB, MiB + 1, 5 * MiB, BATCH_BYTES_MAX]) {
    const body = memory.take(length);
    t.is(body.length, length);
    t.is(body.buffer.byteLength, BodyMemory.sizeOf(length));
  }
  t.is(BodyMemory.sizeOf(BATCH_BYTES_MAX), BATCH_BYTES_MAX);
});

test('a large buffer is used again once it was given back, and by one body at a time', (t) => {
  const memory = new BodyMemory();
  const one = memory.take(3 * MiB);
  t.not(memory.take(3 * MiB).buffer, one.buffer);
  memory.giveBack(one);
  const two = memory.take(4 * MiB);
  t.is(two.buffer, one.buffer);
  t.is(two.length, 4 * MiB);
  t.not(memory.take(4 * MiB).buffer, one.buffer);
});

test('small buffers are not kept, and of large ones only so many', (t) => {
  const memory = new BodyMemory();
  const small = memory.take(1000);
  memory.giveBack(small);
  t.not(memory.take(1000).buffer, small.buffer);
  const large = [1, 2, 3].map(() => memory.take(BATCH_BYTES_MAX));
  for (const body of large) memory.giveBack(body);
  const again = [1, 2, 3].map(() => memory.take(BATCH_BYTES_MAX).buffer);
  t.is(large.filter(({ buffer }) => again.includes(buffer)).length, 2);
});
