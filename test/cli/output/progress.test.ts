import test from 'ava';
import { ProgressMeter } from '../../../src/cli/output/progress.js';

const MiB = 1024 ** 2;

test('nothing is promised before anything is known', (t) => {
  const meter = new ProgressMeter('backup', 0);
  meter.update({ doneBytes: 0, totalBytes: 100 * MiB }, 1000);
  t.is(meter.rate, 0);
  t.is(meter.leftMs, null);
  t.is(meter.line(), 'backup: 0% 0 B of 100 MiB');
});

test('rate and time left', (t) => {
  const meter = new ProgressMeter('backup', 0);
  meter.update({ doneBytes: 25 * MiB, totalBytes: 100 * MiB, details: ['changed 3 MiB'] }, 1000);
  t.is(meter.rate, 25 * MiB);
  t.is(meter.leftMs, 3000);
  t.is(meter.line(), 'backup: 25% 25 MiB of 100 MiB, 25 MiB/s, changed 3 MiB, 3.0 s left');
  t.is(
    meter.bar(200),
    'backup [#####...............]  25%  25 MiB of 100 MiB  25 MiB/s  changed 3 MiB  3.0 s left',
  );
});

test('the rate follows the last seconds, not the whole run', (t) => {
  const meter = new ProgressMeter('backup', 0);
  // A hole of 90 MiB passes in the first second; then 1 MiB/s.
  meter.update({ doneBytes: 90 * MiB, totalBytes: 100 * MiB }, 1000);
  for (let second = 2; second <= 9; second += 1) {
    meter.update({ doneBytes: (89 + second) * MiB, totalBytes: 100 * MiB }, second * 1000);
  }
  t.is(meter.rate, MiB);
  t.is(meter.leftMs, 2000);
});

test('a bar fits the terminal', (t) => {
  const meter = new ProgressMeter('restore', 0);
  meter.update({ doneBytes: MiB, totalBytes: 2 * MiB }, 500);
  for (const width of [1, 2, 10, 40, 80]) t.true(meter.bar(width).length <= Math.max(1, width - 1));
});

test('an unknown total gives no percentage, and more than the total stays at 100%', (t) => {
  const unknown = new ProgressMeter('verify', 0);
  unknown.update({ doneBytes: MiB, totalBytes: 0 }, 1000);
  t.is(unknown.line(), 'verify: 1 MiB, 1 MiB/s');
  t.is(unknown.bar(80), 'verify  1 MiB  1 MiB/s');
  const beyond = new ProgressMeter('verify', 0);
  beyond.update({ doneBytes: 3 * MiB, totalBytes: 2 * MiB }, 1000);
  t.regex(beyond.bar(80), /\[#{20}\] 100%/);
});

test('a counter that goes back gives no negative rate', (t) => {
  const meter = new ProgressMeter('backup', 0);
  meter.update({ doneBytes: 10, totalBytes: 100 }, 1000);
  meter.update({ doneBytes: 5, totalBytes: 100 }, 7000);
  t.is(meter.rate, 0);
});
