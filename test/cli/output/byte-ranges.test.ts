import test from 'ava';
import { parseByteRanges } from '../../../src/cli/output/byte-ranges.js';
import { DEVICE_SIZE_MAX, GiB, KiB } from '../../../src/domain/base/limits.js';

test('ranges of bytes as people write them', (t) => {
  t.deepEqual(parseByteRanges('0-1G'), [[0, GiB]]);
  t.deepEqual(parseByteRanges(' 0-4096, 8K-1G ,10G-'), [
    [0, 4096],
    [8 * KiB, GiB],
    [10 * GiB, DEVICE_SIZE_MAX],
  ]);
  t.deepEqual(parseByteRanges('0-1,1-2'), [
    [0, 1],
    [1, 2],
  ]);
  t.is(parseByteRanges(Array.from({ length: 1000 }, (_, i) => `${i}-${i + 1}`).join()).length, 1000);
});

test('ranges that are none are refused, with what is wrong', (t) => {
  const refusals: [string, RegExp][] = [
    ['', /is not START-END/],
    ['5', /is not START-END/],
    ['-5', /is not START-END/],
    ['1-2-3', /is not START-END/],
    ['1-2,', /is not START-END/],
    ['5-5', /"5-5" is empty/],
    ['6-5', /is empty/],
    ['0x10-0x20', /./],
    ['1.5-2', /./],
    ['0-1Q', /./],
    ['0-5,4-6', /overlap or do not ascend/],
    ['5-,6-7', /overlap or do not ascend/],
    ['7-8,5-6', /overlap or do not ascend/],
    [Array.from({ length: 1001 }, (_, i) => `${i}-${i + 1}`).join(), /more than 1000/],
  ];
  for (const [text, message] of refusals) {
    t.throws(() => parseByteRanges(text), { message, code: 'usage' } as object, text.slice(0, 30));
  }
});
