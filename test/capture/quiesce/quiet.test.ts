import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import {
  type Clock,
  counterWatch,
  type QuietWatch,
  quietBySamples,
  waitUntilQuiet,
} from '../../../src/capture/quiesce/quiet.js';
import { deviceNumber } from '../../../src/devices/system/in-use.js';
import { isStillpointError } from '../../../src/domain/base/errors.js';
import { attachLoop, run, temporaryDirectory } from '../../helpers/disks/loop-device.js';
import { testWith } from '../../helpers/requirements.js';

/** A device with writes at these times, and a clock that only moves when somebody sleeps. */
function scene(writesAtMs: readonly number[]): {
  clock: Clock;
  watch: QuietWatch;
  nowMs: () => number;
} {
  let nowMs = 0;
  const clock: Clock = {
    now: () => nowMs,
    sleep: async (durationMs, signal) => {
      signal?.throwIfAborted();
      nowMs += durationMs;
    },
  };
  const sample = async (): Promise<number> => writesAtMs.filter((atMs) => atMs <= nowMs).length;
  const watch = quietBySamples<number>({ sample, wrote: (before, after) => before !== after }, clock);
  return { nowMs: () => nowMs, clock, watch };
}

test('a device without writes is quiet after the time that was asked for', async (t) => {
  const { clock, watch, nowMs } = scene([]);
  await waitUntilQuiet('/dev/x', [watch], { quietMs: 100, deadlineMs: 1_000 }, clock);
  t.is(nowMs(), 100);
  t.is(await watch.quietMs(), 100);
});

test('each write starts the time anew', async (t) => {
  const { clock, watch, nowMs } = scene([50, 130, 190]);
  await waitUntilQuiet('/dev/x', [watch], { quietMs: 100, deadlineMs: 1_000 }, clock);
  t.true(nowMs() >= 290 && nowMs() <= 320);
});

test('never quiet within the deadline', async (t) => {
  const { clock, watch, nowMs } = scene(Array.from({ length: 1_000 }, (_, i) => i * 90));
  const error = await t.throwsAsync(
    waitUntilQuiet('/dev/x', [watch], { quietMs: 100, deadlineMs: 500 }, clock),
  );
  t.true(isStillpointError(error, 'device-in-use'));
  t.false(isStillpointError(error) && error.permanent);
  t.is(error?.message.split('. ')[0], '/dev/x: it was never without a write for 100 ms within 500 ms');
  t.is(nowMs(), 500);
});

test('the proof afterwards: a write since it was quiet', async (t) => {
  const { clock, watch } = scene([150]);
  await waitUntilQuiet('/dev/x', [watch], { quietMs: 100, deadlineMs: 500 }, clock);
  t.is(await watch.quietMs(), 100);
  await clock.sleep(50);
  t.is(await watch.quietMs(), 0);
});

test('several devices: all at the same time', async (t) => {
  const one = scene([50]);
  const sample = async (): Promise<number> => [90, 180].filter((atMs) => atMs <= one.nowMs()).length;
  const other = quietBySamples<number>({ sample, wrote: (before, after) => before !== after }, one.clock);
  await waitUntilQuiet('two', [one.watch, other], { quietMs: 100, deadlineMs: 1_000 }, one.clock);
  t.true(one.nowMs() >= 280 && one.nowMs() <= 300);
});

test('cancelled', async (t) => {
  const { clock, watch } = scene([]);
  const options = { quietMs: 100, deadlineMs: 500, signal: AbortSignal.abort() };
  const error = await t.throwsAsync(waitUntilQuiet('/dev/x', [watch], options, clock));
  t.true(isStillpointError(error, 'cancelled'));
});

test('a device without counters', async (t) => {
  const error = await t.throwsAsync(counterWatch('/dev/x', '4095:1').sample());
  t.true(isStillpointError(error, 'device-io'));
});

testWith(['root', 'loop'], "a loop device: the kernel's counters", async (t) => {
  const image = join(await temporaryDirectory(t, 'quiet'), 'disk.img');
  run('truncate', '--size', '16M', image);
  const device = attachLoop(t, image);
  const file = await open(device, 'r+');
  const write = async (): Promise<void> => {
    await file.write(Buffer.alloc(4096, 1), 0, 4096, 0);
    await file.sync();
  };
  const { rdev } = await file.stat({ bigint: true });
  const watch = quietBySamples(counterWatch(device, deviceNumber(rdev)));
  await write();
  await waitUntilQuiet(device, [watch], { quietMs: 100, deadlineMs: 5_000 });
  t.true((await watch.quietMs()) >= 100);
  const before = performance.now();
  await write();
  const quietMs = await watch.quietMs();
  t.true(quietMs <= performance.now() - before, `${quietMs} ms`);
  let writing = true;
  const busy = (async () => {
    while (writing) {
      await write();
      await sleep(10);
    }
  })();
  await t.throwsAsync(waitUntilQuiet(device, [watch], { quietMs: 2_000, deadlineMs: 3_000 }), {
    message: /never without/,
  });
  writing = false;
  await busy;
  await file.close();
});
