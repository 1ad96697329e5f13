import test from 'ava';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { KiB, MiB } from '../../../src/domain/base/limits.js';
import { parseRateLimit, rateAt, TokenBucket } from '../../../src/domain/session/rate-limit.js';

const at = (text: string, hour: number, minute = 0): number | null =>
  rateAt(parseRateLimit(text), new Date(2026, 2, 1, hour, minute, 30).getTime());

test('a rate is bytes a second, or bits as links are sold', (t) => {
  const rates: [string, number][] = [
    ['500000', 500_000],
    ['500K', 500 * KiB],
    ['10M', 10 * MiB],
    ['1.5MiB', 1.5 * MiB],
    ['56kbit', 7000],
    ['10Mbit', 1_250_000],
    ['1gbit', 125_000_000],
    ['500kB', 500 * KiB],
    [' 64000 bit ', 8000],
  ];
  for (const [text, rate] of rates) t.is(at(text, 12), rate, text);
});

test('a schedule is by local time; over midnight; the first window that fits; the rest of the day', (t) => {
  const text = '08:00-18:00=56kbit, 18:00-22:00=2M, 17:00-19:00=1M, 10M';
  t.is(at(text, 7, 59), 10 * MiB);
  t.is(at(text, 8), 7000);
  t.is(at(text, 17, 59), 7000);
  t.is(at(text, 18), 2 * MiB);
  t.is(at(text, 22), 10 * MiB);
  const night = '22:30-06:00=64K';
  t.is(at(night, 22, 29), null, 'no other entry: no limit');
  t.is(at(night, 22, 30), 64 * KiB);
  t.is(at(night, 0), 64 * KiB);
  t.is(at(night, 5, 59), 64 * KiB);
  t.is(at(night, 6), null);
  t.is(at('00:00-24:00=64K', 23, 59), 64 * KiB);
});

for (const text of [
  '',
  'fast',
  '0',
  '31kbit',
  '10Mb',
  '10mb',
  '3999',
  '-5M',
  '10M,08:00-18:00=1M',
  '8:00-18:00=1M',
  '08:00-24:01=1M',
  '25:00-08:00=1M',
  '08:00-08:00=1M',
  '08:00-18:00=',
  '08:00-18:00=1M=2M',
  '=1M',
  '1M,',
  Array(50).fill('08:00-18:00=1M').join(','),
]) {
  test(`refused as a rate: ${JSON.stringify(text.slice(0, 40))}`, (t) => {
    const error = t.throws(() => parseRateLimit(text));
    t.true(isStillpointError(error, 'usage'), error?.message);
  });
}

/** Takes pieces one after the other and waits as told. @returns ms until the last one was let through. */
function taking(
  bucket: TokenBucket,
  pieces: number,
  pieceBytes: number,
  rateOf: (ms: number) => number | null,
) {
  let now = 0;
  for (let piece = 0; piece < pieces; piece += 1) {
    for (let wait = -1; wait !== 0; now += wait) {
      wait = bucket.take(pieceBytes, now, rateOf(now));
      if (wait < 0 || wait > 1000) throw new Error(`a wait of ${wait} ms`);
    }
  }
  return now;
}

test('what is let through is the rate, whatever the pieces', (t) => {
  for (const pieceBytes of [100, 1000, 64_000]) {
    const ms = taking(new TokenBucket(0), 640_000 / pieceBytes, pieceBytes, () => 64_000);
    t.true(ms <= 10_000 && ms >= 10_000 - (pieceBytes / 64_000) * 1000 - 1, `${ms} ms with ${pieceBytes}`);
  }
});

test('a pause is no credit beyond a short burst', (t) => {
  const bucket = new TokenBucket(0);
  bucket.take(1, 0, 10_000);
  let burst = 0;
  while (bucket.take(100, 3_600_000, 10_000) === 0) burst += 100;
  t.is(burst, 1100, 'a tenth of a second, and the piece that it is in debt with');
});

test('a rate that changes is felt within a second, up and down', (t) => {
  const up = taking(new TokenBucket(0), 2, 1_000_000, (ms) => (ms < 5000 ? 4000 : null));
  t.true(up >= 5000 && up <= 6000, `${up}`);
  const faster = taking(new TokenBucket(0), 2, 100_000, (ms) => (ms < 5000 ? 4000 : 40_000));
  t.true(
    faster >= 5000 + 2000 && faster <= 5000 + 3000,
    `20,000 of the debt at the old rate, the rest at the new: ${faster}`,
  );
});
