/** The meter of a link, and what is sent on a link of its speed. */
import test from 'ava';
import { BATCH_RAW_BYTES_TARGET, BATCH_WINDOW, KiB } from '../../../src/domain/base/limits.js';
import { LinkMeter } from '../../../src/domain/session/link-meter.js';
import { fetchingAt, levelFor, sendingAt } from '../../../src/domain/session/sending.js';

function metered(limit: () => number | null = () => null) {
  const clock = { ms: 1000 };
  const meter = new LinkMeter({ now: () => clock.ms, limit });
  return {
    meter,
    /** So many messages side by side, again and again. */
    carry(bytes: number, ms: number, sideBySide = 1): void {
      const ends = Array.from({ length: sideBySide }, () => meter.start());
      clock.ms += ms;
      for (const end of ends) end(bytes);
    },
    wait(ms: number): void {
      clock.ms += ms;
    },
  };
}

test('speed is what was acknowledged over the time in which something was on its way', (t) => {
  const { meter, carry, wait } = metered();
  t.like(meter.speed, { bytesPerSecond: null, isMeasured: false, roundTripMs: null });
  t.is(meter.result, null);
  carry(7000, 1000);
  wait(60_000);
  carry(3500, 1000, 2);
  t.is(meter.speed.bytesPerSecond, 7000);
  t.true(meter.speed.isMeasured);
});

test('what overlaps is counted once', (t) => {
  const { meter, wait } = metered();
  const first = meter.start();
  wait(500);
  const second = meter.start();
  wait(500);
  first(10_000);
  wait(1000);
  second(10_000);
  const speed = meter.speed.bytesPerSecond ?? 0;
  t.true(speed > 9900 && speed < 10_100, `${speed}`);
});

test('a link that changes is noticed within seconds; what failed counts for nothing', (t) => {
  const { meter, carry, wait } = metered();
  for (let times = 0; times < 100; times += 1) carry(7000, 1000);
  const failing = meter.start();
  wait(600_000);
  failing(null);
  t.is(Math.round(meter.speed.bytesPerSecond ?? 0), 7000);
  for (let times = 0; times < 20; times += 1) carry(1_000_000, 1000);
  t.true((meter.speed.bytesPerSecond ?? 0) > 900_000);
  for (let times = 0; times < 40; times += 1) carry(7000, 1000);
  t.true((meter.speed.bytesPerSecond ?? 0) < 10_000);
});

test('before the first acknowledgement: a hint, unless the round trip shows another link; else the handshake', (t) => {
  const { meter } = metered();
  meter.connected(600, 950);
  const guess = meter.speed.bytesPerSecond ?? 0;
  t.true(guess > 5000 && guess < 8000, `${guess}`);
  meter.suppose({ bytesPerSecond: 5e7, roundTripMs: 0.3 });
  t.is(meter.speed.bytesPerSecond, guess, 'that was a local network');
  meter.suppose({ bytesPerSecond: 50_000, roundTripMs: 500 });
  t.like(meter.speed, { isGuess: false, bytesPerSecond: 50_000, isMeasured: false, roundTripMs: 600 });
  t.is(meter.result, null, 'a hint is not remembered as if it were measured');
});

test('a handshake that was no slower than its round trip tells nothing', (t) => {
  const { meter } = metered();
  meter.connected(1600, 950);
  t.is(meter.speed.bytesPerSecond, null);
});

test('a limit bounds what is known, and is known before anything; limited, nothing is remembered', (t) => {
  let limit: number | null = 7000;
  const { meter, carry } = metered(() => limit);
  t.like(meter.speed, { isGuess: false, bytesPerSecond: 7000, isMeasured: false, roundTripMs: null });
  carry(50_000, 1000);
  t.is(meter.speed.bytesPerSecond, 7000);
  t.is(meter.result, null);
  limit = null;
  t.is(meter.speed.bytesPerSecond, 50_000);
  t.deepEqual(meter.result, { bytesPerSecond: 50_000, roundTripMs: null });
});

const measured = (bytesPerSecond: number, roundTripMs = 1) => ({
  bytesPerSecond,
  isMeasured: true,
  isGuess: false,
  roundTripMs,
});

const UNSURE = { isMeasured: false, isGuess: false, roundTripMs: 1 };

test('a few bytes that a disk was slow to take say nothing of the link', (t) => {
  const { meter, carry } = metered();
  carry(3000, 15);
  t.is(meter.speed.bytesPerSecond, null);
  t.is(meter.result, null);
  carry(2_000_000, 15);
  t.true((meter.speed.bytesPerSecond ?? 0) > 1e7);
  const slow = metered();
  slow.carry(3000, 600);
  t.is(slow.meter.speed.bytesPerSecond, 5000);
});

test('a guess holds no batch back', (t) => {
  const guess = sendingAt({ ...UNSURE, bytesPerSecond: 50_000, isGuess: true }, 0.5);
  t.is(guess.msPerByte, 0);
  t.true(sendingAt({ ...UNSURE, bytesPerSecond: 50_000 }, 0.5).msPerByte > 0);
});

test('on a fast link all is as without a meter', (t) => {
  const whole = { rawBytes: BATCH_RAW_BYTES_TARGET, window: BATCH_WINDOW, msPerByte: 0 };
  for (const speed of [2e7, 1e8, 1e9])
    t.like(sendingAt(measured(speed), 0.5), { ...whole, compressionLevel: 1 });
});

test('what is on its way together takes two seconds, or a batch ten round trips', (t) => {
  const near = sendingAt(measured(200_000), 0.5);
  t.is((near.rawBytes * 0.5 * near.window) / 200_000, 2);
  const far = sendingAt(measured(7000, 600), 0.25);
  t.is(far.window, 2);
  t.is((far.rawBytes * 0.25) / 7000, 6);
  t.is(Math.round(far.msPerByte * 7000), 1000);
  t.is(far.overdueMs, 1700);
});

test('until something is acknowledged no more than a quarter of a MiB goes in one batch', (t) => {
  t.deepEqual(sendingAt({ ...UNSURE, bytesPerSecond: null, roundTripMs: null }, 0.5), {
    ...{ rawBytes: 256 * KiB, window: 1, msPerByte: 0, overdueMs: 0, compressionLevel: 1 },
  });
  t.is(sendingAt({ ...UNSURE, bytesPerSecond: 1e9 }, 0.5).rawBytes, 256 * KiB);
  t.true(sendingAt({ ...UNSURE, bytesPerSecond: 7000 }, 0.5).rawBytes < 64 * KiB);
  t.is(fetchingAt({ ...UNSURE, bytesPerSecond: null }).rawBytes, 256 * KiB);
});

test('the slower the link, the higher the level', (t) => {
  t.is(levelFor(null), 1);
  const levels = [7000, 300e3, 600e3, 1e6, 3e6, 1e8].map(levelFor);
  t.deepEqual(levels, [19, 16, 14, 6, 1, 1]);
});
