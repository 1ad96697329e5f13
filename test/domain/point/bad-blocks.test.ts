import test from 'ava';
import fc from 'fast-check';
import { filler, makeWhole, mergeBadRanges } from '../../../src/domain/point/bad-blocks.js';
import type { BadRange } from '../../../src/domain/point/point.js';

const SECTOR = 512;
const BLOCK = 16 * SECTOR;

test('filler names itself, is never zero, and depends on the place alone', (t) => {
  const bytes = filler(1024, SECTOR);
  t.is(bytes.length, SECTOR);
  t.true(bytes.every((byte) => byte !== 0));
  const text = Buffer.from(bytes).toString('latin1');
  t.true(text.startsWith('stillpoint: unreadable, not data: byte 0000000000001024'));
  t.deepEqual(filler(0, 2048).subarray(1024, 1024 + SECTOR), bytes);
});

test('without a base point all bad ranges become filler', (t) => {
  const badRanges = [{ byteOffset: BLOCK + SECTOR, byteLength: SECTOR }];
  const whole = makeWhole({
    byteOffset: BLOCK,
    bytes: new Uint8Array(BLOCK).fill(7),
    badRanges,
    previous: null,
    previousBadRanges: [],
  });
  t.deepEqual(whole.badRanges, [{ ...badRanges[0], content: 'filler' }] as BadRange[]);
  t.deepEqual(whole.bytes.subarray(SECTOR, 2 * SECTOR), filler(BLOCK + SECTOR, SECTOR));
  t.true(whole.bytes.subarray(0, SECTOR).every((byte) => byte === 7));
  t.true(whole.bytes.subarray(2 * SECTOR).every((byte) => byte === 7));
});

const sectors = fc.uniqueArray(fc.nat({ max: 15 }), { maxLength: 16 });
const content = fc.constantFrom<BadRange['content']>('previous', 'filler');

test('each byte is what was read, or else good old content, or else filler; ranges say which', (t) => {
  fc.assert(
    fc.property(sectors, sectors, content, fc.nat({ max: 5 }), (bad, oldBad, oldContent, blockIndex) => {
      const byteOffset = blockIndex * BLOCK;
      const toRanges = (list: number[]) =>
        [...list]
          .sort((a, b) => a - b)
          .map((s) => ({ byteOffset: byteOffset + s * SECTOR, byteLength: SECTOR }));
      const whole = makeWhole({
        byteOffset,
        bytes: new Uint8Array(BLOCK).fill(1),
        badRanges: toRanges(bad),
        previous: new Uint8Array(BLOCK).fill(2),
        previousBadRanges: toRanges(oldBad).map((range) => ({ ...range, content: oldContent })),
      });
      for (let sector = 0; sector < 16; sector += 1) {
        const at = sector * SECTOR;
        const bytes = whole.bytes.subarray(at, at + SECTOR);
        const range = whole.badRanges.find((r) => r.byteOffset === byteOffset + at);
        if (!bad.includes(sector)) {
          t.true(bytes.every((byte) => byte === 1));
        } else if (oldContent === 'filler' && oldBad.includes(sector)) {
          t.deepEqual(bytes, filler(byteOffset + at, SECTOR));
          t.is(range?.content, 'filler');
        } else {
          t.true(bytes.every((byte) => byte === 2));
          t.is(range?.content, 'previous');
        }
      }
      const merged = mergeBadRanges(whole.badRanges);
      t.is(
        merged.reduce((sum, range) => sum + range.byteLength, 0),
        bad.length * SECTOR,
      );
    }),
  );
});

test('neighbours of one content are joined', (t) => {
  const range = (sector: number, kind: BadRange['content']): BadRange => ({
    byteOffset: sector * SECTOR,
    byteLength: SECTOR,
    content: kind,
  });
  t.deepEqual(
    mergeBadRanges([range(0, 'filler'), range(1, 'filler'), range(2, 'previous'), range(4, 'previous')]),
    [
      { byteOffset: 0, byteLength: 2 * SECTOR, content: 'filler' },
      range(2, 'previous'),
      range(4, 'previous'),
    ],
  );
});
