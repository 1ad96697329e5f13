import test from 'ava';
import fc from 'fast-check';
import { missingRoom, type RoomFacts } from '../../../src/domain/device/target-room.js';

const bytes = fc.nat(1_000_000);
const facts: fc.Arbitrary<RoomFacts> = fc.record({
  contentBytes: bytes,
  sizeBytes: bytes,
  allocatedBytes: bytes,
  freeBytes: fc.option(bytes),
  isDense: fc.boolean(),
});

test('what an image has already need not be free', (t) => {
  const base: RoomFacts = {
    contentBytes: 60,
    sizeBytes: 100,
    allocatedBytes: 20,
    freeBytes: 40,
    isDense: false,
  };
  t.is(missingRoom(base), 0);
  t.is(missingRoom({ ...base, freeBytes: 39 }), 1);
  t.is(missingRoom({ ...base, allocatedBytes: 200, freeBytes: 0 }), 0);
  t.is(missingRoom({ ...base, isDense: true }), 40);
  t.is(missingRoom({ ...base, freeBytes: null }), 0);
});

test('with what is missing there is room; and with less there is not', (t) => {
  fc.assert(
    fc.property(facts, (given) => {
      const missing = missingRoom(given);
      if (given.freeBytes === null) return missing === 0;
      if (missing === 0) return true;
      const more = (extra: number) => missingRoom({ ...given, freeBytes: (given.freeBytes ?? 0) + extra });
      return more(missing) === 0 && more(missing - 1) > 0;
    }),
  );
  t.pass();
});
