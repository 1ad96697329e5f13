import { setTimeout as sleep } from 'node:timers/promises';
import test from 'ava';
import { InFlight } from '../../../src/agent/common/in-flight.js';

test('no more run at once than allowed, and all run', async (t) => {
  const inFlight = new InFlight(3);
  let running = 0;
  let highest = 0;
  let done = 0;
  for (let index = 0; index < 20; index += 1) {
    await inFlight.start(async () => {
      running += 1;
      highest = Math.max(highest, running);
      await sleep(index % 4);
      running -= 1;
      done += 1;
    });
  }
  await inFlight.drain();
  t.is(highest, 3);
  t.is(done, 20);
});

test('the first failure is told, and nothing starts after it', async (t) => {
  const inFlight = new InFlight(2);
  await inFlight.start(async () => {
    await sleep(1);
    throw new Error('first');
  });
  await inFlight.start(() => sleep(20));
  await t.throwsAsync(
    inFlight.start(async () => t.fail()),
    { message: 'first' },
  );
  await t.throwsAsync(inFlight.drain(), { message: 'first' });
  await inFlight.settle();
  t.is(inFlight.count, 0);
});

test('settled, it takes no more', async (t) => {
  const inFlight = new InFlight(1);
  await inFlight.start(() => sleep(5));
  const late = inFlight.start(async () => t.fail());
  await inFlight.settle();
  await t.throwsAsync(late);
});
